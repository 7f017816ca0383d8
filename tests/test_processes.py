"""Memory that there is and that is free, as Linux and a container tell it."""

from __future__ import annotations

from medsam.processes import all_memory, free_memory


def test_the_smaller_of_what_the_machine_and_its_container_have(tmp_path):
    assert free_memory(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 2000 kB\nMemAvailable:    1000 kB\n")
    assert free_memory(tmp_path) == 1_024_000
    group = tmp_path / "sys" / "fs" / "cgroup"
    group.mkdir(parents=True)
    (group / "memory.current").write_text("300000\n")
    (group / "memory.max").write_text("max\n")
    assert free_memory(tmp_path) == 1_024_000
    (group / "memory.max").write_text("500000\n")
    assert free_memory(tmp_path) == 200_000


def test_the_memory_of_this_machine_is_known_and_of_a_container_that_has_less(tmp_path):
    machine = all_memory(tmp_path)
    assert 2**28 < machine < 2**50
    group = tmp_path / "sys" / "fs" / "cgroup"
    (group / "memory").mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    assert all_memory(tmp_path) == machine
    (group / "memory" / "memory.limit_in_bytes").write_text("300000\n")
    assert all_memory(tmp_path) == 300_000
    (group / "memory.max").write_text("200000\n")
    assert all_memory(tmp_path) == 200_000
