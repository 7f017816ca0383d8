"""Opens addresses in headless Chromium, one page after the other, and prints what each said as a JSON list.

Runs in an environment of its own that has Playwright and nothing else; run.py calls it:

    python drive.py CHROMIUM SCREENSHOT ADDRESS...        SCREENSHOT: of the first page
"""

from __future__ import annotations

import json
import sys

from playwright.sync_api import sync_playwright

# no network but ours, no sandbox as root in a container; WebGL in software draws the same on every machine
_FLAGS = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]
_MINUTES = 5


def main(chromium: str, screenshot: str, *addresses: str) -> None:
    told = []
    with sync_playwright() as playwright:
        for number, address in enumerate(addresses):
            # a process each: neither compiled code nor memory is left over from the page before
            browser = playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
            page = browser.new_page(viewport={"width": 1280, "height": 760})
            page.set_default_timeout(_MINUTES * 60_000)
            page.on("console", lambda message: print(f"page: {message.text}", file=sys.stderr))
            page.goto(address)
            # a promise that is rejected raises here, with the page's own message
            told.append(page.evaluate("() => window.outcome"))
            if number == 0:
                page.screenshot(path=screenshot)
            browser.close()
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
