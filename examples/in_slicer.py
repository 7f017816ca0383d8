"""medsam from 3D Slicer's Python console: a volume, what was marked on it, and a segmentation.

Once, in the console (no torch is needed; docs/consoles.md):

    slicer.util.pip_install("httpx platformdirs pynrrd")
    slicer.util.pip_install("--no-deps medsam-framework")

Then, with a server that runs (medsam serve):

    exec(open("/path/to/in_slicer.py").read())
    outline("CTChest", roi="R")                      # a volume and a markups ROI by their names
    outline("CTChest", points="F", url="http://gpu-box:8000", token="...")

Everything but the two functions here is medsam.client.consoles, which is tested; these were not run in Slicer.
"""

import itertools

import numpy as np
import slicer
import vtk

from medsam.client.client import Client
from medsam.client.consoles import box_at, point_at, scan_of, segmented


def _scan(volume):
    if volume.GetParentTransformNode() is not None:
        raise ValueError("The volume is under a transform: harden it first (Data module, right click).")
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return scan_of(slicer.util.arrayFromVolume(volume), slicer.util.arrayFromVTKMatrix(matrix))


def outline(volume, points=None, roi=None, axis="k", name="medsam", url="http://127.0.0.1:8000", token=None):
    """A new segment of a volume. points, roi: markups nodes or their names. axis: that they were looked at along."""
    volume, points, roi = (slicer.util.getNode(one) if isinstance(one, str) else one for one in (volume, points, roi))
    scan, prompts = _scan(volume), []
    if roi is not None:
        bounds = [0.0] * 6
        roi.GetRASBounds(bounds)
        corners = itertools.product(bounds[0:2], bounds[2:4], bounds[4:6])
        prompts.append(box_at(np.array(list(corners)), scan, axis))
    if points is not None:
        # what is called "-..." is outside
        names = [points.GetNthControlPointLabel(n) for n in range(points.GetNumberOfControlPoints())]
        positions = slicer.util.arrayFromMarkupsControlPoints(points, world=True)
        for label, position in zip(names, positions, strict=True):
            prompts.append(point_at(position, scan, axis, not label.startswith("-")))
    with Client(url, token) as client:
        mask = segmented(client, scan, prompts, axis=axis)
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segment = segmentation.GetSegmentation().AddEmptySegment("", name)
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), segmentation, segment, volume)
    return segmentation
