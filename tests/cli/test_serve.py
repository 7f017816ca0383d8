"""`medsam serve`: users, backups and checks here; the server itself in a process of its own."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import torch
from argon2 import PasswordHasher

from medsam.annotation.project import AnnotationProject
from medsam.annotation.settings import Settings
from medsam.cli.main import main
from medsam.models.build import build_model
from medsam.models.checkpoint import save_checkpoint
from medsam.models.specs import tiny_spec
from medsam.server.page import built
from medsam.server.settings import ServerSettings
from medsam.store import people
from medsam.store.store import Store

PASSWORD = "a long enough one"


@pytest.fixture(autouse=True)
def _quick_hashes(monkeypatch):
    monkeypatch.setattr(people, "_HASHER", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))


@pytest.fixture
def store(tmp_path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def called(store, monkeypatch, capsys):
    """`called("--list-users", typed="...")`: the exit status, and what was printed to stdout and stderr."""

    def call(*words: str, typed: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        status = main(["serve", "--store", str(store), *words])
        return status, *capsys.readouterr()

    return call


def test_users_come_and_go(called, store):
    status, out, _ = called("--add-user", "anna", typed=f"{PASSWORD}\nanything else\n")
    assert (status, out) == (0, "anna may log in, as administrator.\n")
    assert called("--add-user", "ben", "--role", "reviewer", typed=PASSWORD)[0] == 0
    listed = json.loads(called("--list-users", "--json")[1])
    assert [(user["name"], user["role"], user["active"]) for user in listed] == [
        ("anna", "administrator", True),
        ("ben", "reviewer", True),
    ]
    assert called("--remove-user", "ben")[0] == 0
    assert "ben" in called("--list-users")[1]
    with Store.open(store, serving=False) as opened:
        assert opened.verify("anna", PASSWORD).name == "anna"
        assert opened.verify("ben", PASSWORD) is None
    assert called("--set-password", "ben", typed="another long one")[0] == 0
    assert called("--set-password", "carl", typed="another long one")[0] == 2
    with Store.open(store, serving=False) as opened:
        assert opened.verify("ben", PASSWORD) is None
        assert opened.verify("ben", "another long one").name == "ben"


@pytest.mark.parametrize(
    ("words", "typed", "message"),
    [
        (("--add-user", "anna"), "short\n", "8 to 1024"),
        (("--add-user", "anna"), "", "8 to 1024"),
        (("--add-user", "anna", "--role", "reader"), PASSWORD, "--role"),
        (("--role", "reader"), "", "--role is of a user"),
        (("--list-users",), "", "There is no --store"),
        (("--backup", "copy.db"), "", "There is no --store"),
        (("--port", "70000"), "", "--port"),
        (("--lock-after", "nan"), "", "--lock-after"),
        (("--key", "x.pem"), "", "--certificate"),
        (("--proxy", "here"), "", "--proxy"),
        (("--host", "no.such.name.invalid"), "", "--host"),
        (("--host", "0.0.0.0", "--port", "0"), "", "--add-user"),
        (("--certificate", "none.pem", "--port", "0"), "", "--certificate"),
    ],
)
def test_what_is_wrong_is_said_in_one_message(called, store, words, typed, message):
    status, out, err = called(*words, typed=typed)
    assert (status, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_no_folder_of_other_things_is_taken_for_a_store(called, store):
    store.mkdir(mode=0o755)
    (store / "letter.txt").write_text("Dear")
    for words in (("--add-user", "anna"), ("--list-users",), ("--remove-user", "anna"), ("--port", "0")):
        status, _, err = called(*words, typed=PASSWORD)
        assert (status, "--store" in err) == (2, True), words
    assert [path.name for path in store.iterdir()] == ["letter.txt"]
    assert store.stat().st_mode & 0o777 == 0o755


def test_nobody_is_added_by_a_password_typed_differently(called, monkeypatch):
    typed = iter([PASSWORD, PASSWORD + "!"])
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(typed))

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    from medsam.cli import serve

    monkeypatch.setattr("sys.stdin", Terminal())
    with pytest.raises(Exception, match="not the same"):
        serve._password()


def test_a_backup_opens_again(called, store, tmp_path):
    called("--add-user", "anna", typed=PASSWORD)
    folder = tmp_path / "copy"
    folder.mkdir()
    assert called("--backup", str(folder / "medsam.db"))[0] == 0
    with Store.open(folder, serving=False) as opened:
        assert [user.name for user in opened.users()] == ["anna"]


@pytest.mark.parametrize("page", [True, None])
def test_a_check_says_what_works_and_what_does_not(called, tmp_path, monkeypatch, page):
    monkeypatch.setenv("MEDSAM_SETTINGS", str(tmp_path / "none.toml"))
    monkeypatch.setattr(built, "BUILT", tmp_path / "built")
    if page:
        (tmp_path / "built").mkdir()
        (tmp_path / "built" / "index.html").write_text("<!doctype html>")
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = str(busy.getsockname()[1])
        words = ("--check", "--json", "--data", str(tmp_path), "--data", str(tmp_path / "nothing"))
        status, out, err = called(*words, "--port", port, "--model", str(_model(tmp_path)))
    found = {one["what"]: one["works"] for one in json.loads(out)}
    assert found == {
        "packages": True,
        "extras": True,
        "page": page,
        f"data {tmp_path}": True,
        f"data {tmp_path / 'nothing'}": False,
        "store": True,
        "disk": True,
        "memory": True,
        "protocol medsam": True,
        "protocol MONAI Label": None,
        "protocol nnInteractive": None,
        "users": None,
        "address": True,
        "port": False,
        "TLS": None,
        "PACS": None,
        "model": True,
    }
    assert status == 2
    assert "2 things would not work" in err


def _model(folder: Path) -> Path:
    torch.manual_seed(1)
    path = folder / "tiny.safetensors"
    save_checkpoint(build_model(tiny_spec("vit")), path)
    return path


@pytest.mark.slow
def test_a_server_from_its_start_to_ctrl_c(tmp_path):
    words = ["--store", str(tmp_path / "store"), "--port", "0", "--model", str(_model(tmp_path))]
    command = [sys.executable, "-m", "medsam.cli.main", "serve", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    try:
        address = process.stdout.readline().split()[2]
        assert httpx.get(f"{address}/health/live").status_code == 200
        me = httpx.get(f"{address}/api/v1/me", headers={"Host": "evil.example"})
        assert me.status_code == 421
        # a second one on the same store, and on the same port
        port = address.rsplit(":", 1)[1]
        assert main(["serve", *words[:2], "--port", "0"]) == 2
        assert main(["serve", "--store", str(tmp_path / "other"), "--port", port]) == 2
    finally:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    lines = err.splitlines()
    if not built.is_built():
        # said once
        lines.remove(built.NOT_BUILT)
        assert built.NOT_BUILT not in lines
    assert lines[-1] == "Interrupted."
    statuses = [line["status"] for line in map(json.loads, lines[:-1]) if line["event"] == "request"]
    assert statuses == [200, 421]


def test_the_demo_is_served_from_a_store_of_its_own(called, store, tmp_path, monkeypatch):
    served = list[ServerSettings]()

    def serve(settings, listening, *, certificate, started):
        served.append(settings)
        listening.close()
        started("http://127.0.0.1:8000")

    scans = tmp_path / "demo"
    scans.mkdir()
    (scans / "lumbar-ct.nii.gz").write_bytes(b"read when it is opened")
    monkeypatch.setattr("medsam.server.cases.demo.demo_folder", lambda: scans)
    monkeypatch.setattr("medsam.server.run.serve", serve)
    monkeypatch.setattr("platformdirs.user_data_dir", lambda *words, **options: str(tmp_path / "user"))
    data = tmp_path / "data"
    data.mkdir()
    assert main(["serve", "--demo", "--data", str(data), "--port", "0"]) == 0
    assert (served[0].store, served[0].data) == (tmp_path / "user" / "demo", (data, scans))
    status, out, _ = called("--demo", "--port", "0")
    assert (status, served[1].store, served[1].data) == (0, store, (scans,))
    address = out.splitlines()[-1].removeprefix("The demo's scan: ")
    with Store.open(store, serving=False) as opened:
        assert address == f"http://127.0.0.1:8000/#/case/{opened.case_sources()[0].key}"


def test_a_project_is_served_on_its_own_store_with_its_own_model(tmp_path, capsys):
    folder = tmp_path / "livers"
    assert main(["serve", "--project", str(folder), "--check"]) == 2
    assert f"{folder} holds no --project" in capsys.readouterr().err
    AnnotationProject.create(folder, "livers", ["liver"], Settings()).close()
    for option, value in (("--model", "litemedsam"), ("--store", str(tmp_path / "other"))):
        assert main(["serve", "--project", str(folder), "--check", option, value]) == 2
        assert f"A --project has its own {option[2:]}" in capsys.readouterr().err
    assert main(["serve", "--project", str(folder), "--list-users", "--json"]) == 0
    assert capsys.readouterr().out == "[]\n"
    assert main(["serve", "--project", str(tmp_path), "--list-users"]) == 2
