"""Errors as answers: one form, and nothing of a defect but its number."""

from __future__ import annotations

import logging
from typing import Annotated

import pytest
from fastapi import Body, FastAPI, HTTPException
from fastapi.responses import StreamingResponse

from medsam.errors import Cancelled, InputError, PromptError
from medsam.server.app import API
from medsam.server.errors import DroppedAnswer


def _failing(app: FastAPI) -> None:
    @app.get(f"{API}/prompt")
    async def prompt() -> None:
        raise PromptError("`slice` 900 is not in the scan (0 to 40).", parameter="slice")

    @app.get(f"{API}/cancelled")
    async def cancelled() -> None:
        raise Cancelled

    @app.get(f"{API}/gone")
    async def gone() -> None:
        raise HTTPException(404, "No such case.")

    @app.get(f"{API}/defect")
    async def defect() -> None:
        try:
            {}["DOE^JANE"]
        except KeyError as error:
            raise ValueError("/srv/scans/DOE^JANE.dcm") from error

    @app.get(f"{API}/half")
    async def half() -> StreamingResponse:
        async def body():
            yield b"first"
            raise InputError("/srv/scans/DOE^JANE.dcm")

        return StreamingResponse(body())

    @app.post(f"{API}/numbers")
    async def numbers(index: Annotated[int, Body()], box: Annotated[list[int], Body()]) -> None: ...


def test_what_is_expected_is_told_in_one_form(serve):
    client = serve(_failing)
    answer = client.get(f"{API}/prompt")
    assert (answer.status_code, answer.json()) == (
        422,
        {"detail": "`slice` 900 is not in the scan (0 to 40).", "parameters": ["slice"], "error": "PromptError"},
    )
    assert client.get(f"{API}/cancelled").status_code == 409
    answer = client.get(f"{API}/gone")
    assert (answer.status_code, answer.json()) == (404, {"detail": "No such case.", "parameters": [], "error": ""})
    assert client.get(f"{API}/nothing/here").json() == {"detail": "Not Found", "parameters": [], "error": ""}


def test_a_malformed_request_is_told_where_and_nothing_it_said(serve):
    answer = serve(_failing).post(f"{API}/numbers", json={"index": "DOE^JANE", "box": [1, "x"]})
    assert answer.status_code == 422
    assert answer.json()["parameters"] == ["index", "box.1"]
    assert "DOE" not in answer.text


def test_a_defect_has_a_number_and_no_word_of_it_leaves_the_code(serve, caplog):
    with caplog.at_level(logging.ERROR):
        answer = serve(_failing).get(f"{API}/defect")
    assert answer.status_code == 500
    number = answer.json()["detail"].rstrip(".").split()[-1]
    assert f"defect {number}: ValueError at " in caplog.text
    assert "from KeyError at test_errors.py:" in caplog.text
    assert "DOE" not in answer.text + caplog.text
    assert "/srv" not in answer.text + caplog.text


def test_half_an_answer_does_not_look_whole(serve, caplog):
    client = serve(_failing)
    with caplog.at_level(logging.ERROR), pytest.raises(DroppedAnswer):
        client.get(f"{API}/half")
    assert "DOE" not in caplog.text
