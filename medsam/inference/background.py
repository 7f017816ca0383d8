"""Where a slice shows nothing: the constant surround of a scan, such as the black around an ultrasound fan.

Background is what is connected to the border of the slice and either
  dark      at the lower end of the window, up to `_DARK` of it: JPEG leaves no black quite black,
  constant  exactly the value that is most frequent on the border, where that has `_FREQUENT` of it,
  air       in CT in place of dark, under `_AIR` HU. Air around a patient is noise and not constant, while lung is as
            black as air in a window for soft tissue and is no background, even where it meets the border, or
  silent    padding, or what lies behind a shutter or a collimator, as far as the file says.
Single pixels count as most of their neighbours do. Passages narrower than two `_PASSAGE` of the longer side are closed:
what is dark behind them (a sinus, an airway) is inside the patient.

Letters: h, w rows and columns of a stored slice.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from medsam.inference.image_predictor import ScanEncoder

_DARK, _FREQUENT, _AIR, _PASSAGE = 0.02, 0.25, -950.0, 0.01


def background(scan_encoder: ScanEncoder, index: int) -> np.ndarray:
    """Bool (h, w): where slice `index` shows nothing. The same whichever way the slice is stored."""
    pixels = scan_encoder.pixels(index)
    channels = pixels if pixels.ndim == 3 else pixels[..., None]
    if scan_encoder.is_ct:
        dark = (channels < _AIR).all(axis=2)
    else:
        shown = scan_encoder.window.picture(channels)
        dark = (shown <= _DARK * 255).all(axis=2)
    candidates = dark | _constant(channels)
    hidden = scan_encoder.scan.without_signal(scan_encoder.plane, index)
    if hidden is not None:
        candidates |= hidden
    if not _ring(candidates).any():
        return np.zeros(candidates.shape, dtype=bool)
    candidates = ndimage.uniform_filter(candidates.astype(np.float32), 5, mode="nearest") > 0.5
    reach = max(1.0, _PASSAGE * max(candidates.shape))
    # what lies beyond the border counts as background
    inner = np.pad(candidates, int(reach) + 2, constant_values=True)
    wide = ndimage.distance_transform_edt(inner) > reach
    pieces, _ = ndimage.label(wide)
    core = pieces == pieces[0, 0]
    near = ndimage.distance_transform_edt(~core) <= reach
    margin = slice(int(reach) + 2, -int(reach) - 2)
    found: np.ndarray = (near & inner)[margin, margin]
    return found


def _ring(pixels: np.ndarray) -> np.ndarray:
    """The pixels on the border of (h, w, ...), one after the other."""
    return np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])


def _constant(channels: np.ndarray) -> np.ndarray:
    """Bool (h, w): exactly the most frequent value of the border, where it is frequent enough."""
    values, counts = np.unique(_ring(channels), axis=0, return_counts=True)
    if counts.max() < _FREQUENT * counts.sum():
        return np.zeros(channels.shape[:2], dtype=bool)
    alike: np.ndarray = (channels == values[counts.argmax()]).all(axis=2)
    return alike
