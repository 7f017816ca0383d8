"""Which files of a folder belong together, by their names alone: scans and the labels drawn on them.

A name is taken apart into words. Some say what a file is (`image`, `mask`, `seg`, ...), in its own name or in its
folder's; the rest says which scan it belongs to. A label goes to the scan with, in this order,
  the same words        images/X with masks/X, X with X_mask, mask_X, X.seg, img0001 with label0001
  a channel number      X_0000 with X, as nnU-Net names them; only where no scan has the label's own name
  words more            X with X_liver, X_mask_1, X_liver_000: a structure, or one of several masks
  a modality more       X_t1 and X_flair with X_seg: all of them
  its folder            the one scan in a folder with `seg`, or with a folder of one mask a structure; X with X/liver
  a number more         images/X with masks/X_0 and masks/X_1; only where no scan is named so
  the same number       bus_0001 with mask_0001
and near before far: the same folder (but for `images` and `masks`), one above or below, then anywhere.
A label that fits several scans is left out, with a remark.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from medsam.data.file_roles import Named, Words, parse_names, without, words_of
from medsam.data.words import IMAGES, LABELS, is_series, split_word, stem
from medsam.errors import counted
from medsam.io.formats import PICTURE


@dataclass(frozen=True)
class Drawn:
    """One label of a scan. structure: what its name says beside the scan's, or "". number: of one of several masks."""

    path: PurePath
    structure: str
    number: str = ""


@dataclass
class Pair:
    """A scan and its labels. id: a path made of its folders and its name."""

    image: PurePath
    id: PurePath
    labels: list[Drawn] = field(default_factory=list)


@dataclass
class Paired:
    """pairs: every scan, with labels or without. remarks: a sentence for all that was left out or guessed."""

    pairs: list[Pair]
    remarks: list[str]


def pair_files(paths: Iterable[PurePath], is_mask: Callable[[PurePath], bool] = lambda path: False) -> Paired:
    """Pair the files of a folder. paths: relative to it. is_mask: opens a file whose name does not say what it is."""
    match = _Matcher(parse_names(sorted(paths)))
    match.near()
    match.by_content(is_mask)
    match.channels()
    match.anywhere()
    match.by_added_number()
    match.by_number()
    return match.result()


# -- matching -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Unmarked:
    """A label that only its content shows. scans: what it belongs to where no name fits better."""

    file: Named
    structure: str
    number: str
    scans: list[Named]


