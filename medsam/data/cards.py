"""Cards of known data sets, and the recipes that turn their folders into manifests.

A card (`datasets/NAME/card.yaml`) states source, licence, modality and label map of a public data set. Its recipe is
a list of rules of path templates, not code:

  image: "imagesTr/{case}.nii.gz"        {case} stands for anything but "/", {n:\\d+} for what the expression matches
  label: "labelsTr/{case}.nii.gz"        filled in from the image's fields; fields of its own name the structure:
         "masks/{case}_{structure}.png"  one mask a structure
  id, patient, split, modality, notes:   templates over the same fields
  fields:                                further fields: {of: n, size: 2, start: 1} numbers blocks of n,
                                         {of: kind, values: {PET: PT}} looks a value up

An image whose label is not there is left out and counted, unless the rule says `unlabelled: true`.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medsam.data.manifest import Case, Label, Manifest
from medsam.data.manifest_json import case_of, parse_manifest
from medsam.errors import InputError, counted
from medsam.io.files import is_whole

REQUIRED = ("name", "title", "modality", "labels", "source", "licence", "cases")
_OPTIONAL = ("folder", "recipe", "notes", "reference", "structures", "not_checked")
_SOURCE_KEYS = ("citation", "url", "doi")
# of a rule: templates, and what goes into every case as it is
_FILLED_KEYS = ("patient", "split", "modality", "notes")
_FIXED_KEYS = ("window", "spacing_mm", "threshold", "ignore", "aliases", "frame", "label_frame")
_OTHER_KEYS = ("image", "label", "id", "labels", "labels_from", "fields", "exclude", "unlabelled")
# labels_from: {file: labels.json, key: ct_full} reads {"1": "spleen", ...} under that key
_FIELD = re.compile(r"\{(\w+)(?::((?:[^{}]|\{[\d,]+\})*))?\}")


@dataclass(frozen=True)
class Card:
    """A card. modalities: DICOM codes. labels: structure -> value. recipe: its rules, unread; () when it has none.

    folder: what the data set's folder is usually called. source: citation, url, doi.
    not_checked: names of fields taken from memory or from others, not from the data itself.
    """

    name: str
    title: str
    modalities: tuple[str, ...]
    labels: dict[str, int]
    source: dict[str, str]
    licence: str
    cases: str
    folder: str
    recipe: tuple[dict[str, Any], ...]
    reference: str | None
    notes: str | None
    not_checked: tuple[str, ...]
    path: Path

    @property
    def modality(self) -> str | None:
        """The one modality of all its cases, if there is one."""
        return self.modalities[0] if len(self.modalities) == 1 else None


@dataclass(frozen=True)
class RecipeResult:
    """A manifest made by a recipe. without_label: images left out for want of a label."""

    manifest: Manifest
    without_label: tuple[Path, ...]


def cards_folder() -> Path:
    """Where the cards lie: inside an installed package, or `datasets/` of a checkout.

    Raises InputError when there are none, saying what to do.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "data" / "cards", package.parent / "datasets"):
        if any(folder.glob("*/card.yaml")):
            return folder
    raise InputError(
        "There are no data set cards here: this medsam was installed without the `datasets` folder of its repository. "
        "Run from a checkout, or pass the file of one as `card`.",
        parameter="card",
    )


def list_cards() -> tuple[Card, ...]:
    """All cards, by name."""
    return tuple(read_card(path) for path in sorted(cards_folder().glob("*/card.yaml")))


def find_card(name: str) -> Card:
    """The card of that name. Raises InputError listing the names there are."""
    folder = cards_folder()
    names = sorted(path.parent.name for path in folder.glob("*/card.yaml"))
    if name not in names:
        raise InputError(f"There is no card {name!r}. There are: {', '.join(names)}.")
    return read_card(folder / name / "card.yaml")


