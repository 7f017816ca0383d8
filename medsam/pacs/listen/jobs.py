"""One round of a series: which rule, what it made, whether that may be sent, and the record of it all."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from medsam.errors import Cancelled, InputError, MedSAMError, counted
from medsam.files import move, write_text
from medsam.pacs.listen.command import run_command
from medsam.pacs.listen.events import Events
from medsam.pacs.listen.measurements import NoMeasurements, measurements_of
from medsam.pacs.listen.model_run import Models
from medsam.pacs.listen.names import SeriesKey, short
from medsam.pacs.listen.results import check_results
from medsam.pacs.listen.rules import Command, Facts, ModelRun, Rule, first_match, read_facts
from medsam.pacs.listen.spool import Round, SeriesFolder, Spool, digest_of

OUTPUT = "command.log"


@dataclass(frozen=True)
class Jobs:
    """Works on series that are complete. For all threads; a series is only ever at work in one.

    stopped: whether the receiver ends.
    """

    spool: Spool
    rules: Sequence[Rule]
    models: Models
    events: Events
    stopped: Callable[[], bool]

    def work(self, key: SeriesKey) -> Round | None:
        """Do a round and record it. None when there is nothing new. Raises Cancelled, after which it is still to do."""
        series = self.spool.find(key)
        files, rounds = series.files(), series.rounds()
        digest = self.digest(series)
        if not files or (rounds and rounds[-1].digest == digest and not self.is_retried(series, rounds[-1])):
            return None
        number = rounds[-1].number + 1 if rounds else 1
        started = time.monotonic()
        found = Round(number, len(files), digest, "none")
        if rounds and rounds[-1].digest != digest:
            self._say(
                key, found, "late", "series {series}: more came after it was complete: round {round}, {instances}"
            )
        self._try(series, files, found)
        found.seconds, found.ended = round(time.monotonic() - started, 3), time.time()
        self._record(series, found)
        return found

    def _try(self, series: SeriesFolder, files: Sequence[Path], found: Round) -> None:
        """Do what the rule for a series says; how it ended goes into `found`. Raises Cancelled."""
        try:
            facts = read_facts(series.key, files)
            ours = self._is_ours(facts)
            rule = None if ours else first_match(self.rules, facts)
            if rule is None:
                found.message = "it is a result that was made here" if ours else "no rule for it"
                return
            found.rule = rule.name
            self._say(series.key, found, "job", "rule {rule} runs on series {series} ({instances})")
            self._run(series, files, facts, rule, found)
        except Cancelled:
            raise
        except NoMeasurements as error:
            found.message = str(error)
        except MedSAMError as error:
            found.state, found.message = "failed", str(error)
        except OSError as error:
            why = error.strerror or type(error).__name__
            found.state, found.message = "failed", f"the folder cannot be used: {why}"
        except Exception as error:  # a defect of ours must not take the receiver down, nor quote what it was about
            found.state, found.message = "failed", f"a defect in medsam: {type(error).__name__}"

    def digest(self, series: SeriesFolder) -> str:
        """Of all that a round of a series depends on: its instances and, where a rule asks for them, measurements."""
        files = series.files()
        return digest_of([*files, *self._measurements(series.key, files)])

    def is_due(self, series: SeriesFolder) -> bool:
        """Whether there is something that the last round did not know."""
        rounds = series.rounds()
        return not rounds or rounds[-1].digest != self.digest(series)

    def _measurements(self, key: SeriesKey, files: Sequence[Path]) -> list[Path]:
        if not self.wants_measurements:
            return []
        return measurements_of([path.stem for path in files], self.spool.study(key.study))

    @property
    def wants_measurements(self) -> bool:
        """Whether a rule asks for measurements that come with a study."""
        return any(isinstance(rule.action, ModelRun) and rule.action.prompts is None for rule in self.rules)

    def is_retried(self, series: SeriesFolder, last: Round) -> bool:
        """Whether a round failed and somebody has removed the file that says so."""
        return last.state == "failed" and not self.spool.failure(series.key).exists()

    def _run(self, series: SeriesFolder, files: Sequence[Path], facts: Facts, rule: Rule, found: Round) -> None:
        work = self.spool.work_folder()
        try:
            folder, out = work / "in", work / "out"
            folder.mkdir()
            out.mkdir()
            for path in files:
                _link(path, folder / path.name)
            try:
                self._act(rule, folder, out, series.key)
                results = check_results(out, facts)
                if rule.send_to is not None and not results:
                    raise InputError("The job left no SEG or RTSTRUCT that could be sent.")
            except (Cancelled, NoMeasurements):
                raise
            except MedSAMError:
                # whoever looks for the reason finds what there is
                self._keep(series, out, found.number)
                raise
            self._keep(series, out, found.number)
            found.state = "done"
            found.results = [
                {"file": one.path.relative_to(out).as_posix(), "instance": one.instance} for one in results
            ]
            if rule.send_to is not None:
                found.send = {"server": rule.send_to, "state": "waiting", "attempts": 0, "next": 0.0, "message": ""}
                if self.digest(series) != found.digest:
                    found.send["state"] = "obsolete"
                    found.message = "more instances came while it ran: the next round's result is sent instead"
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _act(self, rule: Rule, folder: Path, out: Path, key: SeriesKey) -> None:
        if isinstance(rule.action, Command):
            run_command(
                rule.action.filled(folder, out, key),
                out.parent,
                out / OUTPUT,
                timeout_s=rule.timeout_s,
                stopped=self.stopped,
                has_room=lambda: self.spool.has_room_for(out.parent),
            )
        else:
            measurements = self._measurements(key, list(folder.iterdir())) if rule.action.prompts is None else []
            self.models.run(rule.action, folder, out, measurements, timeout_s=rule.timeout_s, stopped=self.stopped)

    def _keep(self, series: SeriesFolder, out: Path, number: int) -> None:
        """Put what a job made where it stays, whether it ended well or not."""
        target = series.results(number)
        target.parent.mkdir(exist_ok=True)
        # of a round that was not recorded, since the receiver was killed
        self.spool.discard_folder(target)
        move(out, target)
        self.spool.count_folder(target)

    def _is_ours(self, facts: Facts) -> bool:
        """Whether a series is a result of ours that an archive forwards."""
        return any(
            one["instance"] in facts.instances
            for series in self.spool.study(facts.key.study)
            for made in series.rounds()
            for one in made.results
        )

    def _record(self, series: SeriesFolder, found: Round) -> None:
        failure = self.spool.failure(series.key)
        if found.state == "failed":
            write_failure(failure, series.key, found, found.message)
        else:
            failure.unlink(missing_ok=True)
        with self.spool.records:
            rounds = series.rounds()
            for earlier in rounds:
                # of two results of one series the reader should see the one of all its images
                if found.send is not None and earlier.send is not None and earlier.send["state"] == "waiting":
                    earlier.send["state"] = "obsolete"
            series.record([*rounds, found])
        text = {
            "none": "series {series}: {instances}, {message}; kept",
            "done": "series {series}: rule {rule} done in {seconds:.1f} s, {results}",
            "failed": "series {series}: FAILED after {seconds:.1f} s: {message}",
        }[found.state]
        if found.send is not None:
            text += ", to be sent to {server}" if found.send["state"] == "waiting" else "; not sent: {message}"
        self._say(series.key, found, f"job_{found.state}", text)

    def _say(self, key: SeriesKey, found: Round, event: str, text: str) -> None:
        self.events(
            event,
            text,
            series=short(key.series),
            study=short(key.study),
            round=found.number,
            instances=counted(found.instances, "instance"),
            rule=found.rule,
            seconds=found.seconds,
            results=counted(len(found.results), "result"),
            server=(found.send or {}).get("server"),
            message=found.message,
        )


def write_failure(path: Path, key: SeriesKey, found: Round, message: str) -> None:
    """The file of `failed`."""
    document = {
        "study": key.study,
        "series": key.series,
        "round": found.number,
        "rule": found.rule,
        "message": message,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    write_text(path, json.dumps(document, indent=1) + "\n")


def _link(source: Path, target: Path) -> None:
    """The same file under another name; a copy where the disk knows no links."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
