"""Files that reach code which none has reached yet: the readers and verdicts of `fuzz`, driven by atheris (libFuzzer).

    pip install --target out/atheris atheris      # beside the environment, not into it: medsam does not need it
    ./scripts/fuzz --coverage nifti.gz --seconds 120

The sound file of a kind is the first of a corpus, which lies in a temporary folder (on tmpfs, where there is one) or in
--corpus, and grows with each file that reaches new branches of medsam or of the parsers in Python that it reads with.
Of a kind that is a folder one file, the first by name, is changed. A file fails as in `fuzz`, but for what a checksum
covers; it is kept in --out with its traceback, and ends the run. Exit status 1 for one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "out" / "atheris"))

try:
    import atheris
except ImportError:
    sys.exit("This needs atheris: pip install --target out/atheris atheris")

# what is counted as code: ours, and what reads files in Python
_COUNTED = ["medsam", "nibabel", "pydicom", "nrrd", "safetensors", "tifffile"]

with atheris.instrument_imports(include=_COUNTED, enable_loader_override=False):
    import fuzz
    from fuzz_changes import Change
    from fuzz_kinds import KINDS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", metavar="KIND", help=f"one of {', '.join(KINDS)}")
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--corpus", type=Path, help="kept from run to run (default: a temporary folder)")
    parser.add_argument("--out", type=Path, default=Path("out/fuzz-coverage"), help="where a failing file is kept")
    arguments = parser.parse_args()
    if arguments.kind not in KINDS or arguments.kind == "http":
        parser.error(f"no such kind of file: {arguments.kind}")
    memory = Path("/dev/shm")
    home = Path(tempfile.mkdtemp(prefix="medsam-fuzz-", dir=memory if os.access(memory, os.W_OK) else None))
    corpus = arguments.corpus or home / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    child = os.fork()
    if not child:
        _fuzz(arguments.kind, arguments.seconds, home, corpus, arguments.out)
    _, status = os.waitpid(child, 0)
    print(f"{arguments.kind}: {len(list(corpus.iterdir()))} files in the corpus")
    shutil.rmtree(home)
    return int(os.waitstatus_to_exitcode(status) != 0)


def _fuzz(kind: str, seconds: int, home: Path, corpus: Path, out: Path) -> None:
    """Never returns: libFuzzer ends the process."""
    seeds, work = home / "seeds", home / "work"
    seeds.mkdir()
    fuzz.sow(seeds, [kind])
    fuzz._SEEDS = seeds
    shutil.copytree(seeds / kind, work)
    path = work / (seeds / f"{kind}.path").read_text()
    file = path if path.is_file() else min(one for one in path.rglob("*") if one.is_file())
    sound = file.read_bytes()
    (corpus / "sound").write_bytes(sound)
    right = fuzz.right_of(seeds, kind)

    def once(content: bytes) -> None:
        file.write_bytes(content)
        verdict = fuzz.judged(kind, path, right, Change(), sound)
        if verdict.verdict != "FAILED":
            return
        kept = out / kind
        kept.mkdir(parents=True, exist_ok=True)
        (kept / file.name).write_bytes(content)
        (kept / "WHY.txt").write_text(verdict.why, errors="backslashreplace")
        raise RuntimeError(f"{verdict.why[-2000:]}\nKept in {kept}")

    limits = [f"-max_total_time={seconds}", f"-max_len={4 * len(sound) + 4096}", "-rss_limit_mb=6000", "-timeout=60"]
    try:
        atheris.Setup([sys.argv[0], *limits, "-print_final_stats=1", f"-artifact_prefix={home}/", str(corpus)], once)
        atheris.Fuzz()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
