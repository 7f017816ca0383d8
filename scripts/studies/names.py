"""What a head makes of names on patients it never saw: of right ones, wrong ones, none, and of what is nowhere.

    .venv/bin/python scripts/studies/names.py out/manifests/hippocampus_split.json --every 3 [--embeddings DIR]

The head answers its own names, a synonym of each, each other's name, no name (zeros), five structures that are nowhere
and were never shown as absent, and phrases that are no names. Dice of a volume over every n-th slice, volumes averaged
within a patient, then patients; slices below the card's threshold of presence are empty; small pieces stay.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
import yaml

from medsam.data.manifest import SPLITS
from medsam.data.manifest_json import read_manifest
from medsam.inference.by_name import NameReader
from medsam.inference.embeddings import EmbeddingCache
from medsam.inference.image_predictor import ImagePredictor
from medsam.labels import english, english_phrases, named
from medsam.metrics.detection import auroc
from medsam.models.heads import read_head, renamed, save_head
from medsam.models.name_bank import name_bank
from medsam.models.name_head import NameHead, slice_places
from medsam.models.text_encoder import phrase_encoder
from medsam.training.names import MISSES
from medsam.training.names_data import absent_names

CONFIG = Path(__file__).resolve().parents[2] / "configs/train/names_hippocampus.yaml"
# of each structure one that is in no table
PHRASES = {
    "hippocampus_anterior": "front part of the hippocampus",
    "hippocampus_posterior": "back part of the hippocampus",
}


@dataclass(frozen=True)
class Seen:
    """Of a slice and a question. shared, wanted: pixels of each structure in the mask, and at all."""

    case: str
    patient: str
    asked: str
    presence: float
    pixels: int
    shared: dict[str, int]
    wanted: dict[str, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--every", type=int, default=3)
    parser.add_argument("--head", default="names-hippocampus")
    parser.add_argument("--embeddings", type=Path, help="where they are kept")
    parser.add_argument("--record", type=Path, metavar="FILE", help="write --head there, with what was measured")
    arguments = parser.parse_args()
    cache = EmbeddingCache(memory_bytes=0, folder=arguments.embeddings)
    reader = NameReader(ImagePredictor("litemedsam", cache=cache), [arguments.head])
    head = reader.heads[0]
    data = yaml.safe_load(CONFIG.read_text())["data"]
    labels = {str(named(called)): label for label, called in data["names"].items()}
    questions = questions_of(tuple(labels), data["unsure"])
    cases = [case for case in read_manifest(arguments.manifest).cases if case.split == arguments.split]
    sam = head.with_decoder(reader.images.sam).eval()
    network = NameHead.of(head)
    rows = []
    for case in cases:
        rows += seen_of(case, reader.images, network, sam, questions, labels, arguments.every)
    slices = len(rows) // len(questions)
    print(f"{len(cases)} volumes, {len({row.patient for row in rows})} patients, {slices} slices")
    about = {"patients": len({row.patient for row in rows}), "cases": len(cases), "slices": slices}
    measured = {
        name: {
            "set": f"msd_hippocampus_mr, split {arguments.split}, one slice in {arguments.every}",
            **about,
            **report(name, rows, questions, float(head.card.thresholds[name])),
            "date": datetime.now(UTC).date().isoformat(),
        }
        for name in labels
    }
    if arguments.record is not None:
        save_head(renamed(read_head(Path(arguments.head)), measured=measured), arguments.record)


def questions_of(names: Sequence[str], unsure: Sequence[str]) -> dict[str, torch.Tensor]:
    """What is asked -> its embedding (384,)."""
    bank = name_bank()
    nowhere = np.random.default_rng(0).choice(absent_names(names, unsure, "test"), 5, replace=False)
    found = {name: bank.of(name)[0] for name in (*names, *map(str, nowhere))}
    found["no name"] = torch.zeros_like(found[names[0]])
    for name in names:
        found[f"synonym: {english_phrases(name)[2]}"] = bank.of(name)[2]
        found[f"phrase: {PHRASES[name]}"] = phrase_encoder().encode([PHRASES[name]])[0]
    return found


def seen_of(case, images, network, sam, questions, labels, every: int) -> Iterator[Seen]:
    """A case's slices."""
    scan = case.load_image()
    encoder, references = images.encoder_for(scan), case.load_references(scan)
    places = torch.from_numpy(slice_places(scan.geometry, encoder.plane.axis))
    asked = torch.stack(list(questions.values()))[None]
    for index in range(0, encoder.plane.count, every):
        embedding = encoder.encode(index)
        with torch.inference_mode():
            here = places[index].expand(1, len(questions), -1)
            logits, presence, _ = network.answer(sam, embedding.features, asked, here)
        masks = (embedding.frame.restore(logits[0].float()) > 0).numpy()
        truths = {name: encoder.plane.take(references[label], index) for name, label in labels.items()}
        for question, mask, there in zip(questions, masks, presence[0].tolist(), strict=True):
            shared = {name: int((mask & truth).sum()) for name, truth in truths.items()}
            wanted = {name: int(truth.sum()) for name, truth in truths.items()}
            yield Seen(case.id, case.patient, question, there, int(mask.sum()), shared, wanted)


def volume_dice(rows: Sequence[Seen], name: str, threshold: float) -> np.ndarray:
    """Of each patient."""
    by_case: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for row in rows:
        given = row.presence >= threshold
        sums = by_case[row.patient, row.case]
        sums[0] += 2 * row.shared[name] * given
        sums[1] += row.pixels * given + row.wanted[name]
    patients: dict[str, list[float]] = defaultdict(list)
    for (patient, _), (shared, both) in by_case.items():
        patients[patient].append(shared / both if both else np.nan)
    return np.array([np.nanmean(found) for found in patients.values()])


def report(name: str, rows: Sequence[Seen], questions: dict[str, torch.Tensor], threshold: float) -> dict[str, float]:
    """Print what there is to know of a structure; the figures of a card."""
    for question in questions:
        found = volume_dice([row for row in rows if row.asked == question], name, threshold)
        print(f"{english(name)} asked as {question!r}: {found.mean():.3f} (SE {found.std() / len(found) ** 0.5:.3f})")
    own = [row for row in rows if row.asked == name]
    print(f"  every slice taken to have it: {volume_dice(own, name, -np.inf).mean():.3f}")
    presence, there = np.array([row.presence for row in own]), np.array([row.wanted[name] >= 3 for row in own])
    alarm = np.quantile(presence[there], MISSES)
    missed, false = np.mean(presence[there] < threshold), np.mean(presence[~there] >= threshold)
    print(f"  presence: AUROC {auroc(presence, there):.3f}; missed {missed:.3f}; false alarms {false:.3f}")
    print(f"  at {MISSES:.0%} misses: false alarms {np.mean(presence[~there] >= alarm):.3f}")
    others = ("no name", "synonym: ", "phrase: ", *rows[0].wanted)
    nowhere = [row.presence for row in rows if not row.asked.startswith(others)]
    figures = {
        "dice": volume_dice(own, name, threshold).mean(),
        "presence_auc": auroc(presence, there),
        "missed_slices": missed,
        "false_alarm_slices": false,
        "absent_names_false_alarms": np.mean(np.array(nowhere) >= threshold),
    }
    return {key: round(float(value), 3) for key, value in figures.items()}


if __name__ == "__main__":
    main()
