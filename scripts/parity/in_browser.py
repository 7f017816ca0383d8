"""The page in the system's Chromium, watched: what it must not do fails whoever opened it."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright, Request

ROOT = Path(__file__).resolve().parents[2]
AXE = ROOT / "viewer" / "node_modules" / "axe-core" / "axe.min.js"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# no sandbox: root has none
FLAGS = (
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SOFTWARE_GL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
MISSING = "no Chromium: sudo apt-get install chromium fonts-noto-cjk"
WIDE = {"width": 1280, "height": 720}


def find_chromium() -> str | None:
    """The program, where there is one."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def launch(playwright: Playwright, gl: bool = True, **options: Any) -> Browser:
    """The browser of a machine without a graphics card.

    gl: with a GL in software, which draws 3D, and everything else with it, at a tenth of a card's speed. Without: as
    browsers run on such a machine, in planes alone.
    """
    args = [*FLAGS, *(SOFTWARE_GL if gl else ["--disable-gpu"])]
    return playwright.chromium.launch(executable_path=find_chromium(), args=args, **options)


@dataclass
class Watched:
    """A page and what it did that it must not: errors, breaches of its policy, requests to elsewhere.

    A test that provokes an error names it in `expected` (patterns of its text).
    """

    page: Page
    origin: str
    faults: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.faults.append(f"page error: {error.message} {error.stack or ''}"))
        self.page.on("crash", lambda _: self.faults.append("the page crashed"))
        self.page.on("request", self._asked)

    def _said(self, message: ConsoleMessage) -> None:
        # breaches of the policy come as errors, too; that pictures are read back is not the page's doing
        if message.type in ("error", "warning") and "willReadFrequently" not in message.text:
            self.faults.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")

    def _asked(self, request: Request) -> None:
        self.requests.append(request.url)
        url = urlsplit(request.url)
        if url.scheme in ("http", "https", "ws", "wss") and f"{url.scheme}://{url.netloc}" != self.origin:
            self.faults.append(f"left its origin: {request.url}")

    def unexpected(self) -> list[str]:
        return [fault for fault in self.faults if not any(re.search(one, fault) for one in self.expected)]


@contextmanager
def opened(browser: Browser, origin: str, cookies: Sequence[dict[str, Any]] = (), **options: Any) -> Iterator[Watched]:
    """A page of a context of its own, as of a reader who has not been here before. Nothing is opened in it yet."""
    context: BrowserContext = browser.new_context(
        base_url=origin, viewport=options.pop("viewport", WIDE), accept_downloads=True, **options
    )
    try:
        context.add_cookies(list(cookies))
        yield Watched(context.new_page(), origin)
    finally:
        context.close()


def axe(page: Page) -> list[str]:
    """What axe-core finds that is serious or critical, a line each."""
    # evaluated by the debugger, which no policy of the page keeps out
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['impact']} {one['id']}: {one['help']}: {node['target']} {node.get('failureSummary', '')}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


if __name__ == "__main__":
    sys.exit("Nothing to run: scripts and tests import this.")
