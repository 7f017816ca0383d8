"""What a session on a server can be asked beside its masks, and what is said of them all."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from medsam.client.connection import Connection
from medsam.client.masks import RemoteResult, result_of
from medsam.errors import InputError
from medsam.wire import read_frames


class Looking:
    """The part of a `RemoteSession` that takes no steps."""

    id: str
    _connection: Connection
    _path: str

    @property
    def told(self) -> dict[str, Any]:
        """All that the server says of the session: model, licence, objects, jobs, steps (docs/server.md)."""
        return self._connection.told(dict, "GET", self._path)

    def keep_range(self, low: float | None = None, high: float | None = None) -> None:
        """Have only pixels of these values in masks that are made from now on; neither: whatever their values are."""
        values = None if low is None and high is None else [low, high]
        self._connection.request("PATCH", self._path, json={"keep_range": values})

    def measures(self) -> list[dict[str, Any]]:
        """Of each object {"object", "name", "voxels", "volume_ml", "diameter_mm", "slice", "ends", "mean", "std",
        "minimum", "maximum", "units"}, see `medsam.metrics.structure`."""
        return self._connection.told(list, "GET", f"{self._path}/measures")

    def organs_offered(self) -> dict[str, Any]:
        """What `organs` would look for now, and as what the scan is taken (docs/server.md).

        {"modality", "modality_by", "structures": [{"structure", "object": that has a mask of it, which is kept, "head",
        "tested_on_patients", "tested_dice", "tested_scans_without"}], "lack": why there is none}.
        """
        return self._connection.told(dict, "GET", f"{self._path}/organs")

    def compare(self, other: Looking | str | Path) -> dict[str, Any]:
        """How far the objects are from another session's on the same scan, or from a file of labels in any format.

        Gives {"reference": an id for `compared_masks`, "structures": [{"name", "object", "dice", "nsd", "hd95_mm",
        "assd_mm", "volume_ml", "volume_ref_ml"}], "notes"}. Raises InputError for labels of another grid.
        """
        path = f"{self._path}/compare"
        if isinstance(other, Looking):
            return self._connection.told(dict, "POST", path, json={"session": other.id}, wait_s=600.0)
        file = Path(other)
        try:
            content = file.read_bytes()
        except OSError as error:
            raise InputError(f"{file} cannot be read: {error.strerror or error}.", parameter="other") from error
        headers = {"X-Filename": quote(file.name), "Content-Type": "application/octet-stream"}
        return self._connection.told(dict, "POST", path, content=content, headers=headers, wait_s=600.0)

    def compared_masks(self, reference: str) -> dict[tuple[int, int], RemoteResult]:
        """The masks that were compared with, within an hour: by number of the object they go with, and slice."""
        answer = self._connection.request("GET", f"{self._path}/compare/{reference}/masks")
        return {(frame.object, frame.slice): result_of(frame) for frame in read_frames(answer.content)}
