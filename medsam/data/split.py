"""Train, validation and test by patient, stratified and seeded.

Every case of a patient goes to the same part; cases without a patient are joined as `patients.assign` says. The parts
have exactly the sizes asked for, counted in patients, and
each tag (a structure that is present, or a modality) is spread over them as evenly as that allows: the rarest tag
first, each of its patients to the part that lacks it most.

Source: Sechidis, Tsoumakas, Vlahavas 2011, iterative stratification; fixed part sizes are our addition.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from medsam.data.manifest import Case, Manifest, Split
from medsam.data.patients import assign
from medsam.errors import InputError, counted
from medsam.io.labels import structures_in
from medsam.progress import ProgressCallback

Stratify = Literal["label", "modality", "none"]


def split_manifest(
    manifest: Manifest,
    *,
    test: float = 0.2,
    val: float = 0.1,
    seed: int = 0,
    stratify: Stratify = "label",
    progress: ProgressCallback | None = None,
    unread: list[str] | None = None,
) -> Manifest:
    """The same cases with `split` assigned anew: shares `test` and `val` of the patients, the rest trains.

    Cases without a label can be neither trained on nor measured; they lose their split. unread: takes a sentence on
    each label that cannot be read, and its case is assigned without it; left out, such a label is an error.
    Raises InputError when the shares are no shares or there are too few patients for a part that is asked for.
    """
    check_shares(test=test, val=val)
    manifest = replace(manifest, cases=assign(manifest.cases).cases)
    tags = _tags(manifest, stratify, progress, unread)
    sides = draw_sides(tags, test=test, val=val, seed=seed)
    if sides is None:
        raise InputError(
            f"{manifest.name} has {counted(len(tags), 'patient')} with a label, too few for "
            f"{1 + (test > 0) + (val > 0)} parts."
        )
    return _assigned(manifest, sides)


def check_shares(**shares: float) -> None:
    """Raise InputError unless these are shares that leave something to train on. shares: by the argument's name."""
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise InputError(
                f"`{name}` is {share:g}; expected a share of the patients, from 0 to below 1.", parameter=name
            )
    if sum(shares.values()) >= 1:
        what = " and ".join(f"`{name}` {share:g}" for name, share in shares.items())
        raise InputError(f"{what} leave nothing to train on.", parameter=tuple(shares))


def draw_sides(tags: Mapping[str, Collection[str]], *, test: float, val: float, seed: int) -> dict[str, Split] | None:
    """Patient -> side: shares `test` and `val` of them, the rest trains; None where they are too few.

    tags: of each patient, to be spread evenly. In another order of patients, others are drawn.
    """
    sizes: dict[Split, int] = {}
    for part, share in (("test", test), ("val", val)):
        # a part that is asked for is never empty
        sizes[part] = max(1, round(share * len(tags))) if share > 0 else 0  # type: ignore[index]
    sizes["train"] = len(tags) - sum(sizes.values())
    if sizes["train"] < 1:
        return None
    parts = _stratified(tags, list(sizes.values()), np.random.default_rng(seed))
    return {patient: list(sizes)[part] for patient, part in parts.items()}


