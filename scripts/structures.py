"""Make the structures of the released architectures anew: after a change to what the network computes.

    .venv/bin/python scripts/structures.py [NAME ...]

Takes about a minute for LiteMedSAM and several for SAM's encoders. A structure has no weights, so the models are made
without. ViT-H has none: with its weights a graph does not fit into one file, which is the exporter's work.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import torch

from medsam.models.export import GRAPHS
from medsam.models.sam import Sam
from medsam.models.specs import SPECS, ModelSpec
from medsam.models.structures import make_structure, structure_name

FOLDER = Path(__file__).parents[1] / "medsam" / "models" / "structures"


def main(names: list[str]) -> None:
    FOLDER.mkdir(exist_ok=True)
    made: set[str] = set()
    for spec in (SPECS[name] for name in names or SPECS if name != "sam-vit-h"):
        sam = None
        for graph in GRAPHS:
            file = structure_name(spec, graph)
            if file not in made:
                sam = sam or empty(spec)
                # no time of day in it: the same structure is the same file
                (FOLDER / file).write_bytes(gzip.compress(make_structure(sam, graph), 9, mtime=0))
                made.add(file)
                print(f"{spec.name} {graph}: {file}, {(FOLDER / file).stat().st_size} bytes", flush=True)
    if not names:
        for old in FOLDER.glob("*.onnx.gz"):
            if old.name not in made:
                old.unlink()


def empty(spec: ModelSpec) -> Sam:
    """A model of whatever numbers lie in memory."""
    with torch.device("meta"):
        sam = Sam.from_spec(spec)
    return sam.to_empty(device="cpu").eval()


if __name__ == "__main__":
    main(sys.argv[1:])
