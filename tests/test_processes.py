"""Memory that is free, as Linux and a container tell it."""

from __future__ import annotations

from medsam.processes import free_memory


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
