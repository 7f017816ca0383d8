"""Who reads, in which language and by which hand; and what a page of another site can do."""

from __future__ import annotations

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

PASSWORD = "a password of eleven words"
HANGUL = re.compile("[\uac00-\ud7a3]")


def log_in(room, name: str, password: str = PASSWORD) -> None:
    room.page.get_by_label("Name").fill(name)
    room.page.get_by_label("Password").fill(password)
    room.page.get_by_role("button", name="Log in").click()


def test_two_readers_at_one_scan_do_not_see_each_others_work(visit, house):
    from playwright.sync_api import expect

    anna, ben = visit(0), visit(None)
    ben.api = house.apis[1]
    ben.watched.expected.append("401")
    ben.page.goto("/")
    log_in(ben, "reader1", "a wrong password of six words")
    expect(ben.page.locator("form").get_by_role("alert")).not_to_be_empty()
    log_in(ben, "reader1")
    expect(ben.page.get_by_role("link", name="CT series")).to_be_visible()
    case = house.case("benign_0849")
    anna.open(case)
    ben.open(case)
    anna.box(150, 100, 330, 260)
    mine = anna.agree(1, 0)
    assert not ben.painted().any()
    ben.box(200, 200, 300, 300)
    theirs = ben.agree(1, 0)
    assert not np.array_equal(mine, theirs)
    assert anna.session != ben.session
    assert np.array_equal(anna.agree(1, 0), mine)


def test_a_bad_file_says_what_is_wrong(room, tmp_path):
    from playwright.sync_api import expect

    room.watched.expected.append("422")
    page = room.page
    page.goto("/")
    # one that is no scan is not taken; one that begins as a scan does says so when it is opened
    for name, content in (("notes.txt", b"no scan"), ("broken.nii.gz", b"\x1f\x8b\x08\x00 this is no scan")):
        (tmp_path / name).write_bytes(content)
        page.locator("input[type=file]").first.set_input_files(tmp_path / name)
        expect(page.get_by_role("alert").filter(has_text=name)).to_be_visible()
    page.get_by_role("banner").get_by_role("link", name="Scans").click()
    expect(page.get_by_role("button", name="Choose files")).to_be_visible()


def test_an_upload_is_opened_and_is_nobody_elses(visit, house, data):
    from playwright.sync_api import expect

    anna, ben = visit(0), visit(1)
    anna.page.goto("/")
    scan = next((data / "polyp_endoscopy").rglob("*.[jp][pn]g"))
    anna.page.locator("input[type=file]").first.set_input_files(scan)
    expect(anna.plane("k")).to_be_visible()
    expect(anna.page.get_by_role("heading", level=1)).to_have_text(scan.name)
    case = anna.page.url.rsplit("/", 1)[1]
    ben.watched.expected.append("404")
    ben.page.goto(f"/#/case/{case}")
    expect(ben.page.get_by_role("main").get_by_role("alert")).not_to_be_empty()


def test_in_korean(visit, house):
    room = visit(0, locale="ko-KR")
    room.page.goto("/")
    room.page.get_by_role("link", name="CT series").wait_for()
    assert room.page.locator("html").get_attribute("lang") == "ko"
    room.open(house.case("benign_0884"))
    room.box(150, 100, 330, 260)
    room.agree(1, 0)
    # keys are those of the letter, whatever the keyboard writes
    room.plane().dispatch_event("keydown", {"key": "ㄴ", "code": "KeyS", "bubbles": True, "cancelable": True})
    assert room.page.locator("[data-tool=scribble]").get_attribute("aria-pressed") == "true"
    texts = [text for text in room.page.locator("button, h1, h2, h3, summary, label, legend").all_inner_texts() if text]
    # but names of files, of structures, and of what has no other
    names = ("benign_0884-l.png", "structure 1", "English")
    latin = [text for text in texts if re.search("[a-z]{4}", text) and not HANGUL.search(text) and text not in names]
    assert latin == []


