"""The table of what became of each case."""

from __future__ import annotations

from contextlib import suppress

import pytest

from medsam.inference.job_log import JobLog
from medsam.inference.job_queue import Ended


def test_rows_are_in_the_order_of_the_cases_and_what_was_known_stays(tmp_path):
    path, names = tmp_path / "jobs.csv", ["b", "a, quoted", "c"]
    log = JobLog.in_file(path, names)
    with suppress(KeyboardInterrupt), log.of(3, [0, 1, 2]):
        assert path.read_text().splitlines()[1:] == ["b,waiting,,,", '"a, quoted",waiting,,,', "c,waiting,,,"]
        log.ended(2, Ended(None, None, 1.25, "node-a"))
        log.ended(0, Ended(None, 'no "scan"', 0.5, "node-b"))
        raise KeyboardInterrupt
    lines = ["case,state,reason,seconds,host", 'b,failed,"no ""scan""",0.500,node-b', '"a, quoted",waiting,,,']
    assert path.read_text().splitlines() == [*lines, "c,done,,1.250,node-a"]

    # the next run finds c done and tries the others again; a case that is done though the table did not know it counts
    log = JobLog.in_file(path, names)
    with log.of(3, [0]):
        log.ended(0, Ended(None, None, 2.0, "node-c"))
    assert path.read_text().splitlines()[1:] == ["b,done,,2.000,node-c", '"a, quoted",done,,,', "c,done,,1.250,node-a"]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"other,table\n1,2\n", b'case,"\x00'])
def test_a_damaged_table_counts_for_nothing(content, tmp_path):
    path = tmp_path / "jobs.csv"
    path.write_bytes(content)
    with JobLog.in_file(path, ["a"]).of(1, []):
        pass
    assert path.read_text() == "case,state,reason,seconds,host\na,done,,,\n"


def test_a_long_table_is_not_written_for_every_case():
    written = []
    log = JobLog([str(n) for n in range(1000)], written.append)
    with log.of(1000, range(1000)):
        for number in range(1000):
            log.ended(number, Ended(None, None, 0.0, "here"))
    assert len(written) < 20
    assert written[-1].count("done") == 1000
