"""The exported decoder in headless Chromium: milliseconds a prompt, and how far its answers are from torch's.

    .venv/bin/python scripts/speed/browser/run.py --out out/browser [--model NAME|CHECKPOINT] [--rounds 3] [--repeats 3]
    .venv/bin/python scripts/speed/browser/run.py --out out/browser --serve      for a browser of your own

Exports the model with `medsam export`, encodes a real CT slice (ct_slices_sammed2d, at $MEDSAM_DATA or ../shared/data)
with torch, serves the embedding, the graphs and torch's logits on the loopback interface, and has a page decode one box
a structure, one after the other, in onnxruntime-web. The server sends the headers of cross-origin isolation, without
which a page has no threads. Each way of decoding (see page.js) is run in a browser of its own, all in turn and then
again, so that what else the machine does falls on all of them.

Writes OUT/numbers.json and OUT/page.png. Exit status 1 when a logit is further from torch's than 1e-3, or more mask
pixels differ than logits that close to the threshold explain: 1 in 100,000; with the embedding in half
precision 0.05 and 1 in 10,000.

Needs Chromium, npm (onnxruntime-web, pinned by package-lock.json, is installed beside this file when it is missing) and
Playwright, which gets `.venv-browser` to itself, or the interpreter named by PLAYWRIGHT_PYTHON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from medsam.cli.main import main as medsam
from medsam.inference.image_predictor import ImagePredictor
from medsam.io.load import load_volume
from medsam.models.build import load_model
from medsam.prompts.simulate import tight_box

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
PLAYWRIGHT = "playwright==1.65.2"
# Way of decoding, threads and embedding of each page; the first is the one in the picture.
PAGES = (
    ("window", 2, "float32"),
    ("window", 1, "float32"),
    ("parts", 1, "float32"),
    ("parts", 2, "float32"),
    ("decoder", 1, "float32"),
    ("decoder", 2, "float32"),
    ("masked", 1, "float32"),
    ("masked", 2, "float32"),
    ("window", 1, "float16"),
)
# Largest difference of a logit, and share of pixels with another mask; for float32 those of `medsam export`.
ALLOWED = {"float32": (1e-3, 1e-5), "float16": (5e-2, 1e-4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the numbers and the picture")
    parser.add_argument("--model", default="litemedsam", help="a known name or a checkpoint (default: litemedsam)")
    parser.add_argument("--graphs", type=Path, metavar="DIR", help="exported before, of the same model")
    parser.add_argument("--rounds", type=int, default=3, help="times a page decodes each box (default: 3)")
    parser.add_argument("--repeats", type=int, default=3, help="times all pages are opened, in turn (default: 3)")
    parser.add_argument("--ways", nargs="+", metavar="WAY", help="only these: decoder, parts, window, masked")
    parser.add_argument("--serve", action="store_true", help="no measurement: serve the page until Ctrl-C")
    arguments = parser.parse_args()

    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    graphs = (arguments.graphs or out / "graphs").resolve()
    if arguments.graphs is None and medsam(["export", "--model", arguments.model, "--out", str(graphs)]):
        sys.exit("The export failed; see above.")
    if not (HERE / "node_modules" / "onnxruntime-web").is_dir():
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=HERE, check=True)
    with torch.inference_mode():
        write_task(arguments.model, out / "data")

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, out / "data", graphs))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home = f"http://127.0.0.1:{server.server_port}/"
    try:
        if arguments.serve:
            print(f"{home}?way=window&threads=2\nCtrl-C ends it.")
            threading.Event().wait()
        pages = [page for page in PAGES if arguments.ways is None or page[0] in arguments.ways]
        addresses = [page_address(home, page, arguments.rounds) for page in pages] * arguments.repeats
        told = drive(addresses, out / "page.png")
    finally:
        server.shutdown()
    report = {"machine": machine(), "pages": told}
    (out / "numbers.json").write_text(json.dumps(report, indent=2) + "\n")
    for number in range(len(pages)):
        print(line(told[number :: len(pages)]))
    wrong = [page for page in told if not agrees(page)]
    if wrong:
        sys.exit(f"{len(wrong)} of {len(told)} pages answer otherwise than torch.")


def write_task(model: str, folder: Path) -> None:
    """What the page is told: an embedding, boxes, torch's logits, and the slice as the model sees it."""
    source = Path(os.environ.get("MEDSAM_DATA", ROOT.parent / "shared" / "data")) / "ct_slices_sammed2d"
    slices = sorted(source.glob("images/*.png"))
    if not slices:
        sys.exit("The slice of ct_slices_sammed2d is not there. Set MEDSAM_DATA to the folder of the data sets.")
    folder.mkdir(parents=True, exist_ok=True)
    sam = load_model(model)
    scan_encoder = ImagePredictor(sam, "cpu").encoder_for(load_volume(slices[0]))
    embedding = scan_encoder.encode(0)
    named = {path.stem: np.asarray(Image.open(path).convert("L")) > 0 for path in sorted(source.glob("masks/*.png"))}
    found = {name: box for name, mask in named.items() if (box := tight_box(mask)) is not None}
    boxes = torch.from_numpy(embedding.frame.boxes(np.array(list(found.values()))))[None]
    features = embedding.features
    logits, _ = sam.decode(features, boxes=boxes, multimask=None)
    again, _ = sam.decode(features, boxes=boxes, masks=logits[:, :, 0], multimask=None)

    values = features.numpy()
    values.astype("<f4").tofile(folder / "embedding.float32")
    values.astype("<f2").tofile(folder / "embedding.float16")
    logits.numpy().astype("<f4").tofile(folder / "logits.float32")
    again.numpy().astype("<f4").tofile(folder / "again.float32")
    stored = torch.from_numpy(np.atleast_3d(scan_encoder.pixels(0))).movedim(-1, 0)
    seen = embedding.frame.image(stored).mean(dim=0)
    grey = (seen - seen.amin()) / (seen.amax() - seen.amin()) * 255
    Image.fromarray(grey.to(torch.uint8).numpy()).save(folder / "slice.png")
    task = {
        "model": sam.spec.name,
        "size": sam.spec.image_size,
        "side": sam.spec.embed_side,
        "embedding": list(features.shape),
        "prompts": [{"name": n, "box": box} for n, box in zip(found, boxes[0].tolist(), strict=True)],
    }
    (folder / "task.json").write_text(json.dumps(task))