def test_by_keys_alone(room, house):
    from page_room import slice_shown

    page = room.page
    room.open(house.case("CT"))
    room.page.goto("/")
    page.get_by_role("link", name="CT series").wait_for()
    for _ in range(40):
        room.press("Tab")
        if page.evaluate("document.activeElement.textContent").startswith("CT series"):
            break
    room.press("Enter")
    room.ready()
    at = slice_shown(page)
    room.press("ArrowDown")
    room.press("ArrowUp")
    room.until(lambda: slice_shown(page) == at, "the slice in the middle")
    # a corner, and the one across
    room.press("b")
    room.press("k")
    for key, times in (("Shift+ArrowUp", 8), ("Shift+ArrowLeft", 12), ("Enter", 1)):
        for _ in range(times):
            room.press(key)
    for key, times in (("Shift+ArrowDown", 18), ("Shift+ArrowRight", 13), ("Enter", 1)):
        for _ in range(times):
            room.press(key)
    room.until(lambda: room.steps() == 1, "the box is there")
    room.agree(1, at)
    room.press("h")
    room.until(lambda: not room.painted().any(), "masks are hidden")
    room.press("h")
    room.agree(1, at)
    room.press("Control+z")
    room.until(lambda: room.steps() == 0 and not room.painted().any(), "it was taken back")
    room.press("?")
    page.get_by_role("dialog").wait_for()
    room.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")


def test_nothing_serious_keeps_anybody_out(visit, house):
    """axe-core, in the main screens and both themes."""
    from in_browser import axe

    def outcry(page) -> list[str]:
        found = []
        for theme in ("light", "dark"):
            page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
            found += axe(page)
        return found

    door = visit(None)
    door.watched.expected.append("401")
    door.page.goto("/")
    door.page.get_by_role("button", name="Log in").wait_for()
    assert outcry(door.page) == []
    room = visit(0)
    room.page.add_init_script("localStorage.setItem('medsam.theme', 'dark')")
    room.page.goto("/")
    room.page.get_by_role("link", name="CT series").wait_for()
    assert room.page.locator("html").get_attribute("data-theme") == "dark"
    assert outcry(room.page) == []
    room.open(house.case("CT"))
    room.box(130, 170, 271, 369)
    room.agree(1, 12)
    assert outcry(room.page) == []
    room.press("?")
    room.page.get_by_role("dialog").wait_for()
    assert outcry(room.page) == []


class _Elsewhere(BaseHTTPRequestHandler):
    """A page of another site."""

    target = ""

    def do_GET(self) -> None:
        body = (
            f"<!doctype html><a id=link href='{self.target}'>the scan</a><iframe id=frame src='{self.target}'></iframe>"
            f"<img id=picture src='{self.target.split('#')[0]}api/v1/me'>"
        ).encode()
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None: ...


def test_another_site_may_link_to_a_case_and_show_nothing_of_it(chromium, house):
    from in_browser import opened
    from page_room import Room
    from playwright.sync_api import expect

    case = house.case("benign_0886")
    handler = type("Handler", (_Elsewhere,), {"target": f"{house.url}/#/case/{case}"})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        try:
            with opened(chromium, house.url, house.cookies(0)) as watched:
                page, failed = watched.page, list[str]()
                page.on("requestfailed", lambda request: failed.append(request.url))
                # another site: a name of its own for this machine
                page.goto(f"http://localhost:{site.server_port}/")
                page.wait_for_load_state("networkidle")
                assert f"{house.url}/api/v1/me" in failed
                assert page.evaluate("document.getElementById('picture').naturalWidth") == 0
                expect(page.frame_locator("#frame").locator("#app")).to_have_count(0)
                page.click("#link")
                room = Room(watched, house.apis[0])
                room.case = case
                room.ready()
                assert page.url == f"{house.url}/#/case/{case}"
        finally:
            site.shutdown()
