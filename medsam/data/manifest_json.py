"""Manifests as files.

Three layouts are read, recognised by the file's content: our own (`cases`), a Medical Segmentation Decathlon
`dataset.json` (`training`), and an nnU-Net raw data set (`channel_names`, or images named `CASE_0000`). One is
written, our own; see docs/manifests.md for every key.

Reading a manifest opens no image.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medsam.data import fields
from medsam.data.foreign import is_nnunet, read_decathlon, read_nnunet
from medsam.data.manifest import Case, Manifest, cross_case_problems
from medsam.errors import InputError, listed, printable
from medsam.files import write_text
from medsam.io.files import read_json
from medsam.io.save import check_target

_SHARED_KEYS = ("modality", "window", "spacing_mm", "labels", "threshold", "ignore", "aliases", "notes")
_MANIFEST_KEYS = ("name", "cases", *_SHARED_KEYS)
_CASE_KEYS = ("id", "patient", "image", "label", "split", "series", "frame", "label_frame", "attributes", *_SHARED_KEYS)


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
        raise InputError(f"{path.name} is no manifest: it holds {fields.kind(content)}, not an object with `cases`.")
    try:
        if "cases" in content:
            return _read_ours(content, path.parent)
        if is_nnunet(content, path.parent):
            return read_nnunet(content, path.parent)
        if "training" in content:
            return read_decathlon(content, path.parent)
    except (InputError, OSError) as error:  # OSError: a path no file system takes
        raise InputError(f"{path.name}: {error}") from error
    raise InputError(
        f"{path.name} is no manifest: it has neither `cases` (ours), `training` (Decathlon) nor `channel_names` "
        f"(nnU-Net), only {', '.join(map(repr, content)) or 'nothing'}."
    )


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


# -- reading our layout -----------------------------------------------------------------------------------------


def _read_ours(content: Mapping[str, Any], base: Path) -> Manifest:
    fields.check_keys(content, _MANIFEST_KEYS, "the manifest")
    rows = content["cases"]
    if not isinstance(rows, list):
        raise InputError(f"`cases` is {fields.kind(rows)}, not a list.")
    name = fields.text(content, "name", "the manifest") or base.absolute().name
    labels = fields.labels_of(content.get("labels", {}), "the manifest")
    cases = _cases(rows, content, base, name)
    own = ["labels" in row for row in rows]
    if "labels" not in content:
        # manifests of one mask a structure need no numbers; evaluation does
        for structure in (s for case in cases for s in case.structures):
            labels.setdefault(structure, 1 + max(labels.values(), default=0))
        cases = [case if has else replace(case, labels=dict(labels)) for case, has in zip(cases, own, strict=True)]
    manifest = Manifest(name, fields.text(content, "modality", "the manifest"), labels, tuple(cases), _notes(content))
    _check_numbered([case for case, has in zip(cases, own, strict=True) if has or "labels" in content])
    return manifest


def _cases(rows: Sequence[object], content: Mapping[str, Any], base: Path, dataset: str) -> list[Case]:
    """A case a row, with what the manifest says of all of them."""
    cases = []
    for place, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InputError(f"case {place} (0-based) is {fields.kind(row)}, not an object.")
        where = f"case {row.get('id', place)!r}"
        fields.check_keys(row, _CASE_KEYS, where)
        merged = {key: content[key] for key in _SHARED_KEYS if key in content and key != "notes"} | row
        cases.append(case_of(merged, base, dataset, where))
    return cases


def _check_numbered(cases: Sequence[Case]) -> None:
    """Raise InputError for a mask of a structure that `labels` has no number for."""
    for case in cases:
        unknown = [s for s in case.structures if isinstance(case.label, dict) and s not in case.labels]
        if unknown:
            raise InputError(
                f"case {case.id!r}: `label` names {', '.join(map(repr, unknown))}, `labels` does not. "
                "Give each structure a number in `labels`, or leave `labels` out."
            )


def _notes(content: Mapping[str, Any]) -> str | None:
    notes = content.get("notes")
    if notes is not None and not isinstance(notes, str):
        raise InputError(f"the manifest: `notes` is {fields.kind(notes)}, not a text.")
    return notes or None


def case_of(row: Mapping[str, Any], base: Path, dataset: str, where: str) -> Case:
    """A case from its entry in our layout. base: what its paths are relative to. where: for messages."""
    for key in ("id", "image"):
        if key not in row:
            raise InputError(f"{where} has no `{key}`.")
    name = fields.case_id(row["id"], where)
    return Case(
        id=name,
        spacing_mm=fields.spacing_mm(row.get("spacing_mm"), where),
        split=fields.split_of(row.get("split"), where),
        threshold=fields.number(row.get("threshold"), f"{where}: `threshold`"),
        patient=fields.patient(row.get("patient", name), where),
        aliases=fields.aliases_of(row.get("aliases", {}), where),
        image=fields.path_of(row["image"], base, f"{where}: `image`"),
        label=fields.label_of(row.get("label"), base, where),
        modality=fields.text(row, "modality", where),
        window=fields.text(row, "window", where),
        labels=fields.labels_of(row.get("labels", {}), where),
        dataset=dataset,
        ignore=fields.ignore_of(row.get("ignore", []), where),
        series=fields.text(row, "series", where),
        frame=fields.count(row.get("frame"), f"{where}: `frame`"),
        label_frame=fields.count(row.get("label_frame"), f"{where}: `label_frame`"),
        notes=fields.text(row, "notes", where),
        attributes=fields.attributes_of(row.get("attributes", {}), where),
        patient_stated="patient" in row,
    )


# -- writing it -------------------------------------------------------------------------------------------------


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
            raise InputError(
                f"`force` overwrites manifests, *.json; {path.name} is none. Name another file.", parameter="force"
            )
        others.append(path)
    if others and not force:
        names = listed(others, 5)
        there = "is there already and holds" if len(others) == 1 else "are there already and hold"
        raise InputError(
            f"{names} {there} something else, perhaps edited by hand. Name another file, or overwrite with `force`.",
            parameter="force",
        )


def manifest_text(manifest: Manifest, path: Path) -> str:
    """What `write_manifest` writes to `path`."""
    rows = [_row(case, path.parent) for case in manifest.cases]
    document = _shared(manifest, rows)
    head = _dumps({**document, "cases": []}, indent=1).removesuffix("[]\n}")
    # a case a line: a manifest is read by people and compared by diff
    lines = ",\n  ".join(map(_dumps, rows))
    # a byte of a file name that is no UTF-8 is written as JSON's escape, and read as that byte
    head, lines = (re.sub("[\udc80-\udcff]", lambda byte: f"\\u{ord(byte[0]):x}", text) for text in (head, lines))
    return head + (f"[\n  {lines}\n ]\n}}\n" if rows else "[]\n}\n")


def _shared(manifest: Manifest, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What is written once for all cases; it is taken out of their rows."""
    document: dict[str, Any] = {"name": manifest.name}
    if manifest.modality:
        document["modality"] = manifest.modality
    document["labels"] = manifest.labels
    if manifest.notes:
        document["notes"] = manifest.notes
    for row in rows:
        for key in ("modality", "labels"):
            if key in document and row.get(key) == document[key]:
                del row[key]
    for key in ("window", "spacing_mm", "threshold", "ignore", "aliases"):
        values = [row.get(key) for row in rows]
        if values and values[0] is not None and all(value == values[0] for value in values):
            document[key] = values[0]
            for row in rows:
                del row[key]
    return document


def _dumps(value: object, indent: int | None = None) -> str:
    """JSON in letters; of file names that are no UTF-8, which hold halves of characters, in escapes."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return text if printable(text) == text else json.dumps(value, indent=indent)


def document_of(case: Case) -> dict[str, Any]:
    """A case as its entry in our layout, with absolute paths: what `case_of` reads wherever it is kept."""
    return _row(case, None)


def _row(case: Case, base: Path | None) -> dict[str, Any]:
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
        "attributes": dict(case.attributes) or None,
    }
    return {key: value for key, value in row.items() if value is not None}


def _relative(path: Path, base: Path | None) -> str:
    """base: what paths are relative to; None: nothing."""
    if base is None:
        return path.absolute().as_posix()
    try:
        return Path(os.path.relpath(path.absolute(), base.resolve())).as_posix()
    except ValueError:  # another drive
        return path.absolute().as_posix()
