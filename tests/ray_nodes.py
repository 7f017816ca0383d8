"""A Ray cluster of three nodes on this machine, one of which is killed; prints what became of the jobs, as JSON.

python ray_nodes.py FOLDER
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from case_works import Doubles, Slow
from ray.cluster_utils import Cluster

from medsam.errors import Cancelled
from medsam.inference.job_log import JobLog
from medsam.inference.jobs import Workers, run_cases


def children(process: int) -> list[int]:
    """Processes that it has started."""
    found = []
    for about in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(about.read_text().rpartition(")")[2].split()[1]) == process:
                found.append(int(about.parent.name))
    return found


def main(folder: Path) -> None:
    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(**node), cluster.add_node(**node)]
    workers = Workers(processes=None, threads=1, ray=cluster.address)
    told = {}

    # a node is killed while both are at work
    slow = Slow(folder / "slow")
    slow.folder.mkdir()
    (slow.folder / "1.done.before").touch()

    def kill() -> None:
        while len({path.name.rsplit(".", 1)[1] for path in slow.folder.glob("*.begun.*")}) < 2:
            time.sleep(0.02)
        raylet = nodes[1].all_processes["raylet"][0].process.pid
        workers = children(raylet)
        # as when a machine loses its power
        for process in (raylet, *workers):
            os.kill(process, signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    log = JobLog.in_file(folder / "jobs.csv", [f"c{n}" for n in range(10)])
    found = run_cases(range(10), slow, workers, is_done=slow.is_done, log=log)
    killer.join()
    told["killed"] = {"results": found.results, "failures": dict(found.failures)}

    # the other one does the rest: failures, defects, an end before the end
    for name in ("failed", "defect", "ended"):
        (folder / name).mkdir()
    found = run_cases([1, -5, 2], Doubles(folder / "failed"), workers)
    told["failed"] = {"results": [one and one[0] for one in found.results], "failures": dict(found.failures)}
    try:
        run_cases([1, 13], Doubles(folder / "defect"), workers)
    except ZeroDivisionError as error:
        told["defect"] = [str(error), *error.__notes__]

    def stop(done: int, total: int | None) -> None:
        if (folder / "ended" / "77").exists():
            raise Cancelled

    try:
        run_cases([77], Doubles(folder / "ended"), workers, progress=stop)
    except Cancelled:
        told["ended"] = (folder / "ended" / "unwound").exists()
    sys.stdout.write(json.dumps(told) + "\n")
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