def fold_manifest(
    manifest: Manifest,
    *,
    folds: int,
    fold: int,
    val: float = 0.1,
    seed: int = 0,
    stratify: Stratify = "label",
    progress: ProgressCallback | None = None,
    unread: list[str] | None = None,
) -> Manifest:
    """Fold `fold` (0-based) of `folds`: its patients test, share `val` of the others validates, the rest trains.

    With the same seed, the test parts of all folds cover every patient once. Raises InputError as `split_manifest`.
    """
    if folds < 2 or not 0 <= fold < folds:
        raise InputError(
            f"`folds` {folds}, `fold` {fold}: expected at least 2 folds, and a fold from 0 to folds - 1.",
            parameter=("folds", "fold"),
        )
    if not 0 <= val < 1:
        raise InputError(f"`val` is {val:g}; expected a share of the patients, from 0 to below 1.", parameter="val")
    manifest = replace(manifest, cases=assign(manifest.cases).cases)
    tags = _tags(manifest, stratify, progress, unread)
    if len(tags) < folds:
        raise InputError(
            f"{manifest.name} has {counted(len(tags), 'patient')} with a label, too few for {folds} folds."
        )
    sizes = [len(tags) // folds + (n < len(tags) % folds) for n in range(folds)]
    rng = np.random.default_rng(seed)
    parts = _stratified(tags, sizes, rng)
    rest = {patient: tags[patient] for patient, part in parts.items() if part != fold}
    wanted = max(1, round(val * len(rest))) if val > 0 else 0
    if wanted >= len(rest):
        raise InputError(
            f"{manifest.name}: {counted(len(rest), 'patient')} outside the fold: too few for `val` {val:g}.",
            parameter="val",
        )
    inner = _stratified(rest, [wanted, len(rest) - wanted], np.random.default_rng([seed, fold]))
    chosen: dict[str, Split] = {patient: "test" for patient, part in parts.items() if part == fold}
    chosen |= {patient: "val" if part == 0 else "train" for patient, part in inner.items()}
    return _assigned(manifest, chosen)


def _tags(
    manifest: Manifest,
    stratify: Stratify,
    progress: ProgressCallback | None,
    unread: list[str] | None,
) -> dict[str, frozenset[str]]:
    """Patient -> what to spread evenly. Sorted, so that the order of the manifest's cases does not matter."""
    labelled = [case for case in manifest.cases if case.label is not None]
    if not labelled:
        raise InputError(f"{manifest.name} has no case with a label; there is nothing to split.")
    tags: dict[str, set[str]] = {}
    for number, case in enumerate(labelled):
        found = tags.setdefault(case.patient, set())
        if stratify == "modality":
            found.add(case.modality or manifest.modality or "unknown")
        elif stratify == "label":
            try:
                found |= case_structures(case)
            except InputError as error:
                if unread is None:
                    raise
                unread.append(str(error))
        if progress:
            progress(number + 1, len(labelled))
    return {patient: frozenset(tags[patient]) for patient in sorted(tags)}


def case_structures(case: Case) -> set[str]:
    """Which structures a case's label holds, read without its image; of a mapping, which it names."""
    if isinstance(case.label, dict):
        return set(case.label)
    if case.label is None:
        return set()
    try:
        return structures_in(
            case.label,
            case.labels or None,
            threshold=case.threshold,
            aliases=case.aliases,
            frame=case.label_frame,
        )
    except InputError as error:
        raise error.within(f"Case {case.id}, label") from error


def _stratified(tags: Mapping[str, Collection[str]], sizes: Sequence[int], rng: np.random.Generator) -> dict[str, int]:
    """Patient -> part, `sizes[part]` patients each."""
    parts = _Parts(tags, sizes, rng)
    order = list(tags)
    rng.shuffle(order)
    while parts.left:
        remaining = Counter(tag for found in parts.left.values() for tag in found)
        if not remaining:
            for patient in [patient for patient in order if patient in parts.left]:
                parts.place(patient, [0.0] * len(sizes))
            break
        rarest = min(sorted(remaining), key=lambda tag: remaining[tag])
        for patient in [patient for patient in order if patient in parts.left and rarest in parts.left[patient]]:
            parts.place(patient, parts.lack[rarest])
    return parts.part_of


class _Parts:
    """Parts that are being filled. left: patients without one -> their tags. lack: tag -> how many each part lacks."""

    def __init__(self, tags: Mapping[str, Collection[str]], sizes: Sequence[int], rng: np.random.Generator) -> None:
        self.sizes, self.free, self.rng = sizes, list(sizes), rng
        self.left = {patient: set(found) for patient, found in tags.items()}
        counts = Counter(tag for found in self.left.values() for tag in found)
        total = sum(sizes)
        self.lack = {tag: [count * size / total for size in sizes] for tag, count in counts.items()}
        self.part_of: dict[str, int] = {}

    def place(self, patient: str, wish: Sequence[float]) -> None:
        """Give a patient to a part. wish: how much each part wants one like that."""
        # the part that lacks the tag most; then the one with most room, in share; then the dice
        open_parts = [part for part in range(len(self.sizes)) if self.free[part] > 0]
        part = max(open_parts, key=lambda n: (round(wish[n], 9), self.free[n] / self.sizes[n], self.rng.random()))
        self.part_of[patient] = part
        self.free[part] -= 1
        for tag in self.left.pop(patient):
            self.lack[tag][part] -= 1


def _assigned(manifest: Manifest, chosen: Mapping[str, Split]) -> Manifest:
    cases = tuple(replace(case, split=None if case.label is None else chosen[case.patient]) for case in manifest.cases)
    return replace(manifest, cases=cases)