def read_card(path: str | Path) -> Card:
    """Read and check one card. Raises InputError naming the key that is wrong."""
    path = Path(path)
    where = f"The card {path.parent.name}/{path.name}"
    content = _content(path, where)
    source, labels = content["source"], content["labels"]
    if not isinstance(source, dict) or not source.get("citation") or set(source) - set(_SOURCE_KEYS):
        raise InputError(f"{where}: `source` needs a `citation`, and may have `url` and `doi`.")
    if not isinstance(labels, dict) or not all(isinstance(v, int) and v > 0 for v in labels.values()):
        raise InputError(f"{where}: `labels` must map each structure to a whole number from 1.")
    if len(set(labels.values())) < len(labels):
        raise InputError(f"{where}: two structures have the same label value.")
    rules = _listed(content.get("recipe") or [])
    for rule in rules:
        _check_rule(rule, where)
    return Card(
        name=str(content["name"]),
        title=str(content["title"]),
        modalities=tuple(map(str, _listed(content["modality"]))),
        labels={str(name): value for name, value in labels.items()},
        source={str(key): str(value) for key, value in source.items()},
        licence=str(content["licence"]),
        cases=str(content["cases"]),
        folder=str(content.get("folder") or content["name"]),
        recipe=tuple(rules),
        reference=content.get("reference"),
        notes=content.get("notes"),
        not_checked=tuple(content.get("not_checked") or ()),
        path=path,
    )


def _content(path: Path, where: str) -> dict[str, Any]:
    """The keys of a card, all that are needed and none that is unknown."""
    import yaml  # type: ignore[import-untyped]

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"The card {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"The card {path} is not valid YAML ({' '.join(str(error).split())}).") from error
    if not isinstance(content, dict):
        raise InputError(f"{where} holds no keys.")
    missing = [key for key in REQUIRED if not content.get(key)]
    unknown = [key for key in content if key not in (*REQUIRED, *_OPTIONAL)]
    if missing or unknown:
        wrong = [f"lacks {key}" for key in missing] + [f"has the unknown key {key}" for key in unknown]
        raise InputError(f"{where} {', '.join(wrong)}.")
    return content


def _listed(value: Any) -> list[Any]:
    """What may be written as one value, or as a list."""
    return value if isinstance(value, list) else [value]


def _check_rule(rule: object, where: str) -> None:
    if not isinstance(rule, dict) or not ("image" in rule or set(rule) == {"manifest"}):
        raise InputError(f"{where}: a rule of `recipe` needs an `image`, or is `manifest: FILE` alone.")
    unknown = set(rule) - {*_FILLED_KEYS, *_FIXED_KEYS, *_OTHER_KEYS, "manifest"}
    if unknown:
        raise InputError(f"{where}: a rule of `recipe` has the unknown key {', '.join(sorted(unknown))}.")
    if "image" in rule:
        _pattern(rule["image"], where)
        _check_image_rule(rule, where)


def _check_image_rule(rule: Mapping[str, Any], where: str) -> None:
    fields = rule.get("fields", {})
    shapes = [
        isinstance(how, dict)
        and isinstance(how.get("of"), str)
        and (isinstance(how.get("values"), dict) or _whole(how))
        for how in (fields.values() if isinstance(fields, dict) else [None])
    ]
    if not all(shapes):
        raise InputError(
            f"{where}: `fields` needs {{of: FIELD, size: N, start: N}} or {{of: FIELD, values: ...}} each."
        )
    if not isinstance(rule.get("exclude", []), list) or not all(isinstance(v, str) for v in rule.get("exclude", [])):
        raise InputError(f"{where}: `exclude` is no list of ids.")
    source = rule.get("labels_from", {"file": "", "key": ""})
    if not isinstance(source, dict) or set(source) != {"file", "key"}:
        raise InputError(f"{where}: `labels_from` needs a `file` and a `key` in it.")
    label = rule.get("label")
    if not isinstance(label, str | dict | None):
        raise InputError(f"{where}: `label` is no template, nor a mapping of structures to templates.")


def _whole(how: Mapping[str, Any]) -> bool:
    size, start = how.get("size"), how.get("start", 0)
    return isinstance(size, int) and size > 0 and isinstance(start, int)


