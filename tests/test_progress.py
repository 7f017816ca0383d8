"""What a log is told of long work; on a terminal rich draws."""

import io

import pytest

from medsam import progress
from medsam.progress import Lines, progress_bars, progress_lines, status


class Watch:
    """A clock that is set by hand, and what was written."""

    def __init__(self) -> None:
        self.now = 100.0
        self.written: list[str] = []

    def lines(self, *names: str, **first: float) -> Lines:
        return Lines(names, write=self.written.append, clock=lambda: self.now, **first)

    def passes(self, seconds: float, log: Lines) -> list[str]:
        """Go on, a second at a time, telling whenever it is due; what was written meanwhile."""
        before = len(self.written)
        for _ in range(round(seconds)):
            self.now += 1
            if log.wait == 0:
                log.write_due()
        return self.written[before:]


@pytest.fixture
def watch(monkeypatch) -> Watch:
    monkeypatch.setattr(progress, "_FIRST", 5.0)  # see conftest.py
    return Watch()


def test_short_work_stays_silent(watch):
    log = watch.lines("Slices")
    log.update("Slices", 3, 4)
    assert watch.passes(4, log) == []
    log.end()
    assert watch.written == []


def test_long_work_tells_at_its_start_every_thirty_seconds_and_at_its_end(watch):
    log = watch.lines("Slices")
    log.update("Slices", 0, 300)
    assert watch.passes(5, log) == ["Slices: 0 of 300; 5 s so far"]
    log.update("Slices", 60, 300)
    assert watch.passes(29, log) == []
    assert watch.passes(1, log) == ["Slices: 60 of 300; 35 s so far, about 2 min 20 s left"]
    assert watch.passes(60, log) == [
        "Slices: 60 of 300; 1 min 5 s so far, about 4 min 20 s left",
        "Slices: 60 of 300; 1 min 35 s so far, about 6 min 20 s left",
    ]
    log.update("Slices", 300, 300)
    watch.passes(10, log)
    log.end()
    assert watch.written[-1] == "Slices: 300 of 300; done in 1 min 45 s"


def test_parts_of_a_step_count_for_what_is_left(watch):
    log = watch.lines("Cases", "Slices")
    log.update("Cases", 1, 4)
    log.update("Slices", 10, 20)
    watch.passes(5, log)
    assert watch.passes(30, log) == ["Cases: 1 of 4, Slices: 10 of 20; 35 s so far, about 58 s left"]


def test_nothing_is_foretold_while_nobody_knows_how_much_there_is(watch):
    log = watch.lines("Steps")
    log.update("Steps", 7, None)
    assert watch.passes(5, log) == ["Steps: 7; 5 s so far"]


def test_what_is_known_to_take_its_time_is_told_at_once(watch):
    log = watch.lines("Preparing", first=0)
    assert log.wait == 0
    log.write_due()
    assert watch.passes(30, log) == ["Preparing; 30 s so far"]
    watch.passes(3690, log)
    log.end()
    assert (watch.written[0], watch.written[-1]) == ("Preparing", "Preparing; done in 1 h 2 min")


def test_lines_go_to_stderr_and_none_of_what_failed_says_it_is_done(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_FIRST", 0.0)
    with pytest.raises(ZeroDivisionError), status("Preparing"):
        raise ZeroDivisionError
    assert capsys.readouterr() == ("", "Preparing\n")
    with status("Preparing"):
        pass
    assert capsys.readouterr() == ("", "Preparing\nPreparing; done in 0 s\n")


def test_a_log_that_nobody_reads_any_more_stops_no_work(monkeypatch):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr("sys.stderr", closed)
    Lines(["Slices"], first=0).write_due()


def test_away_from_a_terminal_bars_are_lines_and_leave_no_thread_behind(capsys):
    import threading

    with progress_bars("Cases", "Slices") as (case_done, slice_done), progress_lines("Steps") as (step_done,):
        assert [thread.name for thread in threading.enumerate()].count("progress") == 2
        for callback in (case_done, slice_done, step_done):
            callback(1, 2)
    assert "progress" not in [thread.name for thread in threading.enumerate()]
    assert capsys.readouterr() == ("", "")
