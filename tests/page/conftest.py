"""The page in Chromium before a real `medsam serve`: real weights, real scans, and two readers with a login each."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts" / "speed"))
# more than a run of all tests has time for
LONG = {
    "test_through_the_volume_stopped_mended_and_on",
    "test_by_keys_alone",
    "test_two_readers_at_one_scan_do_not_see_each_others_work",
    "test_organs_are_found_without_a_prompt",
    "test_a_click_becomes_a_mask_in_three_views_that_is_saved_and_opened_again",
}
PASSWORD = "a password of eleven words"


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.weights)
            if item.originalname in LONG and not os.environ.get("MEDSAM_LONG"):
                item.add_marker(pytest.mark.skip(reason="takes a minute: MEDSAM_LONG=1 ./scripts/test tests/page"))


@pytest.fixture(scope="session")
def built_page() -> None:
    """The page of these sources: built where it is not. One process builds, the others wait."""
    with FileLock(Path(tempfile.gettempdir()) / "medsam-build-viewer.lock"):
        done = subprocess.run([ROOT / "scripts" / "build-viewer"], capture_output=True, text=True)
    if done.returncode == 2:
        pytest.skip(f"the page cannot be built here: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def browsable(built_page) -> None:
    """There is a browser, and what drives it."""
    pytest.importorskip("playwright.sync_api")
    from in_browser import MISSING, find_chromium

    if find_chromium() is None:
        pytest.skip(MISSING)


@pytest.fixture(scope="module")
def chromium(browsable) -> Iterator:
    """A browser for the tests of a file; each opens a context of its own in it. It draws planes alone, no 3D.

    Not for longer: while Playwright runs, so does its event loop, and no other test can run one in this process.
    """
    from in_browser import launch
    from playwright import sync_api

    # a busy machine is no defect
    sync_api.expect.set_options(timeout=30_000)
    with sync_api.sync_playwright() as playwright:
        browser = launch(playwright, gl=False)
        yield browser
        browser.close()


class House:
    """A server, its cases by name, and its readers, "reader0" and "reader1". data: where the scans come from."""

    def __init__(self, server, scans: Path, data: Path) -> None:
        self.server, self.url = server, server.url
        self.scans, self.masks = scans, data / "breast_ultrasound_busbra" / "masks"
        self.apis = [
            httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {token}"}, timeout=60)
            for token in server.tokens
        ]

    def case(self, name: str, reader: int = 0) -> str:
        """The id of the case whose name holds `name`."""
        found = [case["id"] for case in self.apis[reader].get("/api/v1/cases", params={"q": name}).json()]
        assert found, name
        return found[0]

    def cookies(self, reader: int) -> list[dict]:
        """Of a login by name and password."""
        body = {"name": f"reader{reader}", "password": PASSWORD}
        answer = httpx.post(f"{self.url}/api/v1/login", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        return [{"name": name, "value": value, "url": self.url} for name, value in answer.cookies.items()]


@pytest.fixture(scope="session")
def house(browsable, data, tmp_path_factory) -> Iterator[House]:
    """One server for all tests of a process."""
    from served import Server, found_case

    from medsam.store.store import Store

    folder = tmp_path_factory.mktemp("house")
    scans = folder / "scans"
    shutil.copytree(data / "lung_ct_dicom_rtstruct", scans / "lung")
    shutil.copytree(data / "breast_ultrasound_busbra" / "images", scans / "ultrasound")
    server = Server(folder, [scans], users=2)
    try:
        with Store.open(server.store, serving=False) as store:
            for number in range(2):
                user = store.user_named(f"reader{number}")
                assert user is not None
                store.change_user(user.id, password=PASSWORD, active=True)
        with server.client() as client:
            for name in ("CT", "benign_0847"):
                found_case(client, name)
        made = House(server, scans, data)
        yield made
        for api in made.apis:
            api.close()
    finally:
        server.stop()


@pytest.fixture
def visit(chromium, house) -> Iterator[Callable]:
    """`visit(reader=0, **options)`: a reader's page, logged in; None: nobody's. What it must not do fails the test."""
    from in_browser import opened
    from page_room import Room

    rooms = list[Room]()
    with ExitStack() as stack:

        def enter(reader: int | None = 0, **options) -> Room:
            cookies = [] if reader is None else house.cookies(reader)
            watched = stack.enter_context(opened(chromium, house.url, cookies, **options))
            rooms.append(Room(watched, house.apis[reader or 0]))
            return rooms[-1]

        yield enter
        for room in rooms:
            assert room.watched.unexpected() == []


@pytest.fixture
def room(visit):
    """The page of one reader."""
    return visit()