def build(card: Card, root: str | Path) -> RecipeResult:
    """Follow a card's recipe in `root`, which is the data set's folder or the folder that holds it.

    Raises InputError when the card has no recipe, the folder is not there, or no image is found.
    """
    # absolute: the recipe's own paths are joined to it more than once
    root = Path(root).absolute()
    if not root.is_dir():
        raise InputError(f"{root} is not a folder.")
    if not card.recipe:
        raise InputError(f"The card {card.name} has no recipe. `medsam data index` looks through a folder without one.")
    if (root / card.folder).is_dir():
        root = root / card.folder
    cases: list[Case] = []
    without: list[Path] = []
    for rule in card.recipe:
        if "manifest" in rule:
            cases += _with_labels(parse_manifest(root / rule["manifest"]), card).cases
            continue
        for case in _follow(rule, card, root):
            if isinstance(case, Path):
                without.append(case)
            else:
                cases.append(case)
    if not cases:
        looked = ", ".join(str(rule.get("image", rule.get("manifest"))) for rule in card.recipe[:3])
        why = f"; {counted(len(without), 'image has', 'images have')} no label" if without else ""
        raise InputError(f"{card.name}: nothing in {root} fits the recipe ({looked}){why}.")
    ids = [case.id for case in cases]
    twins = sorted({name for name in ids if ids.count(name) > 1})
    if twins:
        raise InputError(f"{card.name}: the recipe makes several cases with the id {twins[0]!r}.")
    notes = f"{card.title}. Reference: {card.reference}. Licence: {card.licence}."
    return RecipeResult(Manifest(card.name, card.modality, card.labels, tuple(cases), notes), tuple(without))


def _with_labels(manifest: Manifest, card: Card) -> Manifest:
    """A foreign manifest under the card's name and label map; its modality where the file has none."""
    from dataclasses import replace

    cases = [
        replace(case, labels=card.labels, dataset=card.name, modality=case.modality or card.modality)
        for case in manifest.cases
    ]
    return replace(manifest, cases=tuple(cases))


def _follow(rule: Mapping[str, Any], card: Card, root: Path) -> Iterator[Case | Path]:
    """The cases of one rule; of an image without its label, the image."""
    where = f"{card.name}, rule {rule['image']}"
    pattern = _pattern(rule["image"], where)
    exclude = set(rule.get("exclude") or ())
    lister = _Lister(root)
    for path, text in lister.like(rule["image"]):
        match = pattern.fullmatch(text)
        if match is None:
            continue
        values = {key: value for key, value in match.groupdict().items() if value is not None}
        _derive(values, rule.get("fields") or {}, where)
        name = _fill(rule["id"], values, where) if "id" in rule else "_".join(match.groups()) or path.name
        if name in exclude:
            continue
        label = _label_of(rule.get("label"), values, lister, where)
        if label is None and not rule.get("unlabelled"):
            yield path
            continue
        row = {"id": name, "image": str(path), "labels": _labels_of(rule, card, values, root, where)}
        row["modality"] = card.modality
        row |= {key: _fill(rule[key], values, where) for key in _FILLED_KEYS if key in rule}
        row |= {key: rule[key] for key in _FIXED_KEYS if key in rule}
        yield case_of(row | _label_entry(label, row["labels"], where), root, card.name, where)


def _label_entry(label: Label | None, labels: Any, where: str) -> dict[str, Any]:
    """`label` as a manifest has it. Raises InputError for a mask of a structure without a number."""
    if label is None:
        return {}
    if not isinstance(label, dict):
        return {"label": str(label)}
    unknown = [structure for structure in label if structure not in labels]
    if unknown:
        raise InputError(f"{where}: the mask of {unknown[0]!r} is of no structure the card names.")
    return {"label": {structure: [str(one) for one in paths] for structure, paths in label.items()}}


