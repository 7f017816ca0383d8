"""Tasks in the page: two people in two browsers at once, and a reviewer, on a server that serves a project."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest
import uvicorn
from annotating_house import BOXES, ROLES, STRUCTURES, make_project, propose, tokens_of
from readings_house import two_blocks

from medsam.annotation.project import AnnotationProject
from medsam.inference.predictor import Predictor
from medsam.inference.worker import Worker
from medsam.masks import CompactMask
from medsam.models.build import build_model
from medsam.models.specs import tiny_spec
from medsam.server.app import create_app
from medsam.server.settings import ServerSettings
from medsam.store.project_records import NewAnnotation, NewTask

LEFT, RIGHT = STRUCTURES
PASSWORD = "a password of eleven words"
# the slice that is shown first, of four
MIDDLE = 2


class Site:
    """A server that listens, its project, and clients of its people by name."""

    def __init__(self, url: str, project: AnnotationProject, tokens: dict[str, str]) -> None:
        self.url, self.project, self.store = url, project, project.store
        self.apis = {
            name: httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30)
            for name, token in tokens.items()
        }

    def cookies(self, name: str) -> list[dict]:
        answer = httpx.post(f"{self.url}/api/v1/login", json={"name": name, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        return [{"name": key, "value": value, "url": self.url} for key, value in answer.cookies.items()]


@contextmanager
def listening(app) -> Iterator[str]:
    """An app on a port of this machine, in a thread: its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.02)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def site(browsable, tmp_path_factory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("engine") / "project"
    make_project(folder, 3).close()
    with AnnotationProject.open(folder) as project, Worker() as worker:
        for name in ("ann", "ben", "rita"):
            project.store.add_user(name, ROLES[name], PASSWORD)
        tokens = tokens_of(project.store)
        # nothing is asked of it here: people draw by brush
        predictor = Predictor(build_model(tiny_spec("vit")), "cpu", engine="torch", worker=worker)
        settings = ServerSettings(store=folder / "store", project=folder, loaders=1)
        with listening(create_app(settings, predictor)) as url:
            made = Site(url, project, tokens)
            yield made
            for api in made.apis.values():
                api.close()


@pytest.fixture(scope="module")
def windows() -> Iterator[tuple[ExitStack, dict]]:
    """Pages that are open, by whose they are: each person has one for all tests."""
    with ExitStack() as stack:
        yield stack, {}


@pytest.fixture
def visit(chromium, site, windows) -> Iterator[Callable]:
    """`visit(name)`: the page of somebody, logged in and at home. What it must not do fails the test."""
    from in_browser import opened
    from page_room import Room

    stack, rooms = windows

    def enter(name: str) -> Room:
        if name not in rooms:
            watched = stack.enter_context(opened(chromium, site.url, site.cookies(name)))
            rooms[name] = Room(watched, site.apis[name])
        # a page that is loaded anew, as after a night
        rooms[name].page.goto("/")
        rooms[name].page.get_by_role("region", name="Project").wait_for()
        return rooms[name]

    yield enter
    for room in rooms.values():
        assert room.watched.unexpected() == []


def begun(room) -> str:
    """Wait until the task that the page shows can be drawn on: its scan's name."""
    from playwright.sync_api import expect

    expect(room.page.get_by_role("region", name="Task", exact=True)).to_be_visible()
    task = room.json(f"/annotate/tasks/{room.page.url.rsplit('/', 1)[1]}")
    room.case = task["case"]
    room.ready()
    expect(room.page.get_by_role("heading", level=1)).to_have_text(task["scan"])
    return task["scan"]


def is_state(room, structure: str, state: str) -> None:
    """Wait until a structure of the task is said to be so."""
    room.page.get_by_role("button", name=f"{structure}: {state}").wait_for()


def draw(room, number: int, share: float = 1.0) -> None:
    """A line of the brush through a block, or a share of it, of the structure that is active."""
    x0, y0, x1, y1 = BOXES[number]
    room.press("d")
    room.drag((x0, (y0 + y1) / 2), (x0 + share * (x1 - x0), (y0 + y1) / 2))
    is_state(room, STRUCTURES[number - 1], "drawn")


def hand_in_and_stop(room, absent: str | None = None) -> None:
    from playwright.sync_api import expect

    page = room.page
    page.get_by_label("Then stop").check()
    room.press("Shift+Enter")
    if absent is not None:
        # what has no mask is asked for once
        page.get_by_role("dialog").get_by_label(f"{absent} is not in this scan").check()
        room.press("Enter")
    expect(page.get_by_role("alert").or_(page.get_by_role("status")).filter(has_text="Handed in")).to_be_visible()
    page.get_by_role("region", name="Project").wait_for()


def test_two_people_draw_at_once_and_a_reviewer_returns_one_and_approves_both(visit, site):
    from page_room import slice_shown
    from playwright.sync_api import expect

    ann, ben = visit("ann"), visit("ben")
    # by key and by mouse; both get a task, and not the same
    ann.press("n")
    ben.page.get_by_role("button", name="Next task").click()
    scans = [begun(ann), begun(ben)]
    assert sorted(scans) == ["s0", "s1"]
    draw(ann, 1)
    mask = ann.agree(1, MIDDLE)
    # a reload in the middle costs nothing
    ann.page.reload()
    assert begun(ann) == scans[0]
    is_state(ann, LEFT, "drawn")
    is_state(ann, RIGHT, "no mask yet")
    assert (ann.agree(1, MIDDLE) == mask).all()
    ann.press("n")
    draw(ann, 2)
    hand_in_and_stop(ann)
    draw(ben, 1)
    hand_in_and_stop(ben, absent=RIGHT)

    rita = visit("rita")
    rita.page.get_by_role("link", name="Review 2").click()
    row = rita.page.get_by_role("row").filter(has_text="ann")
    row.get_by_role("link").click()
    bar = rita.page.get_by_role("region", name="Review", exact=True)
    expect(bar.get_by_text("ann")).to_be_visible()
    is_state(rita, RIGHT, "drawn")
    rita.press("r")
    rita.page.get_by_role("dialog").get_by_label("What is to be corrected").fill("the slice below is missing")
    rita.page.get_by_role("dialog").get_by_role("button", name="Return").click()
    # the next one comes by itself
    expect(bar.get_by_text("ben")).to_be_visible()
    is_state(rita, RIGHT, "no mask yet")
    rita.press("a")
    expect(rita.page.get_by_text("Nothing waits for review.")).to_be_visible()

    ann.page.reload()
    ann.page.get_by_role("button", name="Next task").click()
    assert begun(ann) == scans[0]
    expect(ann.page.get_by_text("the slice below is missing")).to_be_visible()
    is_state(ann, LEFT, "drawn")
    ann.press("ArrowDown")
    ann.until(lambda: slice_shown(ann.page) != MIDDLE, "the next slice")
    with ann.page.expect_response("**/prompts?*"):
        draw(ann, 1)
    hand_in_and_stop(ann)

    rita.page.get_by_role("link", name=scans[0]).click()
    is_state(rita, LEFT, "drawn")
    rita.page.get_by_role("button", name="Approve").click()
    expect(rita.page.get_by_text("Nothing waits for review.")).to_be_visible()

    # an approval is taken back
    rita.page.get_by_text("Approved: 2").click()
    rita.page.get_by_role("link", name=scans[0]).click()
    is_state(rita, LEFT, "drawn")
    expect(bar.get_by_role("button", name="Approve")).to_have_count(0)
    rita.press("r")
    rita.page.get_by_role("dialog").get_by_label("What is to be corrected").fill("once more")
    rita.page.get_by_role("dialog").get_by_role("button", name="Return").click()
    expect(rita.page.get_by_text("Approved: 1")).to_be_visible()
    ann.page.reload()
    ann.page.get_by_role("button", name="Next task").click()
    begun(ann)
    expect(ann.page.get_by_text("once more")).to_be_visible()
    hand_in_and_stop(ann)
    rita.page.reload()
    rita.page.get_by_role("link", name=scans[0]).click()
    is_state(rita, LEFT, "drawn")
    rita.press("a")
    expect(rita.page.get_by_text("Nothing waits for review.")).to_be_visible()
    assert [task.state for task in site.store.tasks()] == ["approved", "approved", "open"]
    by_slice = {
        (one.structure, one.slice): one.status for one in site.store.standing(site.store.scans()[0].id, ["approved"])
    }
    assert len(by_slice) == 3
    assert set(by_slice.values()) == {"approved"}


def test_two_readings_that_differ_are_shown_over_each_other_and_somebody_decides(visit, site):
    from in_browser import axe
    from playwright.sync_api import expect

    (scan, *_), (first, *_) = site.store.scans(), site.store.tasks()
    site.store.add_tasks([NewTask(scan.id, STRUCTURES, "second", priority=100, after=first.id)])
    ben = visit("ben")
    ben.press("n")
    assert begun(ben) == scan.name
    # half of what the first one drew
    draw(ben, 1, share=0.4)
    hand_in_and_stop(ben, absent=RIGHT)
    rita = visit("rita")
    rita.page.get_by_role("link", name="Review").click()
    table = rita.page.get_by_role("region", name="Two readings that differ")
    expect(table.get_by_role("row").filter(has_text=LEFT)).to_contain_text("ann – ben")
    assert axe(rita.page) == []
    table.get_by_role("row").filter(has_text=LEFT).get_by_role("link", name=scan.name).click()
    bar = rita.page.get_by_role("region", name="Review", exact=True)
    expect(bar.get_by_text("only ben")).to_be_visible()
    expect(bar.get_by_role("button", name=LEFT).filter(has_text="Dice")).to_contain_text("0.")
    bar.get_by_role("button", name="Decide").click()
    assert begun(rita) == scan.name
    expect(rita.page.get_by_text("Two readers differ here")).to_be_visible()
    is_state(rita, LEFT, "drawn")
    rita.page.get_by_role("button", name="Compare with ben").click()
    expect(rita.page.get_by_role("button", name="Compare with ben")).to_have_attribute("aria-pressed", "true")
    assert axe(rita.page) == []
    hand_in_and_stop(rita)


def test_what_a_model_drew_alone_is_good_or_wrong_and_what_was_skipped_is_opened_again(visit, site):
    from in_browser import axe
    from playwright.sync_api import expect

    scan = site.store.scans()[1]
    _, _, right = two_blocks()
    drawn = [NewAnnotation(scan.id, RIGHT, "k", k, "accepted", CompactMask.of(right[MIDDLE]), 3) for k in range(3)]
    site.store.add_annotations(drawn)
    site.store.add_tasks([NewTask(scan.id, (RIGHT,), "audit", 3, (k,), 30) for k in range(3)])
    rita = visit("rita")
    bar = rita.page.get_by_role("region", name="Task", exact=True)
    rita.press("n")
    assert begun(rita) == scan.name
    is_state(rita, RIGHT, "proposed by the model")
    assert axe(rita.page) == []
    rita.press("a")
    rita.page.get_by_text("the mask is good").wait_for()
    bar.get_by_role("button", name="Good").wait_for()
    # from the card of its scan, too
    rita.page.goto("/#/")
    rita.page.get_by_role("link", name=scan.name).click()
    begun(rita)
    is_state(rita, RIGHT, "proposed by the model")
    draw(rita, 2, share=1.3)
    expect(bar.get_by_role("button", name="Good")).to_be_disabled()
    rita.press("Control+z")
    is_state(rita, RIGHT, "proposed by the model")
    draw(rita, 2, share=1.3)
    bar.get_by_role("button", name="Wrong: hand in mine").click()
    rita.page.get_by_text("the mask is wrong").wait_for()
    begun(rita)
    is_state(rita, RIGHT, "proposed by the model")
    bar.get_by_label("Then stop").check()
    bar.get_by_role("button", name="Skip").click()
    rita.page.get_by_label("The scan is broken").check()
    rita.page.get_by_role("button", name="Skip it").click()
    rita.page.get_by_role("link", name="Review").click()
    skipped = rita.page.get_by_role("region", name="Skipped: 1")
    expect(skipped.get_by_role("row").filter(has_text=scan.name)).to_contain_text("The scan is broken")
    skipped.get_by_role("button", name=f"Open {scan.name} again").click()
    skipped.wait_for(state="detached")
    assert [(one.verdict, one.dice == 1.0) for one in site.store.verdicts()] == [("good", True), ("wrong", False)]
    assert [task.state for task in site.store.tasks(kinds=["audit"])] == ["submitted", "submitted", "open"]


def test_what_a_model_proposes_is_accepted_by_a_key_and_handed_in_as_it_is(visit, site):
    from playwright.sync_api import expect

    scan = site.store.scans()[-1]
    _, left, _ = two_blocks()
    propose(site.store, scan, left[MIDDLE], MIDDLE)
    site.store.add_tasks([NewTask(scan.id, STRUCTURES, stage=2, priority=200)])
    ann = visit("ann")
    ann.press("n")
    assert begun(ann) == scan.name
    is_state(ann, LEFT, "proposed by the model")
    ann.press("a")
    is_state(ann, LEFT, "drawn")
    is_state(ann, RIGHT, "no mask yet")
    hand_in_and_stop(ann, absent=RIGHT)
    expect(ann.page.get_by_text("1 as they were proposed.")).to_be_visible()
    (one,) = site.store.standing(scan.id)
    assert (one.status, one.structure, one.effort.clicks) == ("accepted", LEFT, 0)
    ann.page.get_by_role("link", name="Statistics").click()
    expect(ann.page.get_by_role("region", name="By structure").get_by_role("row").filter(has_text=LEFT)).to_be_visible()


def _settled(controls) -> list[dict[str, float]]:
    """Where they lie, all at one moment, once that is the same twice: the bar grows while the picture comes."""
    look = "all => all.map(one => one.getBoundingClientRect()).map(({x, y, width, height}) => ({x, y, width, height}))"
    before: list[dict[str, float]] = []
    for _ in range(20):
        now = controls.evaluate_all(look)
        if now and now == before:
            break
        before = now
        controls.first.page.wait_for_timeout(200)
    return now


def test_on_a_phone_nothing_lies_over_the_fields_of_the_window(chromium, site):
    from in_browser import opened

    with opened(chromium, site.url, site.cookies("ann"), viewport={"width": 390, "height": 844}) as watched:
        page = watched.page
        page.goto("/#/")
        page.get_by_role("link", name="s2").first.click()
        bar = page.get_by_role("toolbar", name="How the images are shown")
        bar.get_by_label("Level").wait_for()
        boxes = _settled(bar.locator("input, select, button"))
        assert len(boxes) >= 5
        for n, one in enumerate(boxes):
            assert 0 <= one["x"] <= 390 - one["width"], "all of it is on screen"
            for other in boxes[n + 1 :]:
                aside = one["x"] + one["width"] <= other["x"] or other["x"] + other["width"] <= one["x"]
                assert aside or abs(one["y"] - other["y"]) >= min(one["height"], other["height"])
        assert watched.unexpected() == []
