import json
from collections.abc import AsyncIterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from medsam.client.connection import Connection, Lost
from medsam.client.events import Event, follow, read_events


def test_events_are_read_as_the_standard_says():
    stream = [
        ": alive",
        "id: 4",
        'data: {"revision":4,"kind":"job",',
        'data: "job":7,"state":"done","done":3,"total":3,"later":1}',
        "",
        "retry: 10",
        "",
        "data:no json",
        "",
        'data:{"revision":5,"kind":"mask","object":1,"slice":9}',
        "",
        'data: {"revision":6,"kind":"never ended"}',
    ]
    alive, job, mask = read_events(stream)
    assert alive is None
    assert (job.kind, job.revision, job.job, job.state, job.done, job.total) == ("job", 4, "7", "done", 3, 3)
    assert job.ends_job
    assert job.more["later"] == 1
    assert mask == Event("mask", 5, object=1, slice=9, more=mask.more)
    assert not mask.ends_job


@pytest.fixture
def interrupted(serve_app):
    """Answers one event a connection, and ends it; keeps after which one each was asked for."""
    asked: list[str] = []

    async def events(request: Request) -> StreamingResponse:
        asked.append(request.headers["Last-Event-ID"])
        after = int(asked[-1])

        async def body() -> AsyncIterator[str]:
            yield ": hello\n\n"
            yield f"id: {after + 1}\ndata: {json.dumps({'revision': after + 1, 'kind': 'mask'})}\n\n"
            if after == 2:
                raise ConnectionResetError("in the middle")

        return StreamingResponse(body(), media_type="text/event-stream")

    return serve_app(Starlette(routes=[Route("/api/v1/sessions/x/events", events)])), asked


def test_a_lost_connection_goes_on_where_it_was(interrupted):
    url, asked = interrupted
    connection, seen = Connection(url), []
    for event in follow(connection, "/sessions/x/events", 0):
        if event is not None:
            seen.append(event.revision)
        if len(seen) == 4:
            break
    connection.close()
    assert seen == [1, 2, 3, 4]
    assert asked == ["0", "1", "2", "3"]


def test_a_session_that_is_closed_is_not_asked_again(scripted):
    url, server = scripted({"GET /sessions/x/events": [Response(status_code=204)]})
    connection = Connection(url)
    assert list(follow(connection, "/sessions/x/events", 0)) == []
    connection.close()
    assert server.count("GET /sessions/x/events") == 1


def test_time_that_is_over_and_a_server_that_stays_away_end_it(interrupted, monkeypatch):
    url, _ = interrupted
    monkeypatch.setattr("medsam.client.events.WAITS", (0.0, 0.0))
    connection = Connection(url)
    assert [one.revision for one in follow(connection, "/sessions/x/events", 7, seconds=0.0) if one] == []
    away = Connection("http://127.0.0.1:9")
    with pytest.raises(Lost, match="medsam serve"):
        list(follow(away, "/sessions/x/events", 0))
    connection.close()
    away.close()
