"""A round: of the masks that stand a model, measured on frozen patients, which answers from now on if it is better.

PROJECT/rounds/N/manifest.json, labels/   what it learns from (`round_data`)
PROJECT/rounds/N/config.yaml, fit/        `medsam fit`, without its checkpoints once the round is over
PROJECT/rounds/N/model.safetensors        what came of it
PROJECT/rounds/N/compare.json             against the one that answered
PROJECT/evaluations/KEY/                  `medsam evaluate` by weights, frozen set and protocol: measured once
PROJECT/embeddings/                       of slices, for all rounds: an encoder that does not learn makes the same ones

The store knows what a round is told (settings) and each step that is finished, with its digest (events). So one that
was killed goes on with the step that it was in, which `fit` and `evaluate` continue where they were, and ends as it
would have. Steps: "data", "frozen", "model", "measured_before", "measured_after", "ended". What "ended" says is kept
for statistics: promoted, why, dice_before, dice_after, difference, ci95, p, patients, structures, weights; of one that
was given up only promoted and why.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from medsam import __version__
from medsam.annotation.commands import (
    RunCommand,
    check_ended,
    evaluate_words,
    find_config,
    fit_words,
    least_pixels,
    read_config,
    run_command,
)
from medsam.annotation.project import AnnotationProject
from medsam.annotation.promotion import Decision, as_details, decide
from medsam.annotation.round_data import MANIFEST, check_enough, write_frozen, write_training_data
from medsam.annotation.settings import RoundSettings
from medsam.data.manifest_json import read_manifest
from medsam.errors import InputError, counted
from medsam.files import write_text
from medsam.store.project_records import Round, StoredModel
from medsam.store.readers import Reader

# a command of a round that was killed ends after it, which takes a moment
_LOCK_WAIT_S = 10.0
MODEL = "model.safetensors"

Tell = Callable[[str], None]


@dataclass(frozen=True)
class RoundRequest:
    """How a round differs from the project's settings; None: as they are.

    config, steps, overrides: as `RoundSettings` has them. limit_test: measure on so many frozen scans only. force: a
    gain on too few patients for an interval is enough.
    """

    config: str | None = None
    steps: int | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)
    limit_test: int | None = None
    force: bool = False

    @property
    def says_something(self) -> bool:
        return self != RoundRequest()


def run_round(
    project: AnnotationProject,
    request: RoundRequest | None = None,
    tell: Tell = lambda text: None,
    *,
    by: Reader | None = None,
    run: RunCommand = run_command,
) -> dict[str, Any]:
    """A whole round, or what is left of one that was ended early. Returns what it ended with, and its number.

    tell: takes a line on how far it is. run: runs a command of medsam.
    Raises InputError where it cannot begin, where a step fails, and where another process works on a round.
    """
    request = request or RoundRequest()
    with _alone(project):
        this = under_way(project)
        if this is not None and request.says_something:
            raise InputError(
                f"Round {this.number} is under way and goes on as it began: leave the options out, or give it up with "
                "`annotate round --abandon`."
            )
        if this is None:
            this = _begin(project, request, by)
            tell(f"Round {this.number} begins: all masks up to number {this.last}")
        else:
            if this.settings.get("site", "") != project.store.site:
                raise InputError(
                    f"Round {this.number} is under way at another site, where its files are: let it end there, or give "
                    "it up with `annotate round --abandon`."
                )
            tell(f"Round {this.number} goes on")
        try:
            return {"round": this.number, **_Steps(project, this, tell, run, by).all()}
        except KeyboardInterrupt:
            tell(f"Round {this.number} is not over: `annotate round` goes on with it.")
            raise


def under_way(project: AnnotationProject) -> Round | None:
    """The round that has not ended."""
    return next((one for one in project.store.rounds() if "ended" not in one.events), None)


def abandon_round(project: AnnotationProject, tell: Tell = lambda text: None) -> int:
    """End the round that is under way without a model. Returns its number. Raises InputError where there is none."""
    with _alone(project):
        this = under_way(project)
        if this is None:
            raise InputError("No round is under way.")
        project.store.round_event(this.number, "ended", {"promoted": False, "why": "Given up."})
        tell(f"Round {this.number} is given up; its files stay in rounds/{this.number}")
    return this.number


def due(project: AnnotationProject, every: int | None = None) -> tuple[bool, str]:
    """Whether a round is to begin, or to go on, by itself; and why, in words. every: in place of the setting."""
    if (this := under_way(project)) is not None:
        return True, f"round {this.number} is not over"
    every = every if every is not None else project.settings.round.every
    if every is None:
        raise InputError("Say after how many new masks a round is due: `every`.", parameter="every")
    rounds = project.store.rounds()
    new = project.store.masks_since(rounds[-1].last if rounds else 0)
    return new >= every, f"{new} masks are new, and a round is due after {every}"


def answer_again(project: AnnotationProject, number: int | None = None, by: Reader | None = None) -> str:
    """Have an earlier model answer from now on: what it is, in words.

    number: of the round that it came from; 0: the one that the project began with; None: the one that answered when the
    present one was promoted. Raises InputError where there is none.
    """
    chain = [one for one in project.store.models() if one.kind in ("started", "promoted")]
    _, now = project.model()
    if number is None:
        chosen = _before(project.store.models(), now)
    else:
        found = [one for one in chain if (one.round or 0) == number]
        if not found:
            known = ", ".join(str(one.round or 0) for one in chain)
            raise InputError(f"No model of round {number} was ever promoted; there are: {known}.", parameter="back")
        chosen = found[-1]
    if chosen.round is not None and not (project.folder / chosen.path).is_file():
        raise InputError(f"The file of that model is gone: {chosen.path} in the project's folder.", parameter="back")
    details = {"instead_of": now.path}
    project.store.put_model("back", chosen.path, chosen.weights, number=chosen.round, by=by, details=details)
    return f"round {chosen.round}" if chosen.round else f"the model that the project began with, {chosen.path}"


def _before(models: Sequence[StoredModel], now: StoredModel) -> StoredModel:
    """What answered when a model was promoted, of all that ever did, in order."""
    place = next(place for place, one in enumerate(models) if one.path == now.path and one.kind != "back")
    if place == 0:
        raise InputError("The model that the project began with answers; there is none before it.")
    return models[place - 1]


@contextmanager
def _alone(project: AnnotationProject) -> Iterator[None]:
    (project.folder / "rounds").mkdir(exist_ok=True)
    try:
        with FileLock(project.folder / "rounds" / ".lock", timeout=_LOCK_WAIT_S):
            yield
    except Timeout as error:
        raise InputError("Another process works on a round of this project. Wait for it, or end it.") from error


def _begin(project: AnnotationProject, request: RoundRequest, by: Reader | None) -> Round:
    """A round in the store, which says all that its result depends on. Raises InputError where it cannot work."""
    from medsam.models.build import load_model
    from medsam.models.weights_file import weights_digest

    settings = project.settings
    wanted = replace(
        settings.round,
        config=request.config or settings.round.config,
        steps=settings.round.steps if request.steps is None else request.steps,
        overrides={**settings.round.overrides, **request.overrides},
    )
    if wanted.steps < 1:
        raise InputError(f"`steps` is a whole number from 1, not {wanted.steps}.", parameter="steps")
    check_enough(project)
    config = find_config(wanted.config)
    read_config(config)
    model, stored = project.model()
    told = {
        **asdict(wanted),
        "medsam": __version__,
        "site": project.store.site,
        "seed": settings.seed,
        "axis": settings.axis,
        "config": config,
        # what is there now: scans, structures and settings that come while it is under way are for the next one
        "scans": max(scan.id for scan in project.store.scans()),
        "labels": project.labels,
        "limit_test": request.limit_test,
        "force": request.force,
        "model": stored.path,
        "weights": weights_digest(load_model(model)),
    }
    return project.store.begin_round(told, by)


@dataclass
class _Steps:
    """What is left of a round."""

    project: AnnotationProject
    this: Round
    tell: Tell
    run: RunCommand
    by: Reader | None

    def all(self) -> Mapping[str, Any]:
        """Each step that is not done; what the last one says."""
        if self.told["medsam"] != __version__:
            raise InputError(
                f"Round {self.this.number} began with medsam {self.told['medsam']} and this is {__version__}, "
                "which may measure otherwise. Go on with that one, or give the round up: `annotate round --abandon`."
            )
        self.folder.mkdir(exist_ok=True)
        data = self._done("data", lambda: write_training_data(self.project, self.this, self.tell))
        frozen = self._done("frozen", lambda: write_frozen(self.project, self.this))
        self.tell(
            f"It learns from {_sentence(data['train'])}, is watched on {_sentence(data['val'])} and measured on "
            f"{_sentence(frozen)}"
        )
        self._done("model", lambda: self._fit(data))
        old, new = self.told["weights"], self._event("model")["weights"]
        before = self._done("measured_before", lambda: self._measure(self.told["model"], old, frozen))
        after = self._done("measured_after", lambda: self._measure(self._path, new, frozen) if new != old else before)
        return self._end(before, after)

    @property
    def folder(self) -> Path:
        return self.project.folder / "rounds" / str(self.this.number)

    @property
    def told(self) -> Mapping[str, Any]:
        return self.this.settings

    @property
    def _path(self) -> str:
        """Where its model is, in the project's folder."""
        return f"rounds/{self.this.number}/{MODEL}"

    def _source(self, model: str) -> str:
        """A known name, or a file: of the project's folder, or from elsewhere."""
        path = self.project.folder / model
        return str(path) if path.is_file() else model

    def _event(self, kind: str) -> Mapping[str, Any]:
        return self.this.events[kind][1]

    def _done(self, kind: str, make: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """What a step says, which is made now unless it was."""
        if kind not in self.this.events:
            self.project.store.round_event(self.this.number, kind, make())
            self.this = next(one for one in self.project.store.rounds() if one.number == self.this.number)
        return self._event(kind)

    def _fit(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Train, and keep what came of it with a card that tells of the round."""
        from medsam.models.checkpoint import model_of, read_checkpoint, save_checkpoint
        from medsam.models.weights_file import weights_digest

        made = self.folder / "fit" / MODEL
        if not made.is_file():  # written last
            write_text(self.folder / "config.yaml", self.told["config"])
            told = {**self.told, "structures": data["structures"], "validated": self._validated(data)}
            embeddings = self.project.folder / "embeddings"
            source = self._source(self.told["model"])
            words = fit_words(told, self.folder, self.folder / MANIFEST, embeddings, source)
            self.tell(f"Training for {self.told['steps']} steps{', from where it was' * ('last' in words)}")
            check_ended(self.run(words), "Training")
        checkpoint = read_checkpoint(made)
        model = model_of(checkpoint)
        of_round = {"project": self.project.asked.name, "round": self.this.number}
        counts = {side: dict(data[side]) for side in ("train", "val")}
        save_checkpoint(model, self.folder / MODEL, {**checkpoint.training, **of_round, "annotated": counts})
        return {"weights": weights_digest(model.eval())}

    def _validated(self, data: Mapping[str, Any]) -> bool:
        """Whether training can be watched: on the val side a structure has as many pixels as `fit` asks for."""
        # brings MONAI, which takes as long to import as the rest of a server
        from medsam.data.slices import index_slices

        if not data["val"]["scans"]:
            return False
        least = least_pixels(self.told)
        cases = read_manifest(self.folder / MANIFEST).in_split("val")
        if index_slices(cases, structures=data["structures"], axis=self.told["axis"], min_pixels=least).items:
            return True
        self.tell(
            f"No structure has {counted(least, 'pixel')} on a slice of the val side: training is not watched, and its "
            "last step is kept"
        )
        return False

    def _measure(self, model: str, weights: str, frozen: Mapping[str, Any]) -> dict[str, Any]:
        """Where a model's scores are, and their digest; measured unless they are there already."""
        protocol = {name: self.told[name] for name in ("prompt", "slices", "axis", "seed", "limit_test")}
        asked = [model, weights, frozen["digest"], protocol, __version__]
        key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
        out = self.project.folder / "evaluations" / key
        # written after all tables
        if not (out / "report.html").is_file():
            self.tell(f"Measuring {'the new model' if model == self._path else model}")
            manifest = self.project.folder / "frozen" / frozen["digest"] / MANIFEST
            words = evaluate_words(self.told, manifest, self._source(model), out, self.project.folder / "embeddings")
            check_ended(self.run(words), "Measuring")
        return {"folder": key, "metrics": hashlib.sha256((out / "metrics.csv").read_bytes()).hexdigest()}

    def _end(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> Mapping[str, Any]:
        """Decide, and have the better model answer."""
        weights = self._event("model")["weights"]
        decision, details = self._decide(before, after)
        promoted = [one for one in self.project.store.models() if one.round == self.this.number]
        if decision.promoted and not promoted:
            said = {"why": decision.why, "dice_before": details["dice_before"], "dice_after": details["dice_after"]}
            number = self.this.number
            self.project.store.put_model("promoted", self._path, weights, number=number, by=self.by, details=said)
        # to go on from; all else that is needed to make them again is in the store
        shutil.rmtree(self.folder / "fit" / "checkpoints", ignore_errors=True)
        ended = {"promoted": decision.promoted, "why": decision.why, **details, "weights": weights}
        self._done("ended", lambda: ended)
        self.tell(decision.why)
        return self._event("ended")

    def _decide(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Decision, dict[str, Any]]:
        from medsam.evaluation.compare import compare

        known = ("config", "steps", "overrides", "every", "prompt", "least", "worst", "slices")
        settings = RoundSettings(**{name: self.told[name] for name in known if name in self.told})
        if self._event("model")["weights"] == self.told["weights"]:
            return Decision(False, "Kept: the weights are what they were."), {"dice_before": None, "dice_after": None}
        answers = self.project.store.model()
        if answers is not None and answers.path not in (self.told["model"], self._path):
            why = f"Kept: since it began another model answers, {answers.path}, and it was not measured against that."
            return Decision(False, why), {"dice_before": None, "dice_after": None}
        folder = self.project.folder / "evaluations"
        comparison = compare(folder / before["folder"], folder / after["folder"], seed=int(self.told["seed"]))
        write_text(self.folder / "compare.json", json.dumps(comparison.as_dict(), indent=1) + "\n")
        return decide(comparison, settings, bool(self.told["force"])), as_details(comparison)


def _sentence(counts: Mapping[str, int]) -> str:
    drawn, labelled = counts["scans"] - counts["labelled"], counted(counts["labelled"], "labelled scan")
    if not drawn:
        return labelled if counts["labelled"] else "nothing"
    said = f"{counted(counts['masks'], 'mask')} on {counted(drawn, 'scan')}"
    return f"{said} and {labelled}" if counts["labelled"] else said
