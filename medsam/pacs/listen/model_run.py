"""A rule that runs our own model: loaded once, one thread for the device, whatever number of jobs there is."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medsam.errors import Cancelled, InputError
from medsam.files import write_text
from medsam.pacs.listen.config import EngineName
from medsam.pacs.listen.measurements import measured_on
from medsam.pacs.listen.rules import ModelRun, Rule

if TYPE_CHECKING:
    from medsam.geometry import Axis
    from medsam.inference.predictor import Predictor
    from medsam.inference.worker import Worker
    from medsam.prompts.prompt import Prompt
    from medsam.volume import Volume

REPORT = "report.json"


class Models:
    """The predictors that rules name. For all threads."""

    def __init__(self, rules: Sequence[Rule], device: str = "auto", engine: EngineName = "auto") -> None:
        self._device, self._engine = device, engine
        self._runs = [rule.action for rule in rules if isinstance(rule.action, ModelRun)]
        self._predictors: dict[str, Predictor] = {}
        self._worker: Worker | None = None

    def load(self) -> list[str]:
        """Load every model now: what is wrong with one is said before anything comes. Returns their names."""
        if not self._runs:
            return []
        from medsam.inference.predictor import Predictor
        from medsam.inference.worker import Worker

        self._worker = Worker(self._device)
        for model in dict.fromkeys(run.model for run in self._runs):
            self._predictors[model] = Predictor(model, self._device, engine=self._engine, worker=self._worker)
            self._predictors[model].warm_up()
        return [predictor.name for predictor in self._predictors.values()]

    def close(self) -> None:
        """End the worker's thread; what it runs is cancelled."""
        if self._worker is not None:
            self._worker.shutdown(timeout=10)

    def run(
        self,
        run: ModelRun,
        folder: Path,
        out: Path,
        measurements: Sequence[Path],
        *,
        timeout_s: float,
        stopped: Callable[[], bool],
    ) -> None:
        """Segment the series in `folder`; the result, and a report without its masks, go to `out`.

        measurements: files of the study that were drawn on it. Raises InputError for a series that is no scan,
        NoMeasurements, PromptError for prompts that do not fit it, InputError when it takes too long, and Cancelled.
        """
        from medsam.io.load import load_volume

        until = time.monotonic() + timeout_s

        def progress(done: int, total: int | None) -> None:
            if stopped():
                raise Cancelled
            if time.monotonic() > until:
                raise InputError(f"The model took longer than {timeout_s:g} s (`timeout_s` of its rule).")

        scan = load_volume(folder)
        prompts, axis, notes = _prompts(run, scan, measurements)
        progress(0, None)
        found = self._predictors[run.model].segment(
            scan, prompts, axis=axis, window=run.window, propagate=run.propagate, progress=progress
        )
        found.save(out / "result.dcm", format=run.format)
        report = {**found.to_dict(masks=False), "notes": [*notes, *found.notes]}
        write_text(out / REPORT, json.dumps(report, indent=1) + "\n")


def _prompts(run: ModelRun, scan: Volume, measurements: Sequence[Path]) -> tuple[list[Prompt], Axis | None, list[str]]:
    from medsam.prompts.files import read_prompt_file

    if run.prompts is None:
        return measured_on(scan, measurements)
    file = read_prompt_file(run.prompts, scan)
    prompts, notes = file.as_prompts()
    return prompts, file.axis, notes
