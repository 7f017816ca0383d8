"""The routes of a PACS: what there is, searched and fetched."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request

from medsam.errors import InputError
from medsam.pacs.query import Match
from medsam.server.cases.pacs import known_key
from medsam.server.cases.rooms import NotAllowed
from medsam.server.cases.routes import case_info
from medsam.server.cases.schemas import CaseInfo, FetchBody, FindBody, FoundInfo, MatchInfo, PacsInfo
from medsam.server.connected import while_connected
from medsam.server.gate.present import PresentReader
from medsam.server.services import PresentServices, Services
from medsam.store.readers import Reader

router = APIRouter(tags=["pacs"])
ServerName = Annotated[str, Path(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,31}$", description="of the settings file")]


@router.get("/pacs")
async def list_servers(reader: PresentReader, services: PresentServices) -> list[PacsInfo]:
    """The servers that may be searched, by name."""
    return [PacsInfo(name=name) for name in await services.cases.pacs.names()]


@router.post("/pacs/{server}/find")
async def find(
    server: ServerName, body: FindBody, request: Request, reader: PresentReader, services: PresentServices
) -> FoundInfo:
    """Search a PACS. Keys: patient_id, patient_name, accession, date, modality, study_description, series_description,
    study, series, or as DICOM names them; `*` and `?` are wildcards."""
    _check_may_know(services, reader)
    if unknown := [key for key in body.keys if not known_key(key)]:
        raise InputError(f"A PACS is not asked for {unknown[0]!r}.", parameter="keys")
    asked = services.cases.pacs.find(server, body.level, body.keys, body.limit)
    found = await while_connected(request, asked)
    return FoundInfo(found=[_match(match) for match in found.matches], more=found.more)


@router.post("/pacs/{server}/fetch")
async def fetch(
    server: ServerName, body: FetchBody, request: Request, reader: PresentReader, services: PresentServices
) -> CaseInfo:
    """Fetch a series, which is the reader's case from then on; what was fetched before is there at once."""
    _check_may_know(services, reader)
    case = await while_connected(request, services.cases.fetch(reader, server, body.study, body.series))
    request.state.audited = {"case": case.key}
    return case_info(services.cases, reader, case, None)


def _check_may_know(services: Services, reader: Reader) -> None:
    """What a PACS answers is about patients."""
    if not services.cases.may_know(reader):
        raise NotAllowed("Whose scans these are is not for this role.")


def _match(match: Match) -> MatchInfo:
    return MatchInfo(
        study=match.study,
        series=match.series,
        modalities=list(match.modalities),
        number=match.number,
        series_count=match.series_count,
        images=match.images,
        patient_id=match.patient_id,
        patient_name=match.patient_name,
        accession=match.accession,
        date=match.date,
        description=match.description,
    )