def _derive(values: dict[str, str], fields: Mapping[str, Mapping[str, Any]], where: str) -> None:
    for name, how in fields.items():
        given = values.get(how.get("of", ""))
        if given is None:
            raise InputError(
                f"{where}: the field {name!r} is made of {how.get('of')!r}, which the image does not have."
            )
        if "values" in how:
            if given not in how["values"]:
                raise InputError(f"{where}: `fields` does not say what {name!r} is for {given!r}.")
            values[name] = str(how["values"][given])
        elif not is_whole(given):
            raise InputError(f"{where}: {name!r} numbers blocks of {how['of']!r}, which is {given!r} here, no number.")
        else:
            values[name] = str((int(given) - how.get("start", 0)) // how["size"] + 1)


def _labels_of(rule: Mapping[str, Any], card: Card, values: Mapping[str, str], root: Path, where: str) -> Any:
    if "labels" in rule:
        return rule["labels"]
    if "labels_from" not in rule:
        return card.labels
    file = root / _fill(rule["labels_from"]["file"], values, where)
    key = _fill(rule["labels_from"]["key"], values, where)
    try:
        table = json.loads(file.read_text(encoding="utf-8"))[key]
        return {str(name): int(value) for value, name in table.items()}
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{where}: {file.name} holds no label map under {key!r}.") from error


def _label_of(template: object, values: Mapping[str, str], lister: _Lister, where: str) -> Label | None:
    if template is None:
        return None
    if isinstance(template, dict):
        masks: dict[str, tuple[Path, ...]] = {}
        for structure, one in template.items():
            paths = tuple(path for path, _ in lister.matches(one, values, where))
            if paths:
                masks[str(structure)] = paths
        return masks or None
    found = lister.matches(str(template), values, where)
    own = "structure" in {match.group(1) for match in _FIELD.finditer(str(template))} and "structure" not in values
    if own:
        grouped: dict[str, list[Path]] = defaultdict(list)
        for path, fields in found:
            grouped[fields["structure"]].append(path)
        return {name: tuple(paths) for name, paths in grouped.items()} or None
    if len(found) > 1:
        names = ", ".join(path.name for path, _ in found[:3])
        raise InputError(f"{where}: {len(found)} labels fit one image ({names}). Name a {{structure}}, or a mapping.")
    return found[0][0] if found else None


class _Lister:
    """Files and folders of a root whose folder part fits a template; each folder is listed once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._listed: dict[Path, list[Path]] = {}

    def _children(self, folder: Path) -> list[Path]:
        if folder not in self._listed:
            children = sorted(folder.iterdir()) if folder.is_dir() else []
            self._listed[folder] = [path for path in children if not path.name.startswith(".")]
        return self._listed[folder]

    def like(self, template: str) -> list[tuple[Path, str]]:
        """Paths as deep as the template, with their text relative to the root."""
        folders = [self.root]
        parts = template.rstrip("/").split("/")
        for depth, part in enumerate(parts):
            if not _FIELD.search(part) and "*" not in part:
                name = _unquoted(part)
                folders = [folder / name for folder in folders if (folder / name).exists()]
                continue
            pattern = re.compile(_expression(part, seen={}))
            folders = [
                child
                for folder in folders
                for child in self._children(folder)
                if pattern.fullmatch(child.name) and (depth == len(parts) - 1 or child.is_dir())
            ]
        return [(path, path.relative_to(self.root).as_posix()) for path in folders]

    def matches(self, template: str, values: Mapping[str, str], where: str) -> list[tuple[Path, dict[str, str]]]:
        """Paths that fit a template with known fields filled in, and what its other fields are there."""
        filled = _FIELD.sub(lambda m: _quoted(values[m.group(1)]) if m.group(1) in values else m.group(0), template)
        pattern = _pattern(filled, where)
        found = []
        for path, text in self.like(filled):
            match = pattern.fullmatch(text)
            if match:
                found.append((path, match.groupdict()))
        return found


# a value that holds a template's own signs must not be read as one
_QUOTE = {"*": "\ue000", "{": "\ue001", "}": "\ue002"}


def _quoted(value: str) -> str:
    return "".join(_QUOTE.get(letter, letter) for letter in value)


def _pattern(template: object, where: str) -> re.Pattern[str]:
    if not isinstance(template, str) or not template or template.startswith("/") or ".." in template.split("/"):
        raise InputError(f"{where}: the template {template!r} is no path inside the data set.")
    try:
        return re.compile(_expression(template.rstrip("/"), seen={}))
    except re.error as error:
        raise InputError(f"{where}: the template {template!r} holds a faulty expression ({error}).") from error


def _expression(template: str, seen: dict[str, int]) -> str:
    parts, end = [], 0
    for match in _FIELD.finditer(template):
        parts.append(_literal(template[end : match.start()]))
        name, inner = match.groups()
        parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>{inner or '[^/]+?'})")
        seen[name] = 1
        end = match.end()
    parts.append(_literal(template[end:]))
    return "".join(parts)


def _unquoted(text: str) -> str:
    for letter, stand_in in _QUOTE.items():
        text = text.replace(stand_in, letter)
    return text


def _literal(text: str) -> str:
    return "[^/]*".join(re.escape(_unquoted(piece)) for piece in text.split("*"))


def _fill(template: object, values: Mapping[str, str], where: str) -> str:
    def value(match: re.Match[str]) -> str:
        if match.group(1) not in values:
            known: Sequence[str] = sorted(values)
            raise InputError(f"{where}: {template!r} uses {match.group(1)!r}; the image has {', '.join(known)}.")
        return values[match.group(1)]

    return _FIELD.sub(value, str(template))
