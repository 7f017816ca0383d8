"""A manifest: the list of cases that training and evaluation work through.

Three layouts are read, told apart by what the file says: our own (`cases`), a Medical Segmentation Decathlon
`dataset.json` (`training`), and an nnU-Net raw data set (`channel_names`, or images named `CASE_0000`). One is
written, our own; see docs/manifests.md for every key.

Reading a manifest opens no image. It does refuse one whose train, validation and test cases share a patient:
a number measured on such a split means nothing.

Sources of the foreign layouts: Antonelli et al. 2022 (Decathlon); the nnU-Net documentation, dataset format.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import os
import re
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any, Literal, get_args

import numpy as np

from medsam.errors import InputError, counted, printable
from medsam.geometry import VolumeGeometry
from medsam.io.files import is_whole, read_json
from medsam.io.labels import Ignore, load_labels, read_mask
from medsam.io.load import load_volume
from medsam.io.save import check_target
from medsam.masks import PackedMasks
from medsam.volume import Volume

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
Label = Path | dict[str, tuple[Path, ...]]

_SPLIT_WORDS: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
# what data sets call modalities -> DICOM's codes (PS3.3 C.7.3.1.1.1)
_MODALITY_WORDS = {
    "ct": "CT", "mr": "MR", "mri": "MR", "t1": "MR", "t1w": "MR", "t1gd": "MR", "t1ce": "MR", "t2": "MR",
    "t2w": "MR", "flair": "MR", "adc": "MR", "pet": "PT", "pt": "PT", "us": "US", "ultrasound": "US",
    "xray": "DX", "x-ray": "DX", "dx": "DX", "cr": "CR", "mg": "MG",
}  # fmt: skip

_MAX_LABEL = 2**32 - 1  # what the integers of any label format hold

_SHARED_KEYS = ("modality", "window", "spacing_mm", "labels", "threshold", "ignore", "aliases", "notes")
_MANIFEST_KEYS = ("name", "cases", *_SHARED_KEYS)
_CASE_KEYS = ("id", "patient", "image", "label", "split", "series", "frame", "label_frame", *_SHARED_KEYS)


@dataclass(frozen=True)
class Case:
    """One scan and its reference.

    id: unique in the manifest and fit for a file name. patient: whose scan it is; the id when nobody said, and then
        patient_stated is False.
    label: a file, or structure -> files of binary masks (several files of one structure are joined).
    split: None when not assigned. modality: DICOM code; overrides what the file says. window: as for
        `medsam segment --window`. spacing_mm: (i, j, k); overrides the file's.
    labels: structure -> value in the label map. dataset: the manifest's name.
    threshold, ignore, aliases: see `medsam.io.labels.load_labels`. series, frame: see `load_volume`.
    """

    id: str
    patient: str
    image: Path
    label: Label | None
    split: Split | None
    modality: str | None
    window: str | None
    spacing_mm: tuple[float, float, float] | None
    labels: dict[str, int]
    dataset: str
    threshold: float | None = None
    ignore: Ignore = ()
    aliases: dict[str, str] = field(default_factory=dict)
    series: str | None = None
    frame: int | None = None
    label_frame: int | None = None
    notes: str | None = None
    patient_stated: bool = field(default=True, compare=False, repr=False)

    def load_image(self) -> Volume:
        """The scan, with the case's modality and spacing in place of the file's. Raises InputError naming the case."""
        try:
            volume = load_volume(self.image, series=self.series, frame=self.frame)
            if self.spacing_mm is not None:
                volume = replace(volume, geometry=_respaced(volume.geometry, self.spacing_mm))
        except InputError as error:
            raise type(error)(f"Case {self.id}, image: {error}") from error
        return replace(volume, modality=self.modality) if self.modality else volume

    def load_references(self, scan: Volume) -> Mapping[str, np.ndarray]:
        """Structure -> bool (K, J, I) on the grid of `scan`, as `load_image` returned it.

        Every structure of `labels` (of a mapping: every structure it names) is there; one the file does not hold
        is all False. Masks are made when asked for: a hundred organs need the memory of one. What the user should
        know of the reading is in `medsam.io.labels.notes_on` the answer.
        Raises InputError naming the case.
        """
        geometry = scan.geometry
        if self.spacing_mm is not None:
            # the header is declared wrong, so only shapes can be compared
            geometry = VolumeGeometry.uncalibrated(geometry.shape)
        frame_of_reference = scan.uids.get("frame_of_reference")
        try:
            if self.label is None:
                raise InputError("it has no label.")
            if not isinstance(self.label, dict):
                return load_labels(
                    self.label,
                    geometry,
                    self.labels or None,
                    frame_of_reference=frame_of_reference,
                    threshold=self.threshold,
                    ignore=self.ignore,
                    aliases=self.aliases,
                    frame=self.label_frame,
                )
            masks, opened = PackedMasks(scan.geometry.shape), dict[Path, PackedMasks]()
            for name, paths in self.label.items():
                for path in paths:
                    notes: list[str] = []
                    mask = read_mask(
                        path,
                        geometry,
                        structure=name,
                        frame_of_reference=frame_of_reference,
                        threshold=self.threshold,
                        aliases=self.aliases,
                        frame=self.label_frame,
                        notes=notes,
                        opened=opened,
                    )
                    masks.add(name, mask, notes)
                if len(paths) > 1:
                    masks.add(name, None, [f"{name!r} is joined from {len(paths)} files."])
        except InputError as error:
            raise type(error)(f"Case {self.id}, label: {error}") from error
        return masks

    def made_from(self) -> str:
        """A digest of all that may change what is read: this entry, and its files' names, sizes and times."""
        files = [file for path in self.files for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
        marks = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
        return hashlib.sha256(repr((self, marks)).encode()).hexdigest()

    @property
    def files(self) -> tuple[Path, ...]:
        """The image and every label file."""
        return (self.image, *self.label_files)

    @property
    def label_files(self) -> tuple[Path, ...]:
        if self.label is None:
            return ()
        return (
            tuple(path for paths in self.label.values() for path in paths)
            if isinstance(self.label, dict)
            else (self.label,)
        )

    @property
    def structures(self) -> tuple[str, ...]:
        """The structures this case's label may hold."""
        if isinstance(self.label, dict):
            return tuple(self.label)
        return tuple(name for name, value in self.labels.items() if value != 0)


@dataclass(frozen=True)
class Manifest:
    """Cases of one data set. modality: of all its cases, or None. labels: structure -> value, of all its cases."""

    name: str
    modality: str | None
    labels: dict[str, int]
    cases: tuple[Case, ...]
    notes: str | None = None

    def of_split(self, split: Split) -> tuple[Case, ...]:
        return tuple(case for case in self.cases if case.split == split)


def read_manifest(path: str | Path) -> Manifest:
    """Read a manifest, a Decathlon or nnU-Net `dataset.json`, or the folder of one.

    Raises InputError when the file is damaged, a key is missing, unknown or of the wrong kind, two cases have one
    id, or a patient is in two splits. Files the cases name are not opened; `medsam data check` does that.
    """
    manifest = parse_manifest(path)
    for problem in cross_case_problems(manifest):
        raise InputError(f"{Path(path).name}: {problem}")
    return manifest


def parse_manifest(path: str | Path) -> Manifest:
    """`read_manifest` without looking across cases, for who wants to list all that is wrong."""
    path = _file_of(Path(path))
    content = read_json(path, unique=True)
    if not isinstance(content, dict):
        raise InputError(f"{path.name} is no manifest: it holds {_kind(content)}, not an object with `cases`.")
    try:
        if "cases" in content:
            return _read_ours(content, path.parent)
        if _is_nnunet(content, path.parent):
            return _read_nnunet(content, path.parent)
        if "training" in content:
            return _read_decathlon(content, path.parent)
    except (InputError, OSError) as error:  # OSError: a path no file system takes
        raise InputError(f"{path.name}: {error}") from error
    raise InputError(
        f"{path.name} is no manifest: it has neither `cases` (ours), `training` (Decathlon) nor `channel_names` "
        f"(nnU-Net), only {', '.join(map(repr, content)) or 'nothing'}."
    )


def check_files(needed: Iterable[tuple[str, Path]]) -> None:
    """Raise InputError naming the files that are not there. needed: (case, file)."""
    missing = [f"{case}: {path}" for case, path in needed if not path.exists()]
    if missing:
        files = counted(len(missing), "file of the manifest is", "files of the manifest are")
        raise InputError(
            f"{files} missing: {'; '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}. See medsam data check."
        )


def cross_case_problems(manifest: Manifest) -> Iterator[str]:
    """Sentences on ids used twice and patients in two splits."""
    seen: dict[str, Case] = {}
    for case in manifest.cases:
        if case.id in seen:
            yield f"two cases have the id {case.id!r} (images {seen[case.id].image.name} and {case.image.name})."
        seen.setdefault(case.id, case)
    # ids become file names, and some disks do not tell case apart
    folded: dict[str, str] = {}
    for name in seen:
        other = folded.setdefault(name.casefold(), name)
        if other != name:
            yield f"the ids {other!r} and {name!r} differ in case only; on some disks that is one file."
    splits: dict[str, dict[str, Case]] = {}
    for case in manifest.cases:
        if case.split is not None:
            splits.setdefault(case.patient, {}).setdefault(case.split, case)
    for patient, parts in splits.items():
        if len(parts) > 1:
            where = ", ".join(f"{split} (case {case.id})" for split, case in parts.items())
            yield (
                f"patient {patient!r} is in {len(parts)} splits: {where}. "
                "Train, validation and test must not share a patient; `medsam data split` keeps them apart."
            )


def write_manifest(manifest: Manifest, path: str | Path, *, force: bool = False) -> None:
    """Write our layout, with paths relative to the file, under a temporary name that is then renamed.

    What all cases share is written once. force: also over a manifest that holds something else. Raises InputError when
    `in_the_way` does.
    """
    path = Path(path)
    text = manifest_text(manifest, path)
    in_the_way({path: text}, force=force)
    write_text(path, text)


def in_the_way(texts: Mapping[Path, str], *, force: bool = False) -> None:
    """Raise InputError unless these manifests can be written without overwriting work.

    texts: path -> what is to be written. A file that holds just that is none in the way; another one is, as a person
    may have edited it, unless `force`, which overwrites a JSON file and nothing else.
    """
    others = []
    for path, text in texts.items():
        check_target(path)
        try:
            if not path.exists() or path.read_bytes() == text.encode():
                continue
        except OSError as error:
            raise InputError(f"{path} is there already and cannot be read: {error.strerror}. Name another.") from error
        if force and path.suffix.lower() != ".json":
            raise InputError(f"--force overwrites manifests, *.json; {path.name} is none. Name another --out.")
        others.append(path)
    if others and not force:
        names = ", ".join(map(str, others[:5])) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
        there = "is there already and holds" if len(others) == 1 else "are there already and hold"
        raise InputError(
            f"{names} {there} something else, perhaps edited by hand. Name another --out, or overwrite with --force."
        )


def manifest_text(manifest: Manifest, path: Path) -> str:
    """What `write_manifest` writes to `path`."""
    rows = [_row(case, path.parent) for case in manifest.cases]
    document: dict[str, Any] = {"name": manifest.name}
    if manifest.modality:
        document["modality"] = manifest.modality
        for row in rows:
            if row.get("modality") == manifest.modality:
                del row["modality"]
    document["labels"] = manifest.labels
    if manifest.notes:
        document["notes"] = manifest.notes
    for row in rows:
        if row.get("labels") == manifest.labels:
            del row["labels"]
    for key in ("window", "spacing_mm", "threshold", "ignore", "aliases"):
        values = [row.get(key) for row in rows]
        if values and values[0] is not None and all(value == values[0] for value in values):
            document[key] = values[0]
            for row in rows:
                del row[key]
    document["cases"] = rows
    head = _dumps({**document, "cases": []}, indent=1).removesuffix("[]\n}")
    # a case a line: a manifest is read by people and compared by diff
    lines = ",\n  ".join(map(_dumps, rows))
    # a byte of a file name that is no UTF-8 is written as JSON's escape, and read as that byte
    head, lines = (re.sub("[\udc80-\udcff]", lambda byte: f"\\u{ord(byte[0]):x}", text) for text in (head, lines))
    return head + (f"[\n  {lines}\n ]\n}}\n" if rows else "[]\n}\n")


def _dumps(value: object, indent: int | None = None) -> str:
    """JSON in letters; of file names that are no UTF-8, which hold halves of characters, in escapes."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return text if printable(text) == text else json.dumps(value, indent=indent)


def modality_code(word: object) -> str | None:
    """DICOM's code for what data sets call a modality ("MRI", "T1w", "PET"); None for words that are none."""
    text = str(word).strip()
    return _MODALITY_WORDS.get(text.lower()) or (text if re.fullmatch(r"[A-Z]{2,16}", text) else None)


def split_word(word: str) -> Split | None:
    """The split a word means ("training", "valid", ...), or None."""
    return _SPLIT_WORDS.get(word.lower())


# -- our layout ---------------------------------------------------------------------------------------------


def _read_ours(content: Mapping[str, Any], base: Path) -> Manifest:
    _check_keys(content, _MANIFEST_KEYS, "the manifest")
    rows = content["cases"]
    if not isinstance(rows, list):
        raise InputError(f"`cases` is {_kind(rows)}, not a list.")
    name = _text(content, "name", "the manifest") or base.absolute().name
    stated = "labels" in content
    labels = _labels(content.get("labels", {}), "the manifest")
    cases = []
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InputError(f"case {number} (0-based) is {_kind(row)}, not an object.")
        where = f"case {row.get('id', number)!r}"
        _check_keys(row, _CASE_KEYS, where)
        merged = {key: content[key] for key in _SHARED_KEYS if key in content and key != "notes"} | row
        cases.append(case_of(merged, base, name, where))
    own = ["labels" in row for row in rows]
    if not stated:
        # manifests of one mask a structure need no numbers; evaluation does
        for structure in (s for case in cases for s in case.structures):
            labels.setdefault(structure, 1 + max(labels.values(), default=0))
        cases = [case if has else replace(case, labels=dict(labels)) for case, has in zip(cases, own, strict=True)]
    manifest = Manifest(name, _text(content, "modality", "the manifest"), labels, tuple(cases), _notes(content))
    for case, has in zip(cases, own, strict=True):
        strangers = [s for s in case.structures if isinstance(case.label, dict) and s not in case.labels]
        if strangers and (stated or has):
            raise InputError(
                f"case {case.id!r}: `label` names {', '.join(map(repr, strangers))}, `labels` does not. "
                "Give each structure a number in `labels`, or leave `labels` out."
            )
    return manifest


def _notes(content: Mapping[str, Any]) -> str | None:
    notes = content.get("notes")
    if notes is not None and not isinstance(notes, str):
        raise InputError(f"the manifest: `notes` is {_kind(notes)}, not a text.")
    return notes or None


def case_of(row: Mapping[str, Any], base: Path, dataset: str, where: str) -> Case:
    """A case from its entry in our layout. base: what its paths are relative to. where: for messages."""
    for key in ("id", "image"):
        if key not in row:
            raise InputError(f"{where} has no `{key}`.")
    name = row["id"]
    if isinstance(name, int) and not isinstance(name, bool):
        name = str(name)
    if not isinstance(name, str):
        raise InputError(f"{where}: its `id` is {_kind(name)}, not a text.")
    check_id(name, where)
    spacing = row.get("spacing_mm")
    if spacing is not None:
        if not (isinstance(spacing, list) and len(spacing) == 3 and all(_positive(v) for v in spacing)):
            raise InputError(f"{where}: `spacing_mm` is {spacing!r}; expected three numbers above 0, for i, j, k.")
        spacing = (float(spacing[0]), float(spacing[1]), float(spacing[2]))
    split = row.get("split")
    if split is not None:
        if not isinstance(split, str) or split_word(split) is None:
            raise InputError(f"{where}: `split` is {split!r}; expected train, val or test.")
        split = split_word(split)
    threshold = row.get("threshold")
    if threshold is not None and not _number(threshold):
        raise InputError(f"{where}: `threshold` is {threshold!r}, not a number.")
    patient = row.get("patient", name)
    if not isinstance(patient, str | int) or isinstance(patient, bool) or not str(patient).strip():
        raise InputError(f"{where}: `patient` is {_kind(patient)}; expected a name that tells patients apart.")
    _check_letters(str(patient), f"{where}: `patient`")
    aliases = row.get("aliases", {})
    if not isinstance(aliases, dict) or not all(isinstance(v, str) for v in aliases.values()):
        raise InputError(f"{where}: `aliases` is no object of name in the file: structure.")
    for alias in aliases.values():
        _check_letters(alias, f"{where}: a structure in `aliases`")
    return Case(
        id=name,
        patient=str(patient),
        image=_path(row["image"], base, f"{where}: `image`"),
        label=_label(row.get("label"), base, where),
        split=split,
        modality=_text(row, "modality", where),
        window=_text(row, "window", where),
        spacing_mm=spacing,
        labels=_labels(row.get("labels", {}), where),
        dataset=dataset,
        threshold=None if threshold is None else float(threshold),
        ignore=_ignore(row.get("ignore", []), where),
        aliases=dict(aliases),
        series=_text(row, "series", where),
        frame=_count(row.get("frame"), f"{where}: `frame`"),
        label_frame=_count(row.get("label_frame"), f"{where}: `label_frame`"),
        notes=_text(row, "notes", where),
        patient_stated="patient" in row,
    )


def check_id(name: str, where: str) -> None:
    """Raise InputError unless `name` can be part of a file name on every system."""
    _check_letters(name, f"{where}: its `id`")
    if not name or name.startswith(".") or name != name.strip() or re.search(r'[\\/:*?"<>|]', name):
        raise InputError(f'{where}: its `id` must be fit for a file name: no / \\ : * ? " < > | and no leading dot.')


def _label(value: object, base: Path, where: str) -> Label | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        return _path(value, base, f"{where}: `label`")
    if not value:
        raise InputError(f"{where}: `label` is empty. Leave it out for a case without a reference.")
    masks: dict[str, tuple[Path, ...]] = {}
    for name, files in value.items():
        listed = files if isinstance(files, list) else [files]
        if not listed:
            raise InputError(f"{where}: `label` lists no file for {name!r}.")
        masks[name] = tuple(_path(file, base, f"{where}: `label` of {name!r}") for file in listed)
    return masks


def _path(value: object, base: Path, what: str) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise InputError(f"{what} is {_kind(value)}, not a path.")
    try:
        os.fsencode(value)  # bytes that are no UTF-8 come as surrogates and are a name on this disk; other ones are not
    except UnicodeEncodeError:
        raise InputError(f"{what} holds a letter that no file name can have: {value!r}.") from None
    return Path(os.path.normpath(base / value))


def _labels(value: object, where: str) -> dict[str, int]:
    """Structure -> value. Decathlon has it the other way round ({"1": "liver"}); both are read."""
    if not isinstance(value, dict):
        raise InputError(f'{where}: `labels` is {_kind(value)}, not an object such as {{"liver": 1}}.')
    if value and all(is_whole(str(key)) for key in value) and all(isinstance(name, str) for name in value.values()):
        value = _inverted(value, where)
    labels: dict[str, int] = {}
    for name, number in value.items():
        if isinstance(number, str) and is_whole(number):
            number = int(number)
        if isinstance(number, list):
            raise InputError(
                f"{where}: `labels` makes {name!r} a region of several values {number}; regions are not supported. "
                "Write a manifest that names each value."
            )
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= _MAX_LABEL:
            shown = repr(number) if len(repr(number)) < 30 else f"{repr(number)[:30]}..."
            raise InputError(f"{where}: the label {name!r} has the value {shown}; expected a whole number from 0.")
        _check_letters(name, f"{where}: a label's name")
        if not name.strip():
            raise InputError(f"{where}: label {number} has no name.")
        if number == 0:
            continue
        twin = next((other for other, taken in labels.items() if taken == number), None)
        if twin is not None:
            raise InputError(f"{where}: {twin!r} and {name!r} have the same label value {number}.")
        labels[name] = number
    return labels


def _inverted(value: Mapping[str, str], where: str) -> dict[str, int]:
    labels: dict[str, int] = {}
    for number, name in value.items():
        if name in labels and int(number) != 0:
            raise InputError(f"{where}: `labels` gives the name {name!r} to {labels[name]} and {number}.")
        labels[name] = int(number)
    return labels


def _ignore(value: object, where: str) -> Ignore:
    if value == "others":
        return "others"
    listed = value if isinstance(value, list) else [value]
    if not all(isinstance(v, int) and not isinstance(v, bool) and abs(v) <= _MAX_LABEL for v in listed):
        raise InputError(f'{where}: `ignore` is {value!r}; expected label values, or "others".')
    return tuple(listed)


def _row(case: Case, base: Path) -> dict[str, Any]:
    label: object = None
    if isinstance(case.label, dict):
        label = {
            name: _relative(paths[0], base) if len(paths) == 1 else [_relative(path, base) for path in paths]
            for name, paths in case.label.items()
        }
    elif case.label is not None:
        label = _relative(case.label, base)
    ignore: object = case.ignore if isinstance(case.ignore, str) else list(case.ignore)
    row: dict[str, Any] = {
        "id": case.id,
        "patient": case.patient,
        "image": _relative(case.image, base),
        "label": label,
        "split": case.split,
        "modality": case.modality,
        "window": case.window,
        "spacing_mm": None if case.spacing_mm is None else list(case.spacing_mm),
        "labels": case.labels or None,
        "threshold": case.threshold,
        "ignore": ignore or None,
        "aliases": case.aliases or None,
        "series": case.series,
        "frame": case.frame,
        "label_frame": case.label_frame,
        "notes": case.notes,
    }
    return {key: value for key, value in row.items() if value is not None}


def _relative(path: Path, base: Path) -> str:
    try:
        return Path(os.path.relpath(path.absolute(), base.resolve())).as_posix()
    except ValueError:  # another drive
        return path.absolute().as_posix()


def write_text(path: Path, text: str) -> None:
    """Write a file that appears under its name complete or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".medsam-", suffix=".json")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        # mkstemp makes files nobody else may read
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


# -- foreign layouts ----------------------------------------------------------------------------------------


def _file_of(path: Path) -> Path:
    if not path.exists():
        raise InputError(f"The manifest {path} does not exist.")
    if not path.is_dir():
        return path
    for name in ("manifest.json", "dataset.json"):
        if (path / name).is_file():
            return path / name
    raise InputError(
        f"The folder {path} holds neither manifest.json nor dataset.json. `medsam data index {path.name}` makes one."
    )


def _read_decathlon(content: Mapping[str, Any], base: Path) -> Manifest:
    name = _foreign_name(content, base)
    labels = _labels(content.get("labels", {}), "`labels`")
    channels = content.get("modality")
    words = list(channels.values()) if isinstance(channels, dict) else [] if channels is None else [channels]
    modality = modality_code(words[0]) if words else None
    rows: list[tuple[object, Split]] = []
    keys: tuple[tuple[str, Split], ...] = (("training", "train"), ("validation", "val"), ("test", "test"))
    for key, split in keys:
        listed = content.get(key, [])
        if not isinstance(listed, list):
            raise InputError(f"`{key}` is {_kind(listed)}, not a list.")
        rows += [(row, split) for row in listed]
    cases = []
    for row, split in rows:
        entry = row if isinstance(row, dict) else {"image": row}
        image = _path(entry.get("image"), base, f"an `image` of {split}")
        label = None if entry.get("label") is None else _path(entry["label"], base, f"a `label` of {split}")
        # several channels are the fourth axis of one file; the first is as good as any, and a manifest can say more
        frame = 0 if len(words) > 1 else None
        cases.append(_foreign_case(stem(image), image, label, split, modality, labels, name, frame=frame))
    return Manifest(name, modality, labels, tuple(cases))


def _is_nnunet(content: Mapping[str, Any], base: Path) -> bool:
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


def _read_nnunet(content: Mapping[str, Any], base: Path) -> Manifest:
    stated = content.get("labels", {})
    if not isinstance(stated, dict):
        raise InputError(f"`labels` is {_kind(stated)}, not an object.")
    raw = dict(stated)
    ignored = raw.pop("ignore", None)
    labels = _labels(raw, "`labels`")
    ignore = (ignored,) if isinstance(ignored, int) else ()
    channels = content.get("channel_names") or content.get("modality") or {}
    modality = modality_code(next(iter(channels.values()))) if isinstance(channels, dict) and channels else None
    name = _foreign_name(content, base)
    ending = content.get("file_ending")
    cases = []
    listed = content.get("dataset")
    if isinstance(listed, dict):
        for case, entry in listed.items():
            images = entry.get("images") if isinstance(entry, dict) else None
            if not isinstance(images, list) or not images:
                raise InputError(f"`dataset` lists no images for {case!r}.")
            image = _path(images[0], base, f"{case!r}: `images`")
            label = None if entry.get("label") is None else _path(entry["label"], base, f"{case!r}: `label`")
            cases.append(_foreign_case(case, image, label, "train", modality, labels, name, ignore=ignore))
        return Manifest(name, modality, labels, tuple(cases))
    folders: tuple[tuple[str, Split], ...] = (("Tr", "train"), ("Ts", "test"))
    for suffix, split in folders:
        folder = base / f"images{suffix}"
        for image in sorted(folder.glob("[!.]*_0000.*")) if folder.is_dir() else []:
            end = image.name[image.name.rindex("_0000") + 5 :]
            case = image.name[: -len(end) - 5]
            label = base / f"labels{suffix}" / f"{case}{ending or end}"
            # a training case has a label, and `check` says so when it is missing; a test case may have none
            has_label = split == "train" or label.exists()
            cases.append(
                _foreign_case(case, image, label if has_label else None, split, modality, labels, name, ignore=ignore)
            )
    if not cases:
        raise InputError(f"{base.name}/imagesTr holds no image named CASE_0000.*.")
    return Manifest(name, modality, labels, tuple(cases))


def _foreign_name(content: Mapping[str, Any], base: Path) -> str:
    """The name that a foreign manifest, or else its folder, has, without control characters."""
    return printable(str(content.get("name") or base.absolute().name)).replace("\n", " ").strip() or "manifest"


def _foreign_case(
    name: str,
    image: Path,
    label: Path | None,
    split: Split,
    modality: str | None,
    labels: dict[str, int],
    dataset: str,
    *,
    ignore: Ignore = (),
    frame: int | None = None,
) -> Case:
    check_id(name, f"case {name!r}")
    return Case(
        id=name,
        patient=name,
        image=image,
        label=label,
        split=split,
        modality=modality,
        window=None,
        spacing_mm=None,
        labels=labels,
        dataset=dataset,
        ignore=ignore,
        frame=frame,
        patient_stated=False,
    )


def stem(path: PurePath) -> str:
    """A file's name without its suffix, `.nii.gz` counting as one; a folder's name."""
    name = path.name
    for suffix in (".nii.gz", path.suffix):
        if suffix and name.lower().endswith(suffix.lower()):
            return name[: -len(suffix)]
    return name


# -- small checks -------------------------------------------------------------------------------------------


def _check_keys(content: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in content:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else f" Known are {', '.join(known)}."
            raise InputError(f"{where} has an unknown key {key!r}.{hint}")


def _respaced(geometry: VolumeGeometry, spacing_mm: tuple[float, float, float]) -> VolumeGeometry:
    affine = geometry.affine.copy()
    affine[:3, :3] *= np.asarray(spacing_mm) / geometry.spacing_mm[::-1]
    return VolumeGeometry(geometry.shape, affine)


def _text(content: Mapping[str, Any], key: str, where: str) -> str | None:
    value = content.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where}: `{key}` is {_kind(value)}, not a text.")
    if key != "notes":
        _check_letters(value, f"{where}: `{key}`")
    return value.strip()


def _check_letters(text: str, what: str) -> None:
    """Raise InputError for what is no letter: control characters, and halves of a character (no file can hold them)."""
    if printable(text) != text or "\n" in text:
        raise InputError(f"{what} holds control characters or broken letters: {printable(text)!r}.")


def _count(value: object, what: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_LABEL:
        raise InputError(f"{what} is {value!r}; expected a whole number from 0.")
    return value


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _positive(value: object) -> bool:
    return _number(value) and value > 0  # type: ignore[operator]


def _kind(value: object) -> str:
    if value is None:
        return "missing"
    if isinstance(value, Collection) and len(value) == 0:
        return "empty"
    return {dict: "an object", list: "a list", str: "a text", bool: "true or false"}.get(type(value), repr(value))
