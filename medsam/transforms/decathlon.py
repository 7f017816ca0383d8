"""Medical Segmentation Decathlon tasks, downloaded and verified by MONAI."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from medsam.errors import AssetError, InputError

TASKS = (
    "Task01_BrainTumour",
    "Task02_Heart",
    "Task03_Liver",
    "Task04_Hippocampus",
    "Task05_Prostate",
    "Task06_Lung",
    "Task07_Pancreas",
    "Task08_HepaticVessel",
    "Task09_Spleen",
    "Task10_Colon",
)


def fetch_decathlon(task: str, root: str | Path, *, progress: bool = True) -> Path:
    """Download, verify (MD5, MONAI's) and unpack `task` into `root`; nothing is fetched that is already there.

    Returns the folder of its dataset.json. Raises InputError for an unknown task or a `root` that is no folder,
    AssetError when the download fails or does not verify.
    """
    root = Path(root)
    if task not in TASKS:
        raise InputError(f"{task!r} is no Decathlon task. There are: {', '.join(TASKS)}.")
    if not root.is_dir():
        raise InputError(f"The folder {root} does not exist. Make it first: the data sets are large.")
    folder = root / task
    if (folder / "dataset.json").is_file():
        return folder
    archive = root / f"{task}.tar"
    try:
        # MONAI writes its progress to stdout, which belongs to the command's answer
        with contextlib.redirect_stdout(sys.stderr):
            from monai.apps import DecathlonDataset
            from monai.apps.utils import download_url, extractall

            # DecathlonDataset(download=True) does these two after asking for the file's name over the network, with
            # `requests`, even when the archive is already here
            md5 = DecathlonDataset.md5[task]
            download_url(DecathlonDataset.resource[task], archive, hash_val=md5, hash_type="md5", progress=progress)
            extractall(archive, root, hash_val=md5, hash_type="md5")
    except Exception as error:  # urllib, tarfile, MONAI: each raises its own
        what = (
            f"{archive.name} in {root} is damaged" if archive.is_file() else f"{task} could not be downloaded by MONAI"
        )
        raise AssetError(
            f"{what} ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}). "
            f"Without a network, fetch {task}.tar elsewhere (medicaldecathlon.com says where) and put it, or the "
            f"unpacked folder, into {root}."
        ) from error
    if not (folder / "dataset.json").is_file():
        raise AssetError(f"{folder} was unpacked, but holds no dataset.json. Remove it and {task}.tar, and try again.")
    return folder