class _Matcher:
    def __init__(self, files: Sequence[Named]) -> None:
        self.files = files
        self.images = [file for file in files if file.role != "label"]
        self.found: dict[PurePath, list[Drawn]] = defaultdict(list)  # image -> labels
        self.used: set[PurePath] = set()
        self.unclear: list[list[PurePath]] = []
        self.dropped: set[PurePath] = set()
        self.shared: list[tuple[PurePath, list[PurePath]]] = []  # labels of several scans of one examination
        self.remarks: list[str] = []
        self.numbered: set[PurePath] = set()  # images paired as the first channel
        self.cases: set[PurePath] = set()  # images that stand for their folder
        self._index()

    def _index(self) -> None:
        self._keys: dict[Words, list[Named]] = defaultdict(list)
        self._bare: dict[Words, list[Named]] = defaultdict(list)  # names without the modality at their end
        self._here: dict[PurePath, list[Named]] = defaultdict(list)  # folder -> images in it
        self._below: dict[PurePath, list[Named]] = defaultdict(list)  # folder -> images in it and below
        for image in self.images:
            for key in _keys(image):
                self._keys[key].append(image)
            for size in range(len(image.key) - 1, -1, -1):
                if not is_series(image.key[size]):
                    break
                self._bare[image.key[:size]].append(image)
            self._here[image.path.parent].append(image)
            for folder in image.path.parents:
                self._below[folder].append(image)

    # one label after another, near places -------------------------------------------------------------------

    def near(self) -> None:
        """Relation after relation, so that equal names pair before any others."""
        for relation in (self._equal, self._channel, self._longer, self._modalities, self._folder):
            for label in self._open():
                for images, structure, number in relation(label):
                    close = _closest(label, images)
                    if close:
                        self._give(label, close, structure, number)
                        if relation == self._channel:
                            self.numbered.update(image.path for image in close)
                        break

    def by_content(self, is_mask: Callable[[PurePath], bool]) -> None:
        """Open files whose names say only that they belong to another: liver/X beside images/X, X_cord beside X,
        BrainStem beside img, X/lesion beside X, X.png beside X.jpg."""
        unnamed: dict[PurePath, list[Named]] = defaultdict(list)  # folder -> scans called image or T1 alone
        for image in self.images:
            if all(map(is_series, image.key)):
                unnamed[image.path.parent].append(image)
        candidates = [image for image in self.images if not image.by_folder and image.path not in self.found]
        found = list(filter(None, (self._unmarked(file, unnamed, is_mask) for file in candidates)))
        for one in found:
            one.file.role = "label"
        self.images = [image for image in self.images if image.role != "label"]
        self._index()
        for one in found:
            images = self._images_of(one)
            if images:
                self._give(one.file, images, one.structure, one.number)

    def _images_of(self, one: _Unmarked) -> list[Named]:
        relations = (self._equal, self._longer)
        fits = (_closest(one.file, fit[0]) for relation in relations for fit in relation(one.file))
        return next(filter(None, fits), None) or [image for image in one.scans if image.role != "label"]

    def _unmarked(
        self, file: Named, unnamed: dict[PurePath, list[Named]], is_mask: Callable[[PurePath], bool]
    ) -> _Unmarked | None:
        """A file as a label, where it holds a mask and its name or its folder says whose; else None."""
        folder = file.path.parent
        namesakes = [i for i in self._keys[file.words] if i.path.parent != folder]
        longer = [fit for fit in self._longer(file) if _closest(file, fit[0])]
        scans = self._unnamed_scans(file, unnamed)
        lone = len(scans) == 1 and bool(file.key)
        is_twin = self._is_mask_of_twin(file, is_mask)
        if not (is_twin or ((namesakes or longer or lone) and is_mask(file.path))):
            return None
        # a scan beside it tells more than equal names elsewhere: 1/liver beside 1/image, and 2/liver
        structure = "" if is_twin else longer[0][1] if longer else stem(file.path) if lone else folder.name
        return _Unmarked(file, structure, longer[0][2] if longer else "", scans)

    def _unnamed_scans(self, file: Named, unnamed: dict[PurePath, list[Named]]) -> list[Named]:
        """Scans that need no name: the others in its folder that are called T1 alone, or else one called like that."""
        folder = file.path.parent
        others = [image for image in unnamed.get(folder, ()) if image is not file]
        if others:
            return others
        alike = self._keys.get(words_of(folder.name), [])
        return [image for image in alike if image.path.parent == folder.parent and stem(image.path) == folder.name]

    def _is_mask_of_twin(self, file: Named, is_mask: Callable[[PurePath], bool]) -> bool:
        """Whether a file is a mask, and the one beside it that differs by its suffix alone is none."""
        twins = [
            image
            for image in self._keys[file.words]
            if image.path.parent == file.path.parent and stem(image.path) == stem(file.path)
        ]
        others = [image for image in twins if image is not file]
        return len(twins) == 2 and len(others) == 1 and is_mask(file.path) and not is_mask(others[0].path)

    def anywhere(self) -> None:
        for label in self._open():
            if not any(map(str.isdigit, "".join(label.key))):
                continue  # a name without a number is used again and again
            relations = (self._equal, self._channel, self._longer, self._modalities)
            fits = (fit for relation in relations for fit in relation(label) if fit[0])
            images, structure, number = next(fits, ([], "", ""))
            if len(images) == 1 or (images and _one_examination(images)):
                self._give(label, images, structure, number)

    def by_added_number(self) -> None:
        """Several masks of a scan, named by a number more: masks/X_0 and masks/X_1 with images/X.

        Only where no scan is named as such a mask is, or it may be the mask of a scan that is missing.
        """
        patterns = {_pattern(image.key) for image in self.images}
        given = set(self.found)
        for label in self._open():
            if label.by_folder and len(label.key) > 1 and label.key[-1].isdigit():
                images = _closest(label, _others(label, self._keys.get(label.key[:-1], [])))
                fits = len(images) == 1 and images[0].path not in given
                if fits and _pattern(label.key) not in patterns:
                    self._give(label, images, "", label.key[-1])

    def _open(self) -> list[Named]:
        unclear = {path for group in self.unclear for path in group}
        return [
            file
            for file in self.files
            if file.role == "label" and file.path not in self.used and file.path not in unclear
        ]

    def _give(self, label: Named, images: Sequence[Named], structure: str, number: str) -> None:
        if len(images) > 1 and not _one_examination(images):
            self.unclear.append([label.path, *(image.path for image in images)])
            return
        if len(images) > 1:
            self.shared.append((label.path, [image.path for image in images]))
        for image in images:
            parts = [verbatim for part, verbatim in label.folders if part not in image.place]
            folder = "/".join(parts)
            self.found[image.path].append(Drawn(label.path, structure or f"/{folder}" if folder else structure, number))
        self.used.add(label.path)

    # relations: (images, structure, number), the best first ------------------------------------------------

    def _equal(self, label: Named) -> Iterator[tuple[list[Named], str, str]]:
        for key in dict.fromkeys((label.words, without(label.words, LABELS), label.key)):
            images = self._keys.get(key, []) if key else [i for i in self._here[label.path.parent] if not i.key]
            yield _others(label, images), "", ""

    def _channel(self, label: Named) -> Iterator[tuple[list[Named], str, str]]:
        for key in dict.fromkeys((without(label.words, LABELS), label.key)):
            if key:
                yield self._keys.get((*key, "0000"), []), "", ""

    def _longer(self, label: Named) -> Iterator[tuple[list[Named], str, str]]:
        """The longest name of a scan that the label's begins or ends with; the rest is a structure or a number."""
        for words in dict.fromkeys((without(label.words, LABELS), label.key)):
            for size in range(len(words) - 1, 0, -1):
                head, rest = words[:size], words[size:]
                # X_2 is a second mask of X only where it says so: X_mask_2, X_002
                if all(map(str.isdigit, rest)) and not label.after and len(rest[-1]) < 3:
                    continue
                for names in (self._keys, self._bare):  # X_liver with X, with X_ct
                    if head in names:
                        yield _others(label, names[head]), *_structure(rest)
                tail, rest = words[-size:], words[:-size]
                if tail in self._keys and any(c.isdigit() for c in "".join(tail)):
                    yield _others(label, self._keys[tail]), *_structure(rest)

    def _modalities(self, label: Named) -> Iterator[tuple[list[Named], str, str]]:
        key = tuple(word for word in label.key if not word.startswith(("seg-", "desc-", "space-")))
        given = [word.partition("-")[2] for word in label.key if word.startswith(("seg-", "desc-"))]
        images = self._bare.get(key, [])
        if not key:
            images = [image for image in self._here[label.path.parent] if all(map(is_series, image.key))]
        yield images, " ".join(given), ""

    def _folder(self, label: Named) -> Iterator[tuple[list[Named], str, str]]:
        inside = label.home != label.path.parent  # in a folder of labels
        around, here = self._below[label.home], self._here[label.home]
        images = here if len(here) == 1 else around
        # images/case_1 with masks/case_2 is a label whose scan is missing
        if len(images) == 1 and images[0].key != label.key and _wording(images[0].key) == _wording(label.key) != ():
            return
        if (inside and len(images) == 1) or (not label.key and len(here) == 1):
            structure = stem(label.path) if inside and label.key else ""
            if structure:
                self.cases.add(images[0].path)
            yield images, structure, ""

    # what is left -------------------------------------------------------------------------------------------

    def channels(self) -> None:
        """Further channels of a scan: X_0001 beside X_0000, where that was paired as one, and in nnU-Net's folders."""
        by_name: dict[tuple[PurePath, Words], list[Named]] = defaultdict(list)
        for image in self.images:
            if len(image.words) > 1 and re.fullmatch(r"00\d\d", image.words[-1]):
                by_name[image.path.parent, image.words[:-1]].append(image)
        further = 0
        for (folder, _), images in by_name.items():
            images.sort(key=lambda image: image.words[-1])
            first = images[0]
            if first.words[-1] != "0000" or any(image.path in self.found for image in images[1:]):
                continue
            if first.path in self.numbered or (
                first.path not in self.found and (self.numbered or folder.name in ("imagesTr", "imagesTs", "imagesVa"))
            ):
                self.numbered.add(first.path)
                self.dropped.update(image.path for image in images[1:])
                further += len(images) - 1
        if further:
            self.remarks.append(f"{further} further channels (_0001, ...) left out; the first stands for the scan")

    def _free(self) -> list[Named]:
        """Images without a label that are not left out."""
        return [image for image in self.images if image.path not in self.found and image.path not in self.dropped]

    def by_number(self) -> None:
        """Folders of images and of labels whose names are the same but for words that never change."""
        groups: dict[tuple[PurePath, PurePath], list[tuple[Named, Named]]] = defaultdict(list)
        free = self._free()
        varying: dict[tuple[PurePath, Words], list[Named]] = defaultdict(list)
        for image, key in zip(free, _varying(free), strict=True):
            varying[image.path.parent, key].append(image)
        labels = self._open()
        for label, key in zip(labels, _varying(labels), strict=True):
            fit = [images for (folder, name), images in varying.items() if name == key and key]
            if len(fit) == 1 and len(fit[0]) == 1:
                groups[fit[0][0].path.parent, label.path.parent].append((label, fit[0][0]))
        for (one, other), pairs in groups.items():
            if len({image.path for _, image in pairs}) < max(2, len(pairs)):
                continue
            label, image = pairs[0]
            self.remarks.append(
                f"{len(pairs)} labels in {other or '.'} were paired with images in {one or '.'} by their numbers, e.g. "
                f"{label.path.name} with {image.path.name}"
            )
            for label, image in pairs:
                self._give(label, [image], "", "")

    def result(self) -> Paired:
        self._instances()
        every = [{drawn.structure for drawn in labels} for labels in self.found.values()]
        named = any(len(names) > 1 and any(name.startswith("/") for name in names) for names in every)
        for image in self.images:
            self._settle(image, named)
        self._by_products()
        gone = {path for group in self.unclear for path in group}
        self._add_remarks(gone)
        pairs = [
            Pair(image.path, self._id(image), self.found.get(image.path, []))
            for image in self.images
            if image.path not in gone and image.path not in self.dropped
        ]
        return Paired(sorted(pairs, key=lambda pair: not pair.labels), self.remarks)

    def _add_remarks(self, gone: set[PurePath]) -> None:
        """Sentences on labels of several scans, on what is not clear, and on labels without a scan."""
        if self.shared:
            label, images = self.shared[0]
            some = ", ".join(path.name for path in images)
            self.remarks.append(
                f"{len(self.shared)} labels belong to several scans of one examination each, e.g. {label} to {some}"
            )
        if gone:
            names = "; ".join(", ".join(map(str, group)) for group in self.unclear[:20])
            more = f" and {len(self.unclear) - 20} more" if len(self.unclear) > 20 else ""
            self.remarks.append(f"it is not clear what belongs together, so these are left out: {names}{more}")
        unmatched = [file.path for file in self._open()]
        if unmatched:
            some = ", ".join(map(str, unmatched[:3]))
            self.remarks.append(
                f"{counted(len(unmatched), 'label file fits', 'label files fit')} no image, e.g. {some}; left out"
            )

    def _instances(self) -> None:
        """In a folder of masks beside one scan, names that no other scan's folder has are no structures: nuclei."""
        of_cases = {path: labels for path, labels in self.found.items() if path in self.cases}
        names = [drawn.structure for labels in of_cases.values() for drawn in labels]
        lone = len(of_cases) > 1 and len(set(names)) == len(names)
        if names and (lone or all(re.fullmatch(r"[0-9a-f]{8,}|\d+", name) for name in names)):
            for path, labels in of_cases.items():
                self.found[path] = [Drawn(drawn.path, "", drawn.structure) for drawn in labels]

    def _settle(self, image: Named, by_folder: bool) -> None:
        """Name the structures of an image's labels by what distinguishes them; by_folder: folders do, in this set."""
        labels = self.found.get(image.path, [])
        folders = {drawn.structure for drawn in labels if drawn.structure.startswith("/")}
        named = []
        for drawn in labels:
            structure = drawn.structure
            if structure.startswith("/"):
                structure = _folder_name(structure, folders) if by_folder else ""
            named.append(Drawn(drawn.path, _spelled(structure, drawn.path), drawn.number))
        if len({(drawn.structure, drawn.number) for drawn in named}) < len(named):
            self.unclear.append([*(drawn.path for drawn in named), image.path])
            self.found.pop(image.path)
        elif labels:
            self.found[image.path] = named

    def _by_products(self) -> None:
        """Pictures made from one that has its label: X_superpixels beside X and X_segmentation."""
        more = []
        for image in self.images:
            if not image.by_folder and image.path not in self.found and PICTURE.names(image.path):
                longer = (one for images, _, _ in self._longer(image) for one in images)
                if any(one.path in self.found and one.path.parent == image.path.parent for one in longer):
                    more.append(image.path)
        self.dropped.update(more)
        if more:
            some = ", ".join(map(str, more[:3]))
            self.remarks.append(
                f"{len(more)} pictures are named after a scan that has its label, e.g. {some}; left out"
            )

    def _id(self, image: Named) -> PurePath:
        if image.path in self.cases and image.shared != PurePath():
            return image.shared
        name = stem(image.path)
        if image.path in self.numbered:
            name = name.removesuffix("_0000")
        tail = re.fullmatch(r"(.+?)[_\-. ]?([A-Za-z]+)", name)
        if tail and tail.group(2).lower() in IMAGES and not image.by_folder:
            name = tail.group(1)
        return image.shared / name


