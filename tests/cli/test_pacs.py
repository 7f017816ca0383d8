"""`medsam pacs`, as far as it needs no server; with one: tests/pacs/test_orthanc.py."""

from __future__ import annotations

import json

import pytest

from medsam.cli.main import main
from medsam.pacs import settings

SECRET = "hunter2-correct-horse"


@pytest.fixture(autouse=True)
def kept(monkeypatch, tmp_path) -> dict:
    """A settings file, and a keyring of this test alone: (service, account) -> secret."""
    entries: dict[tuple[str, str], str] = {}

    class Keyring:
        @staticmethod
        def get_password(service, account):
            return entries.get((service, account))

        @staticmethod
        def set_password(service, account, secret):
            entries[service, account] = secret

        @staticmethod
        def delete_password(service, account):
            del entries[service, account]

    monkeypatch.setattr(settings, "_keyring", lambda: Keyring)
    path = tmp_path / "settings.toml"
    path.write_text(
        "[servers.main]\ndicomweb = 'https://pacs.example/rs'\nuser = 'reader'\n"
        "[servers.old]\nhost = '10.0.0.7'\nport = 104\ncalled_aet = 'ARCHIVE'\ntls = true\n"
    )
    monkeypatch.setenv("MEDSAM_SETTINGS", str(path))
    monkeypatch.chdir(tmp_path)
    return entries


def said(capsys) -> str:
    both = capsys.readouterr()
    assert SECRET not in both.out + both.err
    return both.out + both.err


def test_a_password_is_read_from_stdin_kept_in_the_keyring_and_removed(kept, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", iter_lines(SECRET))
    assert main(["pacs", "login", "main"]) == 0
    assert kept == {("medsam main", "user reader"): SECRET}
    assert main(["pacs", "servers"]) == 0
    assert "keyring" in said(capsys)
    assert main(["pacs", "logout", "main"]) == 0
    assert kept == {}
    assert "removed 1 entry" in said(capsys)


def iter_lines(text: str):
    from io import StringIO

    return StringIO(text + "\n")


def test_a_token_is_kept_apart_and_a_password_needs_a_user(kept, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", iter_lines(SECRET))
    assert main(["pacs", "login", "main", "--token"]) == 0
    assert kept == {("medsam main", "token"): SECRET}
    monkeypatch.setattr("sys.stdin", iter_lines(SECRET))
    assert main(["pacs", "login", "old"]) == 2
    assert "no `user`" in said(capsys)
    monkeypatch.setattr("sys.stdin", iter_lines(""))
    assert main(["pacs", "login", "main"]) == 2
    assert "nothing is kept" in said(capsys)


def test_a_keyring_that_does_not_work_names_the_variable_and_not_the_secret(monkeypatch, capsys):
    class Broken:
        @staticmethod
        def set_password(service, account, secret):
            raise RuntimeError(f"no backend for {secret}")

    monkeypatch.setattr(settings, "_keyring", lambda: Broken)
    monkeypatch.setattr("sys.stdin", iter_lines(SECRET))
    assert main(["pacs", "--debug", "login", "main"]) == 2
    assert "MEDSAM_MAIN_PASSWORD" in said(capsys)


def test_servers_are_listed_without_asking_them(monkeypatch, capsys):
    monkeypatch.setenv("MEDSAM_MAIN_PASSWORD", SECRET)
    assert main(["pacs", "servers", "--json"]) == 0
    listed = json.loads(said(capsys))
    assert [server["name"] for server in listed["servers"]] == ["main", "old"]
    assert listed["servers"][0]["credentials"] == "environment"
    assert listed["servers"][1]["dimse"] == {
        "host": "10.0.0.7",
        "port": 104,
        "called_aet": "ARCHIVE",
        "aet": "MEDSAM",
        "tls": True,
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pacs", "find", "other"], "no server 'other'. There is: main, old"),
        (["pacs", "find", "main", "--study", "DOE^JANE"], "This is no Study Instance UID"),
        (["pacs", "find", "main", "--date", "1.2.2024"], "YYYYMMDD"),
        (["pacs", "find", "main", "--patient-id", "A\\B"], "no backslash"),
        (["pacs", "find", "main", "--limit", "0"], "--limit must be at least 1"),
        (["pacs", "find", "main", "--level", "study", "--series", "1.2"], "a key of the level series"),
        (["pacs", "get", "main", "../../etc", "--out", "x"], "no Study Instance UID"),
        (["pacs", "get", "main", "1.2/../x", "--out", "x"], "no Series Instance UID"),
        (["pacs", "get", "old", "1.2", "--out", "x", "--via", "dicomweb"], "has no `dicomweb`"),
        (["pacs", "store", "main", "none.dcm"], "does not exist"),
        (["pacs", "store", "main", "settings.toml"], "not a DICOM file"),
        (["segment", "dicomweb:main", "--box", "1,1,2,2"], "A scan on a server is dicomweb:NAME/STUDY/SERIES"),
        (["segment", "dicomweb:main/1.2/3.4/5", "--box", "1,1,2,2"], "A scan on a server is dicomweb:NAME"),
        (["segment", "dicomweb:main/x/3.4", "--box", "1,1,2,2"], "no Study Instance UID"),
        (["segment", "dimse:main/1.2/3.4", "--box", "1,1,2,2"], "no `host`, `port` and `called_aet`"),
        (["segment", "dicomweb:nil/1.2/3.4", "--box", "1,1,2,2"], "no server 'nil'"),
        (["segment", "dicomweb:main/1.2/3.4", "--series", "3.5", "--box", "1,1,2,2"], "--series contradicts"),
    ],
)
def test_what_is_wrong_is_said_before_anybody_is_asked(words, message, monkeypatch, capsys):
    monkeypatch.setenv("MEDSAM_MAIN_PASSWORD", SECRET)
    assert main(words) == 2
    assert message in said(capsys)
