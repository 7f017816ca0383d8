"""What goes over the wire about cases, as OpenAPI describes it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from medsam.geometry import Axis

# what a key is made of
KEY = r"^[A-Za-z0-9_-]{1,64}$"
Key = Annotated[str, Field(pattern=KEY, examples=["3m0Vh1dG9bYqLxTz"])]
Word = Annotated[str, Field(min_length=1, max_length=64)]
_UID = r"^[0-9]+(\.[0-9]+)+$"


class Strict(BaseModel):
    """A body in which an unknown name is an error: it is a wish that would not be fulfilled."""

    model_config = ConfigDict(extra="forbid")


class Patient(BaseModel):
    """Whose scan it is, as its DICOM file says; for those who may know. Never a part of an address."""

    name: str
    id: str
    study_date: str = Field(description="YYYYMMDD")
    study_description: str
    series_description: str


class CaseInfo(BaseModel):
    """A scan that the reader may open."""

    id: Key
    name: str = Field(description="of DICOM made of codes and numbers; of other files what they are called")
    kind: Literal["data", "upload", "pacs"] = Field(description="from where it came")
    format: Literal["dicom", "nifti", "nrrd", "mha", "picture", "npz"]
    modality: str | None = Field(description="DICOM code, where it is known", examples=["CT"])
    shape: tuple[int, int, int] | None = Field(description="(K, J, I): as stated, and once read as it is")
    files: int
    state: Literal["listed", "loading", "ready", "broken", "gone"] = Field(
        description="ready: in memory. broken: see `problem`. gone: its files have vanished"
    )
    problem: str | None = Field(default=None, description="why it cannot be read")
    mine: bool = Field(description="whether the reader brought it, and may delete it")
    added: datetime
    patient: Patient | None = None


class Uploaded(BaseModel):
    """What an upload has become: a series each."""

    cases: list[CaseInfo]
    notes: list[str] = Field(description="what was left out")


class PlaneInfo(BaseModel):
    """Slices along one axis. view: how a stored slice is turned to stand upright, transposed first."""

    count: int
    shape: tuple[int, int] = Field(description="(rows, columns) as stored")
    spacing_mm: tuple[float, float]
    view: dict[str, bool]


class WindowInfo(BaseModel):
    """Values that are shown as black and as white."""

    name: str
    low: float
    high: float


class Geometry(BaseModel):
    """The grid of a scan, and how it is seen. `shape`, `affine` and `calibrated` are a `VolumeGeometry`."""

    shape: tuple[int, int, int] = Field(description="(K, J, I)")
    affine: list[list[float]] = Field(description="4 x 4, voxel (i, j, k, 1) -> LPS mm")
    calibrated: bool = Field(description="false: no millimetres are known")
    spacing_mm: tuple[float, float, float] | None
    axcodes: str | None = Field(description="where i, j and k grow", examples=["LPS"])
    axis: Axis = Field(description="slices were most likely acquired along it")
    planes: dict[Axis, PlaneInfo]
    modality: str | None
    units: str | None
    colour: bool
    dtype: str = Field(examples=["<i2"])
    windows: list[WindowInfo] = Field(description="presets; the first is what the network sees through")
    notes: list[str]


class Opening(BaseModel):
    """A scan is being read."""

    state: Literal["loading"] = "loading"


class Share(Strict):
    """Who may see a case beside who brought it."""

    user: Word = Field(description="as they log in")
    may: bool = True


class FindBody(Strict):
    """A question to a PACS. Its keys are about patients: it is sent in a body, and kept nowhere."""

    level: Literal["study", "series"] = "study"
    keys: dict[Word, Annotated[str, Field(max_length=64)]] = Field(
        default={}, max_length=16, examples=[{"modality": "CT", "date": "20290101-"}]
    )
    limit: int = Field(default=100, ge=1, le=500)


class MatchInfo(BaseModel):
    """One study or series that a PACS has."""

    study: str
    series: str = ""
    modalities: list[str]
    number: int | None
    series_count: int | None
    images: int | None
    patient_id: str = ""
    patient_name: str = ""
    accession: str = ""
    date: str = ""
    description: str = ""


class FoundInfo(BaseModel):
    """more: there are more than the limit."""

    found: list[MatchInfo]
    more: bool


class CompareBody(Strict):
    """Which session to compare with: any that the reader may see, open or closed, on the same scan."""

    session: Key


class ComparedStructure(BaseModel):
    """How far an object is from the structure it goes with. Null: what there is no number of, such as a distance to
    nothing, or millimetres on a scan without any."""

    name: str
    object: int | None = Field(description="its number; null for a structure of the reference alone")
    dice: float | None
    nsd: float | None = Field(None, description="at the tolerance of the structure's name (docs/evaluation.md)")
    hd95_mm: float | None
    assd_mm: float | None
    volume_ml: float | None
    volume_ref_ml: float | None


class Compared(BaseModel):
    """reference: under it the masks that were compared with are kept for an hour."""

    reference: Key
    structures: list[ComparedStructure]
    notes: list[str] = Field([], description="how the labels were read")


class FetchBody(Strict):
    """Which series."""

    study: str = Field(pattern=_UID, max_length=64, examples=["1.2.840.1"])
    series: str = Field(pattern=_UID, max_length=64, examples=["1.2.840.1.7"])


class PacsInfo(BaseModel):
    """A server of the settings file."""

    name: str


class SendBody(Strict):
    """Where a result goes, and as what."""

    server: Word
    format: Literal["seg", "seg-labelmap", "rtstruct"] = "seg"


class SentInfo(BaseModel):
    """What a PACS took. failures: its reasons."""

    stored: int
    failures: list[str]
    notes: list[str]


_BYTES = {"schema": {"type": "string", "format": "binary"}}


def binary(*media: str) -> dict[int | str, dict[str, Any]]:
    """The answers of a route that sends bytes. media: their types."""
    content = dict.fromkeys(media or ("application/octet-stream",), _BYTES)
    return {
        200: {
            "description": "raw values are in C order, little-endian; X-Medsam-Meta says what it is",
            "content": content,
            "headers": {
                "X-Medsam-Meta": {
                    "description": 'JSON: {"dtype": "<i2", "shape": [200, 512, 512], "order": "C", ...}',
                    "schema": {"type": "string"},
                },
                "ETag": {"schema": {"type": "string"}},
            },
        },
        206: {"description": "the part that `Range` asked for", "content": content},
        304: {"description": "the client has it: `If-None-Match`"},
        416: {"description": "a part beyond the end"},
    }