def _keys(image: Named) -> set[Words]:
    """Names under which a label may know a scan: whole, without role words, without words of a split."""
    keys = {image.words, image.key}
    if len(image.key) > 1:
        keys.add(tuple(word for word in image.key if not split_word(word)) or image.key)
    return keys


def _others(label: Named, images: Iterable[Named]) -> list[Named]:
    return [image for image in images if image.path != label.path]


def _structure(rest: Words) -> tuple[str, str]:
    """What a label's name says beside its scan's: the structure, and a number when there are several masks of it."""
    rest = tuple(re.sub("^(seg|desc)-", "", word) for word in rest)  # BIDS
    numbers = [word for word in rest if word.isdigit()]
    words = [word for word in rest if not word.isdigit()]
    if not words:
        return "", "_".join(numbers)
    # s0114_aorta_000: the last number counts masks; rib_left_9_000: one before it is part of the name
    if rest[-1].isdigit() and len(rest[-1]) >= 3:
        return "_".join(rest[:-1]), rest[-1]
    return "_".join(rest), ""


def _pattern(words: Words) -> Words:
    return tuple(re.sub(r"\d+", "#", word) for word in words)


def _wording(words: Words) -> Words:
    return tuple(word for word in words if not word.isdigit())


def _closest(label: Named, images: Sequence[Named]) -> list[Named]:
    """Of those, the ones in the label's own place, else above or below it."""
    same = [image for image in images if image.place == label.place]
    if same:
        beside = [image for image in same if image.path.parent == label.path.parent]
        return beside or same
    return [image for image in images if _within(image.place, label.place) or _within(label.place, image.place)]


