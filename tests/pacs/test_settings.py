"""The settings file: what it may say, and that no secret is ever shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from medsam.errors import InputError
from medsam.pacs import settings
from medsam.pacs.settings import Certificates, Dimse, Server, credentials, read_settings, settings_path

SECRET = "hunter2-correct-horse"


def written(folder: Path, text: str) -> Path:
    path = folder / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(folder: Path, text: str) -> str:
    with pytest.raises(InputError) as caught:
        read_settings(written(folder, text))
    assert SECRET not in str(caught.value)
    return str(caught.value)


def test_a_server_has_dicomweb_dimse_or_both(tmp_path):
    found = read_settings(
        written(
            tmp_path,
            """
            [servers.main]
            dicomweb = "https://pacs.example:8443/dicom-web/"
            user = "reader"
            ca = "certs/ca.pem"
            timeout_s = 5

            [servers.old]
            host = "10.0.0.7"
            port = 11112
            called_aet = "ARCHIVE"
            aet = "MEDSAM1"
            tls = true
            cert = "/etc/medsam/client.pem"
            key = "/etc/medsam/client.key"

            [listen]
            port = 11113
            """,
        )
    )
    assert found.servers["main"] == Server(
        "main",
        dicomweb="https://pacs.example:8443/dicom-web",
        certificates=Certificates(ca=tmp_path / "certs" / "ca.pem"),
        user="reader",
        timeout_s=5,
    )
    assert found.server("old").dimse == Dimse("10.0.0.7", 11112, "ARCHIVE", "MEDSAM1", tls=True)
    assert found.server("old").certificates.key == Path("/etc/medsam/client.key")
    assert found.listen == {"port": 11113}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[servers.a]\ndicomweb = 5", "[servers.a]: `dicomweb` must be text"),
        ("[servers.a]\ndicomweb = 'ftp://a/b'", "https://HOST"),
        ("[servers.a]\ndicomweb = 'https://'", "https://HOST"),
        ("[servers.a]\ndicomweb = 'https://a:99999/b'", "port"),
        ("[servers.a]\ndicomweb = 'https://a/b?c=d'", "no ?"),
        (f"[servers.a]\ndicomweb = 'https://u:{SECRET}@a/b'", "holds a user or a password"),
        (f"[servers.a]\ndicomweb = 'https://a/b'\npassword = '{SECRET}'", "No secret is kept in this file"),
        (f"[servers.a]\ndicomweb = 'https://a/b'\napi_token = '{SECRET}'", "No secret is kept in this file"),
        ("[servers.a]\ndicomweb = 'https://a/b'\nverify = false", "always verified"),
        ("[servers.a]\ndicomweb = 'https://a/b'\ndicomWeb = 1", "no key `dicomWeb`. Known are: ca, cert, key"),
        ("[servers.a]\ndicomweb = 'https://a/b'\nkey = 'k'", "no `cert`"),
        ("[servers.a]\ndicomweb = 'https://a/b'\nca = '~nobody-at-all/ca.pem'", "no such user"),
        ("[servers.a]\ndicomweb = 'http://pacs.example/b'\nuser = 'u'", "Use https://"),
        ("[servers.a]\ndicomweb = 'https://a/b'\nuser = 'u:p'", "colon"),
        ("[servers.a]\ndicomweb = 'https://a/b'\ntimeout_s = 0", "between 1 and 3600"),
        ("[servers.a]\ndicomweb = 'https://a/b'\ntimeout_s = true", "must be a number"),
        ("[servers.a]\ndicomweb = 'https://a/b'\ntls = true", "which are not there"),
        ("[servers.a]", "it needs `dicomweb`"),
        ("[servers.a]\nhost = 'a'\nport = 104", "all three"),
        ("[servers.a]\nhost = 'a'\nport = 104.0\ncalled_aet = 'X'", "`port` must be a whole number"),
        ("[servers.a]\nhost = 'a'\nport = 0\ncalled_aet = 'X'", "between 1 and 65535"),
        ("[servers.a]\nhost = 'a/b'\nport = 104\ncalled_aet = 'X'", "`host`"),
        ("[servers.a]\nhost = 'a'\nport = 104\ncalled_aet = 'SEVENTEEN LETTERS'", "no AE title"),
        ("[servers.a]\nhost = 'a'\nport = 104\ncalled_aet = 'A\\B'", "no AE title"),
        ("[servers.a]\nhost = 'a'\nport = 104\ncalled_aet = 'X'\nuser = 'u'", "DIMSE knows no users"),
        ("servers = 5", "`servers` must be a table"),
        ("[servers]\na = 5", "`a` must be a table"),
        ("[servers.'../x']\ndicomweb = 'https://a/b'", "cannot be the name of a server"),
        ("[servers.a]\ndicomweb = 'https://a'\n[servers.a]\ndicomweb = 'https://b'", "is not TOML"),
        ("[servers.a-b]\ndicomweb = 'https://a'\n[servers.A_B]\ndicomweb = 'https://b'", "are one name"),
        ("[server.a]\ndicomweb = 'https://a'", "no key `server`. Known are: servers, listen"),
        ("listen = 3", "`listen` must be a table"),
        (f"[servers.a]\n{SECRET}", "is not TOML"),
    ],
)
def test_what_is_wrong_is_one_error_that_names_the_place_and_no_value(tmp_path, text, said):
    message = refused(tmp_path, text)
    assert said in message
    assert "settings.toml" in message or "Server a" in message


def test_a_missing_file_says_where_it_is_looked_for_and_how_it_begins(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSAM_SETTINGS", str(tmp_path / "none.toml"))
    with pytest.raises(InputError, match=r"none\.toml.*\n.*\[servers\.NAME\]"):
        read_settings()
    monkeypatch.delenv("MEDSAM_SETTINGS")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert settings_path().name == "settings.toml"


def test_bytes_that_are_no_text_and_a_folder_are_refused(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        read_settings(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_settings(tmp_path)


def test_a_name_that_is_not_there_lists_those_that_are(tmp_path):
    found = read_settings(written(tmp_path, "[servers.main]\ndicomweb = 'https://a'"))
    with pytest.raises(InputError, match="no server 'mian'. There is: main"):
        found.server("mian")


def test_a_password_comes_from_the_environment_and_is_never_shown(monkeypatch):
    server = Server("my-pacs", dicomweb="https://a/b", user="reader")
    with pytest.raises(InputError, match=r"MEDSAM_MY_PACS_PASSWORD.*medsam pacs login my-pacs"):
        credentials(server)
    monkeypatch.setenv("MEDSAM_MY_PACS_PASSWORD", SECRET)
    found = credentials(server)
    assert found is not None
    assert (found.user, found.password, found.token) == ("reader", SECRET, None)
    assert SECRET not in f"{found!r} {found} {server!r}"
    monkeypatch.setenv("MEDSAM_MY_PACS_TOKEN", SECRET)
    assert credentials(server) == settings.Credentials(token=SECRET)
    monkeypatch.setenv("MEDSAM_MY_PACS_TOKEN", f"{SECRET}\r\nX-Other: 1")
    with pytest.raises(InputError, match="control character") as caught:
        credentials(server)
    assert SECRET not in str(caught.value)


def test_no_credentials_go_over_a_network_in_clear(monkeypatch):
    monkeypatch.setenv("MEDSAM_A_TOKEN", SECRET)
    with pytest.raises(InputError, match="Use https"):
        credentials(Server("a", dicomweb="http://pacs.example/x"))
    for host in ("localhost", "127.0.0.1", "127.8.0.1", "[::1]"):
        assert credentials(Server("a", dicomweb=f"http://{host}:8042/x"))
    assert credentials(Server("b", dicomweb="http://pacs.example/x")) is None


def test_a_server_without_user_or_token_gets_none():
    assert credentials(Server("a", dicomweb="https://a/b")) is None
