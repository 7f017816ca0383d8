"""What the page believes of the server's answers (viewer/src/api/types.ts), against the server's OpenAPI."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from medsam.server.app import API, create_app
from medsam.server.settings import ServerSettings

SOURCES = Path(__file__).parents[3] / "viewer" / "src"
# of the page -> of the server, where they are called otherwise
NAMES = {
    "ObjectInfo": "ObjectAnswer",
    "JobInfo": "JobAnswer",
    "SessionInfo": "SessionAnswer",
    "EventInfo": "EventAnswer",
    "PromptEntry": "PromptRequest",
    "OrgansInfo": "OrgansAnswer",
}
# parts of dictionaries that the server describes no further
UNDESCRIBED = {"View"}
KINDS = {"string": {"string"}, "number": {"integer", "number"}, "boolean": {"boolean"}, "null": {"null"}}

INTERFACE = re.compile(r"export interface (\w+) \{\n(.*?)^\}", re.DOTALL | re.MULTILINE)
UNION = re.compile(r'export type (\w+) =((?:\s*\|?\s*"[^"]+")+);')
FIELD = re.compile(r"^  (\w+)(\??): (.+);$", re.MULTILINE)


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return create_app(ServerSettings(tmp_path_factory.mktemp("types") / "store")).openapi()


@pytest.fixture(scope="module")
def types() -> str:
    return (SOURCES / "api" / "types.ts").read_text(encoding="utf-8")


def interfaces(types: str) -> dict[str, dict[str, tuple[bool, str]]]:
    """Name -> field -> whether it may be missing, and its type."""
    return {
        name: {field: (bool(may), kind) for field, may, kind in FIELD.findall(body)}
        for name, body in INTERFACE.findall(types)
    }


def kinds(schema: dict[str, Any], schemas: dict[str, Any]) -> set[str]:
    """JSON types that a value may have."""
    if "$ref" in schema:
        return kinds(schemas[schema["$ref"].rsplit("/", 1)[-1]], schemas)
    either = schema.get("anyOf", schema.get("oneOf"))
    if either is not None:
        return set().union(*(kinds(one, schemas) for one in either))
    if "const" in schema or "enum" in schema:
        return {"string"} if all(isinstance(one, str) for one in schema.get("enum", [""])) else {"integer"}
    return {schema["type"]} if "type" in schema else set()


def words(schema: dict[str, Any]) -> set[str]:
    """What a value may be, where those are named."""
    found = set(schema.get("enum", ())) | ({schema["const"]} if "const" in schema else set())
    return found.union(*(words(one) for one in schema.get("anyOf", ())))


def test_what_the_page_reads_the_server_says(types, described):
    schemas = described["components"]["schemas"]
    told = interfaces(types)
    assert len(told) >= 20
    for name, fields in told.items():
        if name in UNDESCRIBED:
            continue
        assert NAMES.get(name, name) in schemas, name
        there = schemas[NAMES.get(name, name)]["properties"]
        assert set(fields) <= set(there), f"{name}: {sorted(set(fields) - set(there))}"
        for field, (may_be_missing, kind) in fields.items():
            stated = kinds(there[field], schemas)
            plain = {part.strip() for part in kind.split("|")}
            if "null" in stated:
                assert "null" in plain or may_be_missing, f"{name}.{field} may be null"
            for simple in plain & {"string", "number", "boolean"}:
                assert KINDS[simple] & stated, f"{name}.{field} is {sorted(stated)}, not {simple}"


def test_words_that_the_page_knows_are_the_servers(types, described):
    schemas = described["components"]["schemas"]
    unions = {name: set(re.findall(r'"([^"]+)"', body)) for name, body in UNION.findall(types)}
    compared = 0
    for name, fields in interfaces(types).items():
        for field, (_, kind) in fields.items():
            said = words(schemas.get(NAMES.get(name, name), {}).get("properties", {}).get(field, {}))
            known = unions.get(kind.removesuffix("[]")) or set(re.findall(r'"([^"]+)"', kind))
            if said and known:
                assert known == said, f"{name}.{field}"
                compared += 1
    assert compared >= 8


def asked(text: str) -> set[str]:
    """Paths that a source asks for, each variable part a {}."""
    plain = re.sub(r"//.*|/\*.*?\*/", "", text.replace("${this.path}", "/sessions/${id}"))
    paths = re.findall(r"[(\s:]([\"`])(/[a-z][^\"`\s]*)\1", plain)
    return {re.sub(r"\$\{[^}]*\}", "{}", path).removesuffix("/") for _, path in paths}


def test_each_path_that_the_page_asks_for_is_a_route(described):
    routes = {re.sub(r"\{[^}]*\}", "{}", path.removeprefix(API)) for path in described["paths"]}
    found = set()
    for source in sorted((SOURCES / "api").glob("*.ts")):
        found |= asked(source.read_text(encoding="utf-8"))
    # steps and changes of a reading are below its session
    live = (SOURCES / "reading" / "live.ts").read_text(encoding="utf-8")
    found |= {path if path.startswith("/sessions") else f"/sessions/{{}}{path}" for path in asked(live)}
    assert len(found) >= 25
    assert found - routes == {API}
