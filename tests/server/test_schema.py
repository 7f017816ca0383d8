"""`scripts/parity/serve_schema.py` for a few seconds, and what it would find."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from serve_schema import examine


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_route_answers_as_the_openapi_says_and_none_with_500(tmp_path):
    findings, counts = examine(tmp_path, examples=2, seed=1, seconds=120)
    assert findings == []
    assert len({key.rsplit(" ", 1)[0] for key in counts}) >= 35
    assert any(key.endswith("/prompts 200") for key in counts)


NUMBER = {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_answers_that_are_none_of_those_described_are_found(tmp_path):
    def faulty(app: FastAPI) -> None:
        described = {200: {"description": "", "content": {"application/json": {"schema": NUMBER}}}}

        @app.get("/api/v1/faulty/type", response_model=None, responses=described)
        async def other() -> dict[str, str]:
            return {"number": "many"}

        @app.get("/api/v1/faulty/defect")
        async def defect() -> None:
            raise RuntimeError

    findings, _ = examine(tmp_path, examples=1, seed=1, seconds=60, only=("/faulty",), prepare=faulty)
    assert [text.split(":")[0] for text in findings] == ["GET /api/v1/faulty/type", "GET /api/v1/faulty/defect"]
