"""What data sets call things, in names of files and folders and in their JSON: splits, modalities, scans, labels.

Words are compared in small letters. `pairs` asks which words say what a file is, `names` which say nothing of a person.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath

from medsam.data.manifest import Split


def word_set(text: str) -> frozenset[str]:
    """The words of a line."""
    return frozenset(text.split())


SPLITS: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
# folders and files of one side of a split, beside the words above
SPLIT_FOLDERS = word_set("tr ts va holdout dev imagestr imagests imagesva")

# modalities -> DICOM's codes (PS3.3 C.7.3.1.1.1)
MODALITY_CODES = {
    "ct": "CT", "mr": "MR", "mri": "MR", "t1": "MR", "t1w": "MR", "t1gd": "MR", "t1ce": "MR", "t2": "MR",
    "t2w": "MR", "flair": "MR", "adc": "MR", "pet": "PT", "pt": "PT", "us": "US", "ultrasound": "US",
    "xray": "DX", "x-ray": "DX", "dx": "DX", "cr": "CR", "mg": "MG",
}  # fmt: skip
# words by which scans of one examination differ, beside those that have a code
EXAMINATION_SERIES = word_set("t1c t1n t1wce t1post t2f t2s dwi swi pd pdw bold suv ctres cta mra")
# kinds of scanners and examinations, which say nothing of a person
MODALITIES = word_set("ct cta cbct ldct cect ncct mr mri mra pet pt petct us xray cxr dx cr mg spect oct")
# MR sequences and maps, and further words for a series
SEQUENCES = word_set(
    "t1 t1w t1c t1ce t1gd t1n t1post t1pre t1wce t2 t2w t2f t2star t2s pd pdw flair adc dwi dti dce swi stir tof asl"
    " bold hbv cine lge psir ssfp haste inphase outphase opphase fat water dual t1dual t2spir mprage space fse tse"
    " tirm epi perf suv contrast noncontrast plain gd ce"
)

# what says of a file, or of a folder of files, that it is a label
LABELS = word_set(
    "label labels labelmap lbl mask masks msk msks seg segs segm dseg ground structures contours segmentation"
    " segmentations gt gts groundtruth groundtruths truth manual annotation annotations anno annos annot"
)
# and that it is a scan
IMAGES = word_set("image images img imgs scan scans volume vol imaging original orig input inputs")


def modality_code(word: object) -> str | None:
    """DICOM's code for what data sets call a modality ("MRI", "T1w", "PET"); None for words that are none."""
    text = str(word).strip()
    return MODALITY_CODES.get(text.lower()) or (text if re.fullmatch(r"[A-Z]{2,16}", text) else None)


def is_series(word: str) -> bool:
    """Whether scans of one examination differ by such a word: t1, flair, pet."""
    return word in EXAMINATION_SERIES or modality_code(word) is not None


def split_word(word: str) -> Split | None:
    """The split a word means ("training", "valid", ...), or None."""
    return SPLITS.get(word.lower())


def split_of_folder(name: str) -> Split | None:
    """imagesTr, train, training_set: the one split a folder's name has."""
    tail = re.fullmatch(r"(?:images|labels)(Tr|Va|Ts)", name)
    if tail:
        return split_word({"Tr": "train", "Va": "val", "Ts": "test"}[tail.group(1)])
    found = {split_word(word) for word in re.split(r"[^A-Za-z]+", name)} - {None}
    return found.pop() if len(found) == 1 else None


def stem(path: PurePath) -> str:
    """A file's name without its suffix, `.nii.gz` counting as one; a folder's name."""
    name = path.name
    for suffix in (".nii.gz", path.suffix):
        if suffix and name.lower().endswith(suffix.lower()):
            return name[: -len(suffix)]
    return name