class Handler(SimpleHTTPRequestHandler):
    """The page at /, onnxruntime-web at /ort/, the graphs at /graphs/, the task at /data/; cross-origin isolated."""

    def __init__(self, data: Path, graphs: Path, *request: Any) -> None:
        self.folders = {
            "ort": HERE / "node_modules" / "onnxruntime-web" / "dist",
            "graphs": graphs,
            "data": data,
        }
        super().__init__(*request, directory=str(HERE))

    def guess_type(self, path: Any) -> str:
        # browsers refuse modules and wasm of any other type, and not every machine's table knows them
        known = {".mjs": "text/javascript", ".js": "text/javascript", ".wasm": "application/wasm"}
        return known.get(Path(path).suffix) or super().guess_type(path)

    def translate_path(self, path: str) -> str:
        local = Path(super().translate_path(path))
        folder = local.relative_to(HERE).parts[:1]
        if folder and folder[0] in self.folders:
            return str(self.folders[folder[0]].joinpath(*local.relative_to(HERE).parts[1:]))
        return str(local)

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, *words: Any) -> None:
        pass


def page_address(home: str, page: tuple[str, int, str], rounds: int) -> str:
    way, threads, embedding = page
    return f"{home}?way={way}&threads={threads}&embedding={embedding}&rounds={rounds}"


def drive(addresses: list[str], picture: Path) -> list[dict[str, Any]]:
    """What each page said; see drive.py."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("Chromium is missing (Debian: apt-get install chromium).")
    python = os.environ.get("PLAYWRIGHT_PYTHON") or playwright_python()
    words = [python, str(HERE / "drive.py"), chromium, str(picture), *addresses]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit("A page failed; see above.")
    return json.loads(done.stdout)


def playwright_python() -> str:
    folder = ROOT / ".venv-browser"
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", PLAYWRIGHT], check=True)
        (folder / "ready").touch()
    return str(folder / "bin" / "python")


def agrees(page: dict[str, Any]) -> bool:
    apart, differ = ALLOWED[page["embedding"]]
    return page["largest_difference"] <= apart and page["mask_pixels_that_differ"] <= differ * page["pixels"]


def line(repeats: list[dict[str, Any]]) -> str:
    """One way of decoding: over all prompts of all repeats; what happens once, the median of the repeats."""
    page = repeats[0]
    times = np.concatenate([each["prompt_times_ms"] for each in repeats])
    low, middle, high = np.percentile(times, (10, 50, 90))
    first, prepare, ready = (
        np.median([each[key] for each in repeats]) for key in ("first_ms", "prepare_ms", "ready_ms")
    )
    way = f"{page['way']:8s} {page['threads']} thread(s) {page['embedding']}"
    apart = max(each["largest_difference"] for each in repeats)
    return (
        f"{way}: {middle:6.1f} ms a prompt ({low:.1f} to {high:.1f}, best {times.min():.1f}, n {len(times)}; first "
        f"{first:.0f}; once an embedding {prepare:.0f}, a page {ready:.0f}); off by {apart:.1e}, "
        f"{page['mask_pixels_that_differ']} of {page['mask_pixels']} mask pixels"
    )


def machine() -> dict[str, Any]:
    names = [row.partition(":")[2].strip() for row in _lines(Path("/proc/cpuinfo")) if row.startswith("model name")]
    load = round(os.getloadavg()[2], 2)
    return {"processor": (names or [platform.processor()])[0], "cores": os.cpu_count(), "load_of_15_minutes": load}


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


if __name__ == "__main__":
    main()