def _within(part: Words, whole: Words) -> bool:
    """Whether `part` is `whole` with some folders left out."""
    rest = iter(whole)
    return all(word in rest for word in part)


def _one_examination(images: Sequence[Named]) -> bool:
    """Whether several scans differ by their modality alone: X_t1 and X_flair, or ct/X and pet/X."""
    described = [(*image.place, *image.key) for image in images]
    left = {tuple(word for word in words if not is_series(word)) for words in described}
    return len(left) == 1 and len(set(described)) == len(described)


def _varying(files: Sequence[Named]) -> list[Words]:
    """The words of each name that are not in all names of its folder; all numbers."""
    by_folder: dict[PurePath, list[Named]] = defaultdict(list)
    for file in files:
        by_folder[file.path.parent].append(file)
    fixed = {
        folder: frozenset.intersection(*(frozenset(_split_digits(file.key)) for file in members))
        for folder, members in by_folder.items()
    }
    return [
        tuple(w for w in _split_digits(file.key) if w.isdigit() or w not in fixed[file.path.parent]) for file in files
    ]


def _split_digits(words: Words) -> Words:
    return tuple(piece for word in words for piece in re.findall(r"\d+|\D+", word))


def _folder_name(structure: str, others: set[str]) -> str:
    """A structure named by its folder: what not all labels of the image have, without numbering and role words."""
    parts = [part for part in structure[1:].split("/") if not all(f"/{part}/" in f"{other}/" for other in others)]
    name = (parts or structure[1:].split("/"))[-1]
    plain = " ".join(word for word in words_of(name) if word not in LABELS and not word.isdigit())
    return plain if re.search(r"[a-z]{3}", plain) else name


def _spelled(structure: str, path: PurePath) -> str:
    """A structure as its file's name or folder's writes it: vertebrae_T9."""
    words = re.split("[_ ]", structure)
    for name in (stem(path), *(folder.name for folder in path.parents)):
        found = re.search("[^A-Za-z0-9]*".join(map(re.escape, words)), name, re.IGNORECASE) if structure else None
        if found:
            return found.group()
    return structure
