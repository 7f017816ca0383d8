"""nnInteractive's own client as a viewer uses it."""

from __future__ import annotations

from typing import Any

import numpy as np


class Viewer:
    """A client with an image, and the mask as it has it."""

    def __init__(self, session: Any, image: np.ndarray, spacing: Any = (3.0, 1.0, 1.0), dtype: Any = np.uint8) -> None:
        self.session, self.buffer = session, np.zeros(image.shape, dtype)
        session.set_image(image[None], {} if spacing is None else {"spacing": np.array(spacing)})
        session.set_target_buffer(self.buffer)

    @property
    def mask(self) -> np.ndarray:
        return self.buffer != 0

    def wait(self) -> None:
        """Until the object has been followed to its ends, however slow the machine is."""
        while '"ran_prediction": true' in (answer := self.session._post_json("/predict", {})).headers["X-Meta"]:
            self.session._apply_prediction_response(answer)
