"""Nothing that a server confirmed to its clients is lost when it is killed.

    .venv/bin/python scripts/parity/serve_kill_http.py [--kills 30] [--clients 6] [--seed 1] [--model litemedsam]

Clients with a session each box, click, undo, redo, propagate, and name objects, without a pause. After a random time
(0.3 to 5 s) the server is killed (SIGKILL, its loaders too) and started again on the same store. Then each client goes
on with its session: every mask and object that an answer had brought has to be there, of the same revision and to the
pixel. A later revision, or none, is right only where the step whose answer was lost explains it (a box or a click its
own slice, a propagation its own object, also one that was left before its end, an undo or redo any), or where a refined
mask took the place of a first one.
Exit status 1 where anything is missing. `serve_kill.py` does the same to the store alone.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1] / "speed"))

from serve_load import Task, tasks_of, write_nifti
from served import Server, about_machine, found_case, made_ct, report

from medsam.client.connection import Lost, Refused
from medsam.client.masks import RemoteResult
from medsam.client.session import RemoteSession
from medsam.errors import MedSAMError, PromptError

Masks = dict[tuple[int, int], RemoteResult]
# kind of a step, object, slice
Doing = tuple[str, str, int]


class Worker:
    """A client. What it knows is what answers have brought; it works in `work` until the server is gone."""

    def __init__(self, server: Server, number: int, case: str, tasks: list[Task], seed: int) -> None:
        self.server, self.number, self.tasks, self.random = server, number, tasks, random.Random(seed * 1000 + number)
        self.client = server.client(number)
        self.session: RemoteSession = self.client.open(case, axis="k")
        self.counts: Counter[str] = Counter()
        self.doing: Doing = ("nothing", "", 0)
        # objects whose propagation was left before its end
        self.left: set[str] = set()
        self.wrong: list[str] = []
        # as they were confirmed
        self.objects = self.session.names
        self.masks = self.masks_now()

    def work(self) -> None:
        """Steps without a pause until one gets no answer."""
        try:
            while True:
                self.doing = self.next_step()
                self.step(*self.doing)
                self.masks, self.objects = self.masks_now(), self.session.names
                self.counts["confirmed steps"] += 1
        except Lost:
            self.counts["lost answers"] += 1
        except MedSAMError as error:
            self.wrong.append(f"client {self.number}: {type(error).__name__}: {str(error)[:200]}")

    def next_step(self) -> Doing:
        """What to do, about which object, on which slice."""
        label = self.random.choice(["one", "two", "three"])
        kinds = ["box", "click", "undo", "redo", "propagate", "name", "wait"]
        kind = self.random.choices(kinds, [4, 6, 2, 1, 1, 1, 1])[0]
        there = [n for n, found in self.session.results.get(label, {}).items() if found.status != "propagated"]
        if kind in ("click", "propagate") and not there:
            kind = "box"
        return kind, label, self.random.choice(there if kind == "click" else [one.slice for one in self.tasks])

    def step(self, kind: str, label: str, index: int) -> None:
        session, draw = self.session, self.random
        if kind == "box":
            session.box(index, next(one.box for one in self.tasks if one.slice == index), label)
        elif kind == "click":
            x, y = (round(draw.uniform(0.3, 0.7) * session.geometry.shape[n]) for n in (2, 1))
            # one that contradicts an earlier one is refused
            with suppress(PromptError):
                session.click(index, x, y, draw.random() < 0.5, label)
        elif kind in ("undo", "redo"):
            getattr(session, kind)()
        elif kind == "propagate":
            for n, _ in enumerate(session.propagate(label, max_mm=8.0)):
                self.masks = self.masks_now()
                if n == 3 and draw.random() < 0.3:
                    # it ends as a step, which holds all that it found, when the server comes to it
                    self.left.add(label)
                    break
        elif kind == "name" and session.objects:
            session.recolour(draw.choice(session.objects).name, f"#{draw.randrange(2**24):06x}")
        else:
            session.changes(wait_s=0.2)

    def check(self) -> None:
        """Against the server that came up again."""
        self.client.close()
        self.client = self.server.client(self.number)
        try:
            self.session = self.client.resume(self.session.id)
        except Refused as error:
            self.wrong.append(f"client {self.number}: its session is gone: {error}")
            return
        now = self.masks_now()
        for key, confirmed in self.masks.items():
            self.counts["masks checked"] += 1
            if says := self.fault(key, confirmed, now.get(key)):
                self.wrong.append(f"client {self.number}, {self.doing}: the mask {key} {says}")
        missing = self.objects.keys() - self.session.names.keys()
        if missing:
            self.wrong.append(f"client {self.number}: objects {sorted(missing)} are gone")
        self.masks, self.objects = now, self.session.names
        self.left.clear()

    def fault(self, key: tuple[int, int], confirmed: RemoteResult, found: RemoteResult | None) -> str | None:
        """What is wrong with a mask that is there, or not; None where nothing is."""
        kind, label, index = self.doing
        explained = kind in ("undo", "redo") or self.objects.get(key[0]) in self.left
        explained = explained or (
            self.objects.get(key[0]) == label
            and (kind == "propagate" or (kind in ("box", "click") and key[1] == index))
        )
        if found is None:
            return None if kind in ("undo", "redo") else f"of revision {confirmed.revision} is gone"
        if found.revision < confirmed.revision:
            return f"went back from {confirmed.revision} to {found.revision}"
        if found.revision == confirmed.revision:
            return None if np.array_equal(found.mask, confirmed.mask) else f"of {found.revision} is another one"
        self.counts["masks newer than confirmed"] += 1
        refined = confirmed.status == "first" and found.status == "refined"
        return None if explained or refined else f"went on from {confirmed.revision} to {found.revision}"

    def masks_now(self) -> Masks:
        numbers = {one.name: one.id for one in self.session.objects}
        return {
            (numbers[name], index): found
            for name, results in self.session.results.items()
            for index, found in results.items()
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--most-s", type=float, default=5.0, help="seconds before a kill, at most")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--slices", type=int, default=24)
    parser.add_argument("--model", default="litemedsam")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as home:
        result = _run(Path(home), arguments, rng)
    rows = [["", ""], *([key, str(value)] for key, value in result["counts"].items())]
    report(result, rows, arguments.json)
    for text in result["wrong"][:20]:
        print(f"WRONG {text}", file=sys.stderr)
    return int(bool(result["wrong"]))


def _run(home: Path, arguments: argparse.Namespace, rng: random.Random) -> dict[str, Any]:
    data = home / "data"
    data.mkdir()
    scan, balls = made_ct(0, arguments.slices, arguments.rows)
    write_nifti(data / "scan.nii.gz", scan)
    server = Server(home, [data], arguments.model, users=arguments.clients)
    case = found_case(server.client()).id
    tasks = tasks_of(0, balls, arguments.slices, 8.0)
    workers = [Worker(server, n, case, tasks, arguments.seed) for n in range(arguments.clients)]
    started, kills = [server.started_s], 0
    for kills in range(1, arguments.kills + 1):
        threads = [threading.Thread(target=worker.work, daemon=True) for worker in workers]
        for thread in threads:
            thread.start()
        time.sleep(rng.uniform(0.3, arguments.most_s))
        server.kill()
        for thread in threads:
            thread.join(120)
        started.append(server.start())
        for worker in workers:
            worker.check()
        print(f"kill {kills}: {sum((one.counts for one in workers), Counter())}", file=sys.stderr, flush=True)
        if any(worker.wrong for worker in workers):
            break
    server.stop()
    counts = dict(sum((worker.counts for worker in workers), Counter()))
    return {
        "machine": about_machine(),
        "counts": {"kills": kills, **counts},
        "start_s": started,
        "wrong": [text for worker in workers for text in worker.wrong],
    }


if __name__ == "__main__":
    sys.exit(main())
