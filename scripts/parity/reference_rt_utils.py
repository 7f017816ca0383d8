"""Masks of an RTSTRUCT as rt-utils reads them. Run by `dicom_out.py --rt-utils PYTHON`, in an environment of its own:

    python3 -m venv VENV
    VENV/bin/pip install numpy pydicom opencv-python-headless
    VENV/bin/pip install --no-deps rt-utils==1.2.7

    VENV/bin/python reference_rt_utils.py SERIES RTSTRUCT OUT.npz

OUT.npz has "uids", the SOP instances of the slices, and for each region "roi N" (its name is "names"[N]): bool (slices,
rows, columns). A region that rt-utils fails on is left out.
"""

import sys

import numpy as np
from rt_utils import RTStructBuilder

series, rtstruct, out = sys.argv[1:]
reader = RTStructBuilder.create_from(dicom_series_path=series, rt_struct_path=rtstruct)
names, masks = reader.get_roi_names(), {}
for number, name in enumerate(names):
    try:
        masks[f"roi {number}"] = reader.get_roi_mask_by_name(name).transpose(2, 0, 1)
    except Exception as error:
        print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
uids = [str(image.SOPInstanceUID) for image in reader.series_data]
np.savez_compressed(out, uids=uids, names=names, **masks)
