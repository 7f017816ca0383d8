"""Options of commands that look at scans with a network: which scan, which model, and who runs it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medsam.inference.predictor import Predictor
    from medsam.volume import Volume


def add_scan_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of every command that looks at one scan with one model."""
    parser.add_argument(
        "scan",
        type=Path,
        help="NIfTI, NRRD, MHA, picture, .npz, DICOM file, folder or zip of DICOM, or dicomweb:NAME/STUDY/SERIES",
    )
    add_view_arguments(parser)
    parser.add_argument("--series", metavar="UID", help="which DICOM series, when there are several")
    parser.add_argument("--frame", type=int, metavar="N", help="which volume of a 4D file, 0-based")
    parser.add_argument("--preview", type=Path, metavar="PNG", help="also write a picture of the result")


def add_view_arguments(parser: argparse.ArgumentParser) -> None:
    """With which model scans are looked at, and how."""
    parser.add_argument("--model", default="litemedsam", help="a known name (medsam models list) or a checkpoint file")
    parser.add_argument(
        "--axis", choices=("i", "j", "k"), help="slice axis (default: the one with the largest spacing)"
    )
    parser.add_argument("--window", default="auto", metavar="PRESET|L,W|auto", help="intensity window (default: auto)")
    parser.add_argument("--modality", help="CT, MR, ... when the file does not say, or says it wrong")
    add_network_arguments(parser)


def add_embeddings_argument(parser: argparse.ArgumentParser) -> None:
    """--embeddings, of every command that may use those that are kept."""
    parser.add_argument(
        "--embeddings", type=Path, metavar="DIR", help="keep embeddings in this folder and use those that are there"
    )


def add_clip_argument(parser: argparse.ArgumentParser) -> None:
    """--clip, of every command that asks heads by name."""
    parser.add_argument(
        "--clip",
        metavar="DIR",
        help="the CLIP that a head of names learnt with (default: $MEDSAM_CLIP), see docs/names.md",
    )


def add_trust_argument(parser: argparse.ArgumentParser) -> None:
    """--trust, of every command that says what Dice is expected."""
    parser.add_argument(
        "--trust", type=Path, metavar="FILE", help="expected Dice as medsam calibrate learnt it (default: as shipped)"
    )


def add_network_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of every command that runs a network."""
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument(
        "--engine",
        default="auto",
        choices=("auto", "torch", "openvino"),
        help="who runs the network, see docs/speed.md (default: auto, OpenVINO on a CPU)",
    )
    parser.add_argument(
        "--precision",
        default="auto",
        choices=("auto", "float32", "bfloat16", "float16", "int8"),
        help="of the image encoder; less is faster and changes masks a little, see docs/speed.md (default: auto, "
        "float32 on a CPU)",
    )


def checkpoint_file(model: str) -> list[Path]:
    """The file of a model that is one: an input that no output may hit."""
    return [Path(model)] if Path(model).is_file() else []


def plain_predictor(arguments: argparse.Namespace) -> Predictor:
    """The model that `add_view_arguments` names. Raises CheckpointError, AssetError and InputError."""
    from medsam.inference.embeddings import EmbeddingCache
    from medsam.inference.predictor import Predictor

    cache = EmbeddingCache(folder=getattr(arguments, "embeddings", None))
    return Predictor(arguments.model, arguments.device, cache, precision=arguments.precision, engine=arguments.engine)


def default_out(scan: Volume, path: Path, *, dicom: bool = False) -> Path:
    """`NAME.mask.nii.gz`, `.mask.png` for a picture, or `.mask.dcm`, in the current folder."""
    from medsam.io.formats import suffix_of

    stem = path.absolute().name
    if path.is_file():
        stem = stem.removesuffix(suffix_of(path.absolute()))
    flat = not scan.geometry.calibrated and scan.geometry.shape[0] == 1
    return Path(f"{stem}.mask{'.dcm' if dicom else '.png' if flat else '.nii.gz'}")
