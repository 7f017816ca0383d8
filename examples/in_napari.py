"""medsam from napari's console: an image layer, a rectangle or points on it, and a labels layer.

    pip install httpx platformdirs pynrrd       # in napari's Python; no torch is needed
    pip install --no-deps medsam-framework

With a server that runs (medsam serve), draw a rectangle on a slice in a Shapes layer, or set points, and type

    exec(open("/path/to/in_napari.py").read())
    outline(viewer, "ct", shapes="Shapes")
    outline(viewer, "ct", points="Points", url="http://gpu-box:8000", token="...")

Everything but the function here is medsam.client.consoles, which is tested; this one was not run in napari.
"""

import numpy as np

from medsam.client.client import Client
from medsam.client.consoles import box_in, point_in, segmented
from medsam.volume import Volume


def outline(viewer, image, shapes=None, points=None, url="http://127.0.0.1:8000", token=None):
    """A new labels layer. image, shapes, points: names of layers. A mark lies on the axis that is looked along."""
    layer = viewer.layers[image]
    if layer.ndim != 3:
        raise ValueError("The image layer has to have three axes (slice, row, column).")
    scan = Volume.from_array(np.asarray(layer.data), spacing_mm=layer.scale)
    # napari counts axes as the array does, from the slice on
    axis = "kji"[viewer.dims.order[0]]
    prompts = []
    for marks, as_prompt in ((shapes, box_in), (points, None)):
        if marks is None:
            continue
        marked = viewer.layers[marks]
        for one in marked.data:
            # through the world to the image's own array, (k, j, i) there
            corners = [layer.world_to_data(marked.data_to_world(at))[::-1] for at in np.atleast_2d(one)]
            prompts.append(box_in(np.array(corners), scan, axis) if as_prompt else point_in(corners[0], scan, axis))
    with Client(url, token) as client:
        mask = segmented(client, scan, prompts, axis=axis)
    return viewer.add_labels(mask.astype(np.uint8), scale=layer.scale, translate=layer.translate, name="medsam")
