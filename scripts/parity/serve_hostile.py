"""A hundred and more hostile requests to a running server: none may break it, read or write outside, or get through.

    .venv/bin/python scripts/parity/serve_hostile.py [--only REGEX] [--verbose]

Starts a server of its own (a tiny network, small limits, three users, a scan of one of them) and sends bytes over
sockets, since clients tidy up what they send (`hostile_requests.py`, `hostile_bodies.py`). Each request has the
statuses that it may be answered with; 0 is a connection closed without an answer. At the end the log must hold no
defect, nothing may have been written but in the store, nothing of a file outside may have been answered, and the server
must be well. Exits with 1 where anything failed, and says which.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import hostile_bodies
import hostile_requests
from hostile_requests import API, PASSWORD, Target

CANARY = b"CANARY-OF-A-FILE-OUTSIDE"
GROUPS = (
    hostile_requests.hosts_and_origins,
    hostile_requests.rights,
    hostile_requests.drawings,
    hostile_requests.paths,
    hostile_bodies.bodies,
    hostile_bodies.uploads,
    hostile_bodies.sessions,
    # last: it locks names and addresses out
    hostile_requests.credentials,
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="REGEX", help="requests whose name has this in it")
    parser.add_argument("--verbose", action="store_true", help="also those that were answered as they should be")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        serve(arguments.serve)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        return attack(Path(folder), re.compile(arguments.only), arguments.verbose)


def attack(folder: Path, only: re.Pattern[str], verbose: bool) -> int:
    """Send everything. Returns the exit status."""
    failed, count = list[str](), 0
    outside = prepare(folder)
    with running(folder) as (port, log):
        target = known_to_attackers(folder, port)
        settle(target)
        before = files_of(folder)
        for one in (found for group in GROUPS for found in group()):
            if not only.search(one.name):
                continue
            count += 1
            answer = one.send(target)
            wrong = answer.status not in one.expected
            if wrong:
                failed.append(f"{one.name}: {answer.status} {answer.body[:200]!r}")
            if verbose or wrong:
                print(f"{'FAILED ' if wrong else ''}{answer.status} {one.name}")
        failed += aftermath(folder, outside, before, target, log)
    print(f"{count} requests, {len(failed)} failures")
    for line in failed:
        print(f"  {line}")
    return 1 if failed else 0


def aftermath(folder: Path, outside: Path, before: set[str], target: Target, log: Path) -> list[str]:
    """What an attack has left behind."""
    found = list[str]()
    wrote = {name for name in files_of(folder) - before if not name.startswith("store/")}
    if wrote:
        found.append(f"written outside: {sorted(wrote)}")
    if (told := [one for one in target.answers if CANARY in one.body]) or CANARY in b"".join(
        path.read_bytes() for path in (folder / "store").rglob("*") if path.is_file()
    ):
        found.append(f"a file outside was read ({len(told)} answers)")
    if outside.read_bytes() != CANARY * 400:
        found.append("a file outside was changed")
    for secret in (str(folder / "store"), "Traceback", 'File "/'):
        if any(secret.encode() in one.body for one in target.answers):
            found.append(f"an answer holds {secret!r}")
    found += [
        f"log: {line[:300]}" for line in log.read_text().splitlines() if '"defect ' in line or "Traceback" in line
    ]
    health = target.ask("GET", "/health", by=None)
    if health.status != 200:
        found.append(f"not well: {health.status} {health.body!r}")
    cases = json.loads(target.ask("GET", f"{API}/cases", by="ben").body or b"[]")
    if target.case not in {case["id"] for case in cases}:
        found.append("ben's case is gone")
    return found


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


# -- the server -------------------------------------------------------------------------------------------------------


def prepare(folder: Path) -> Path:
    """Users, what attackers know of them, a scan for all, and a file that nobody may get."""
    import torch

    from medsam.models.build import build_model
    from medsam.models.checkpoint import save_checkpoint
    from medsam.models.specs import tiny_spec
    from medsam.server.gate.origins import csrf_of
    from medsam.store.readers import Role
    from medsam.store.store import Store

    torch.manual_seed(1)
    save_checkpoint(build_model(tiny_spec("vit")), folder / "tiny.safetensors")
    (folder / "data").mkdir()
    (folder / "data" / "shared.nii.gz").write_bytes(hostile_bodies.scan_bytes())
    outside = folder / "outside.raw"
    outside.write_bytes(CANARY * 400)
    tokens, cookies, keys, past = {}, {}, {}, datetime.now(UTC) - timedelta(hours=1)
    with Store.open(folder / "store", serving=False) as store:
        for name, role in (
            ("root", Role.ADMINISTRATOR),
            ("ben", Role.READER),
            ("clara", Role.READER),
            ("left", Role.READER),
        ):
            user = store.add_user(name, role, PASSWORD)
            token, tokens[name] = store.add_token(user.id, "script")
            keys[name] = user.key
            if name == "ben":
                keys["token"] = token.key
                _, tokens["expired"] = store.add_token(user.id, "expired", past)
                revoked, tokens["revoked"] = store.add_token(user.id, "revoked")
                store.revoke_token(user.id, revoked.key)
                ended, cookies["ended"] = store.add_login(user.id)
                store.end_login(ended.id)
                for state in ("locked", "old"):
                    _, cookies[state] = store.add_login(user.id)
            if name in ("ben", "clara"):
                _, cookies[name] = store.add_login(user.id)
            if name == "left":
                store.change_user(user.id, active=False)
        age_logins(store, cookies)
    tokens["guessed"] = cookies["guessed"] = "a" * 43
    csrf = {name: csrf_of(secret) for name, secret in cookies.items()}
    (folder / "known.json").write_text(
        json.dumps({"tokens": tokens, "cookies": cookies, "csrf": csrf, "keys": keys, "outside": str(outside)})
    )
    return outside


def age_logins(store: object, cookies: dict[str, str]) -> None:
    """One login has not been used for an hour, and one is from the day before yesterday."""
    from sqlalchemy import update

    from medsam.store.part import digest_of
    from medsam.store.tables import Logins

    now = datetime.now(UTC)
    with store._database.write() as connection:  # type: ignore[attr-defined]
        for state, values in (
            ("locked", {"seen_at": now - timedelta(hours=1)}),
            ("old", {"began_at": now - timedelta(days=2)}),
        ):
            mine = Logins.digest == digest_of(cookies[state])
            connection.execute(update(Logins).where(mine).values(**values))


def serve(folder: Path) -> None:
    """In a process of its own, until told to end."""
    from medsam.server.run import bind
    from medsam.server.run import serve as run
    from medsam.server.settings import MIB, Limits, ServerSettings, TrustedProxy

    limits = Limits(
        upload_bytes=16 * MIB, unpacked_bytes=64 * MIB, upload_files=100, body_bytes=4 * MIB, json_bytes=MIB,
        requests_per_minute=6000, logins_per_minute=20,
    )  # fmt: skip
    settings = ServerSettings(
        folder / "store", data=(folder / "data",), port=0, model=str(folder / "tiny.safetensors"), device="cpu",
        proxy=TrustedProxy(("10.99.99.99",)), limits=limits,
    )  # fmt: skip
    run(settings, bind("127.0.0.1", 0), started=lambda address: print(address, flush=True))


@contextmanager
def running(folder: Path) -> Iterator[tuple[int, Path]]:
    """The port of a server that runs in this block, and its log."""
    log = folder / "server.log"
    with log.open("w") as stderr:
        command = [sys.executable, __file__, "--serve", str(folder)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
        try:
            address = process.stdout.readline().strip() if process.stdout is not None else ""
            if not address:
                raise SystemExit(f"The server did not start: {log.read_text()[-2000:]}")
            yield int(address.rsplit(":", 1)[1]), log
        finally:
            process.terminate()
            process.wait(30)


def known_to_attackers(folder: Path, port: int) -> Target:
    return Target(port, **json.loads((folder / "known.json").read_text()))


def settle(target: Target) -> None:
    """Ben brings a scan, and begins a session on it; the server is ready, and knows the scan that is for all."""
    form = "application/octet-stream"
    brought = target.ask("POST", f"{API}/cases", "X-Filename: ben.nii.gz", body=hostile_bodies.scan_bytes(), form=form)
    target.case = json.loads(brought.body)["cases"][0]["id"]
    end = time.monotonic() + 60
    while time.monotonic() < end and (target.ask("GET", "/health", by=None).status != 200 or not target.shared):
        cases = json.loads(target.ask("GET", f"{API}/cases").body)
        target.shared = next((case["id"] for case in cases if case["id"] != target.case), "")
        time.sleep(0.2)
    begun = hostile_requests.told("POST", "/sessions", {"case": target.case, "label": "liver"})(target)
    if begun.status != 201 or not target.shared:
        raise SystemExit(f"Ben cannot begin: {begun.status} {begun.body!r}")
    target.session = json.loads(begun.body)["id"]


if __name__ == "__main__":
    sys.exit(main())
