"""Lists of cases that others wrote: a Medical Segmentation Decathlon `dataset.json`, an nnU-Net raw data set.

Patients are not named in either, so each case counts as one until `patients` has looked at the names.
Sources: Antonelli et al. 2022 (Decathlon); the nnU-Net documentation, dataset format.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from medsam.data import fields
from medsam.data.manifest import Case, Manifest, Split
from medsam.data.words import modality_code, stem
from medsam.errors import InputError, printable
from medsam.io.label_map import Ignore


def read_decathlon(content: Mapping[str, Any], base: Path) -> Manifest:
    """The cases a Decathlon `dataset.json` lists. base: its folder."""
    name = _name(content, base)
    labels = fields.labels_of(content.get("labels", {}), "`labels`")
    channels = content.get("modality")
    words = list(channels.values()) if isinstance(channels, dict) else [] if channels is None else [channels]
    modality = modality_code(words[0]) if words else None
    # several channels are the fourth axis of one file; the first is as good as any, and a manifest can say more
    common = _common(name, modality, labels, frame=0 if len(words) > 1 else None)
    rows: list[tuple[object, Split]] = []
    keys: tuple[tuple[str, Split], ...] = (("training", "train"), ("validation", "val"), ("test", "test"))
    for key, split in keys:
        listed = content.get(key, [])
        if not isinstance(listed, list):
            raise InputError(f"`{key}` is {fields.kind(listed)}, not a list.")
        rows += [(row, split) for row in listed]
    cases = []
    for row, split in rows:
        entry = row if isinstance(row, dict) else {"image": row}
        image = fields.path_of(entry.get("image"), base, f"an `image` of {split}")
        label = None if entry.get("label") is None else fields.path_of(entry["label"], base, f"a `label` of {split}")
        cases.append(_case(common, stem(image), image, label, split))
    return Manifest(name, modality, labels, tuple(cases))


def is_nnunet(content: Mapping[str, Any], base: Path) -> bool:
    """Whether a `dataset.json` without `cases` is nnU-Net's."""
    if "channel_names" in content:
        return True
    # version 1 wrote Decathlon's keys, but named files CASE_0000
    training = content.get("training")
    if not isinstance(training, list) or not training or not isinstance(training[0], dict):
        return False
    image = training[0].get("image")
    if not isinstance(image, str) or (base / image).exists():
        return False
    name = Path(image).name
    return (base / image).with_name(f"{stem(Path(name))}_0000{name[len(stem(Path(name))) :]}").exists()


def read_nnunet(content: Mapping[str, Any], base: Path) -> Manifest:
    """The training cases of an nnU-Net raw data set, and the test cases beside them. base: its folder."""
    stated = content.get("labels", {})
    if not isinstance(stated, dict):
        raise InputError(f"`labels` is {fields.kind(stated)}, not an object.")
    raw = dict(stated)
    ignored = raw.pop("ignore", None)
    labels = fields.labels_of(raw, "`labels`")
    channels = content.get("channel_names") or content.get("modality") or {}
    modality = modality_code(next(iter(channels.values()))) if isinstance(channels, dict) and channels else None
    name = _name(content, base)
    common = _common(name, modality, labels, ignore=(ignored,) if isinstance(ignored, int) else ())
    listed = content.get("dataset")
    cases = _listed(listed, base, common) if isinstance(listed, dict) else _in_folders(content, base, common)
    return Manifest(name, modality, labels, tuple(cases))


def _listed(listed: Mapping[str, Any], base: Path, common: Case) -> Iterator[Case]:
    """Cases that the file names one by one."""
    for case, entry in listed.items():
        images = entry.get("images") if isinstance(entry, dict) else None
        if not isinstance(images, list) or not images:
            raise InputError(f"`dataset` lists no images for {case!r}.")
        image = fields.path_of(images[0], base, f"{case!r}: `images`")
        label = None if entry.get("label") is None else fields.path_of(entry["label"], base, f"{case!r}: `label`")
        yield _case(common, case, image, label, "train")


def _in_folders(content: Mapping[str, Any], base: Path, common: Case) -> list[Case]:
    """Cases by the names of files: imagesTr/CASE_0000 with labelsTr/CASE."""
    ending = content.get("file_ending")
    cases = []
    folders: tuple[tuple[str, Split], ...] = (("Tr", "train"), ("Ts", "test"))
    for suffix, split in folders:
        folder = base / f"images{suffix}"
        for image in sorted(folder.glob("[!.]*_0000.*")) if folder.is_dir() else []:
            end = image.name[image.name.rindex("_0000") + 5 :]
            case = image.name[: -len(end) - 5]
            label = base / f"labels{suffix}" / f"{case}{ending or end}"
            # a training case has a label, and `check` says so when it is missing; a test case may have none
            has_label = split == "train" or label.exists()
            cases.append(_case(common, case, image, label if has_label else None, split))
    if not cases:
        raise InputError(f"{base.name}/imagesTr holds no image named CASE_0000.*.")
    return cases


def _name(content: Mapping[str, Any], base: Path) -> str:
    """The name that a foreign manifest, or else its folder, has, without control characters."""
    return printable(str(content.get("name") or base.absolute().name)).replace("\n", " ").strip() or "manifest"


def _common(
    dataset: str,
    modality: str | None,
    labels: dict[str, int],
    *,
    ignore: Ignore = (),
    frame: int | None = None,
) -> Case:
    """What all cases of a data set have, in a case without a name and a scan."""
    return Case(
        id="",
        patient="",
        image=Path(),
        label=None,
        split=None,
        modality=modality,
        window=None,
        spacing_mm=None,
        labels=labels,
        dataset=dataset,
        ignore=ignore,
        frame=frame,
        patient_stated=False,
    )


def _case(common: Case, name: str, image: Path, label: Path | None, split: Split) -> Case:
    fields.check_id(name, f"case {name!r}")
    return replace(common, id=name, patient=name, image=image, label=label, split=split)
