"""Many cases in one process and in several: the same results, and the same ways to end."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from case_works import Broken, Doubles

from medsam.errors import Cancelled, InputError
from medsam.inference.jobs import CaseResults, Workers, run_cases

both = pytest.mark.parametrize("processes", [1, 2])


def numbers(found: CaseResults) -> list:
    return [None if result is None else result[0] for result in found.results]


def test_a_bad_case_costs_only_itself_and_what_is_done_is_not_done_again(tmp_path):
    found = run_cases([1, -5, 2, 3], Doubles(tmp_path), is_done=lambda case: case == 2)
    assert numbers(found) == [2, None, None, 6]
    assert found.failures == {1: "-5 is negative."}
    with pytest.raises(InputError) as error:
        found.raise_failures(["a", "b", "c", "d"], "be doubled", "The others are.")
    assert str(error.value) == (
        "1 of 4 cases could not be doubled:\n  b: -5 is negative.\n"
        "  The others are. Fix these, or take them out of the manifest, and run the same command again."
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["-5", "1", "3"]


def test_processes_give_the_same_share_the_threads_and_may_die(tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(5)
    try:
        found = run_cases([1, -5, 2, 99, 3], Doubles(tmp_path), workers=Workers(2), is_done=lambda case: case == 2)
    finally:
        torch.set_num_threads(before)
    assert found.results == ((2, 2), None, None, None, (6, 2))
    assert found.failures.keys() == {1, 3}
    assert found.failures[1] == "-5 is negative."
    assert "ended by itself (exit status 3)" in found.failures[3]


@pytest.mark.parametrize(
    ("processes", "case", "kind", "message"),
    [
        (1, 13, ZeroDivisionError, "thirteen"),
        (1, 14, EOFError, "fourteen"),
        # the one that could be taken for the end of the other process
        (2, 14, EOFError, "fourteen"),
    ],
)
def test_a_defect_ends_the_job_as_what_it_is(processes, case, kind, message, tmp_path):
    with pytest.raises(kind, match=message) as error:
        run_cases([1, case, 2, 77], Doubles(tmp_path), workers=Workers(processes))
    if processes > 1:
        assert "case_works.py" in error.value.__notes__[0]
        assert not (tmp_path / "77").exists() or (tmp_path / "unwound").exists()


@both
def test_raising_from_progress_ends_a_case_in_its_midst(processes, tmp_path):
    def progress(done, total):
        assert total == 2
        if done == 1 and (tmp_path / "77").exists():
            raise Cancelled

    with pytest.raises(Cancelled):
        run_cases([1, 77], Doubles(tmp_path), workers=Workers(processes), progress=progress)
    assert (tmp_path / "unwound").exists()


def test_progress_counts_cases_and_the_slices_of_the_present_one(tmp_path):
    cases, slices = [], []
    run_cases(
        [1, -2],
        Doubles(tmp_path),
        progress=lambda *step: cases.append(step),
        case_progress=lambda *step: slices.append(step),
    )
    assert list(dict.fromkeys(cases)) == [(0, 2), (1, 2), (2, 2)]
    assert slices == [(0, None), (0, 2), (2, 2), (0, None), (0, 2)]


def test_no_cases_are_no_work(tmp_path):
    assert run_cases([], Doubles(tmp_path), workers=Workers(4)) == CaseResults((), {})


def test_processes_that_cannot_begin_are_not_started_for_every_case():
    with pytest.raises(InputError, match=r"before its first case \(exit status 5\)"):
        run_cases([1, 2, 3], Broken(), Workers(2))


_SCRIPT = """
import sys
from pathlib import Path
from case_works import Doubles
from medsam.inference.jobs import Workers, run_cases

if __name__ == "__main__":
    run_cases([1, 77], Doubles(Path(sys.argv[1])), Workers(2))
"""


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_ctrl_c_and_the_death_of_the_first_process_end_the_others(how, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    paths = os.pathsep.join(path for path in sys.path if path)
    running = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": paths},
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "77").exists():
        assert running.poll() is None, running.communicate()[1]
        time.sleep(0.02)
    # as a terminal does it: to every process
    os.killpg(running.pid, how) if how == signal.SIGINT else running.send_signal(how)
    _, errors = running.communicate()
    until = time.monotonic() + 20
    while not (tmp_path / "unwound").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    if how == signal.SIGINT:
        assert errors.rstrip().endswith("KeyboardInterrupt")
        assert errors.count("Traceback") == 1, "the others say nothing"
