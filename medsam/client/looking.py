"""What a session on a server can be asked beside its masks, and what is said of them all."""

from __future__ import annotations

from typing import Any

from medsam.client.connection import Connection


class Looking:
    """The part of a `RemoteSession` that takes no steps."""

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
