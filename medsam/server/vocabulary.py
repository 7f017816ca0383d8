"""Names of structures, for who types one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from medsam.labels.completion import completions
from medsam.server.gate.present import PresentReader
from medsam.server.readings.objects import usual_colour

router = APIRouter(tags=["sessions"])


class StructureName(BaseModel):
    """A structure of the vocabulary, see docs/structures.md."""

    name: str = Field(examples=["kidney_left"])
    synonyms: list[str] = Field(description="what else it is called", examples=[["left kid"]])
    colour: str = Field(description="that an object of this name gets", examples=["#2e8ab8"])


@router.get("/vocabulary")
async def vocabulary(
    reader: PresentReader,
    q: Annotated[str, Query(max_length=100, description="beginning of a name, or of words of it")] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 20,
) -> list[StructureName]:
    """Names of structures with their codes in DICOM, the likeliest first; an object may have any other name, too."""
    return [
        StructureName(
            name=one.structure.name,
            synonyms=list(one.synonyms),
            colour=usual_colour(one.structure.name, number),
        )
        for number, one in enumerate(completions(q, limit), start=1)
    ]
