"""The process that works: each part in turn, every row told as soon as it is there.

    python -m gpu_check.worker REQUEST

After a part that broke this process ends: CUDA may be of no use to it any more. `main` starts another for the rest.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import torch

from gpu_check import parity, speed, steps, two_processes
from gpu_check.bench import LITE, VIT_B, Bench, LeftOutError, Row
from gpu_check.request import MARK, PARTS, REFUSED, Request


def machine(bench: Bench) -> Iterator[Row]:
    """What it runs on; nothing that names the machine or its owner."""
    yield {"what": "python", "value": platform.python_version()}
    yield {"what": "torch", "value": torch.__version__}
    yield {"what": "numpy", "value": numpy.__version__}
    yield {"what": "system", "value": f"{platform.system()} {platform.machine()}"}
    yield {"what": "processor", "value": _processor()}
    yield {"what": "cores", "value": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()}
    yield {"what": "threads", "value": torch.get_num_threads()}
    if bench.device.type == "cuda":
        about = torch.cuda.get_device_properties(bench.device)
        yield {"what": "GPU", "value": about.name}
        yield {"what": "GPU memory, GiB", "value": round(about.total_memory / 2**30, 1)}
        yield {"what": "compute capability", "value": f"{about.major}.{about.minor}"}
        yield {"what": "CUDA", "value": torch.version.cuda}
        yield {"what": "cuDNN", "value": torch.backends.cudnn.version()}
    free = bench.free_gib()
    yield {"what": "memory free, GiB", "value": None if free is None else round(free, 1)}
    yield {"what": "C++ compiler", "value": next(filter(shutil.which, speed.COMPILERS), "none")}
    yield {"what": f"weights of {bench.spec(LITE).name}", "value": bench.weights_are}
    yield {"what": f"weights of {bench.spec(VIT_B).name}", "value": "random, from a fixed seed"}


RUNS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "machine": machine,
    "parity": parity.rows,
    "two_processes": two_processes.rows,
    "training_step": steps.beside_plain,
    "training_variants": steps.variants,
    "encode": speed.encode,
    "decode": speed.decode,
    "compile": speed.compiled,
}


def work(request: Request, bench: Bench, tell: Callable[[dict[str, Any]], None]) -> None:
    """Run the parts; ends early after one that broke."""
    for part in PARTS:
        if part.name not in request.parts:
            continue
        start = time.monotonic()
        end: dict[str, Any] = {"part": part.name, "seconds": 0.0}
        left = request.ends - time.time()
        if left < (0 if bench.quick else part.needs_s):
            tell(end | {"status": "left out", "message": f"needs about {part.needs_s:.0f} s, and {left:.0f} are left"})
            continue
        tell({"part": part.name})
        try:
            for row in RUNS[part.name](bench):
                tell({"part": part.name, "row": row})
            end |= {"status": "done"}
        except LeftOutError as error:
            end |= {"status": "left out", "message": str(error)}
        except speed.UnavailableError as error:
            end |= {"status": "unavailable", "message": str(error)}
        except Exception as error:  # whatever a device or its driver has to say
            end |= {"status": "failed", "message": f"{type(error).__name__}: {' '.join(str(error).split())[:600]}"}
        end["seconds"] = time.monotonic() - start
        tell(end | ({"run": about(bench)} if part.name == "machine" else {}))
        if end["status"] == "failed":
            return


def about(bench: Bench) -> dict[str, Any]:
    """What the report says at its head."""
    names = ("difference", "mask_dice_trained", "mask_dice_random")
    return {
        "commit": _commit(),
        "device": bench.device.type,
        "peak_mib": "allocated by torch" if bench.device.type == "cuda" else "most the process has had until then",
        "tolerances": {
            **{name: dict(zip(names, values, strict=True)) for name, values in parity.TOLERANCES.items()},
            "two_processes": {"difference": two_processes.TOLERANCE},
        },
    }


def _commit() -> str | None:
    """Of this checkout; None where git or its folder does not come along."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return found.stdout.strip() or None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def _tell(event: dict[str, Any]) -> None:
    print(MARK + json.dumps(event), flush=True)


def main() -> int:
    request = Request.from_json(sys.argv[1])
    try:
        bench = Bench(request)
    except RuntimeError as error:
        print(f"gpu-check: {error} Choose another --device, or leave it out.", file=sys.stderr)
        return REFUSED
    work(request, bench, _tell)
    return 0


if __name__ == "__main__":
    sys.exit(main())
