import os
import socket

import numpy as np
import pytest

from medsam.errors import InputError, printable
from medsam.io.files import parse_json, read_json
from medsam.io.labels import load_labels
from medsam.io.load import load_volume
from medsam.io.save import save_labels
from medsam.prompts.parse import read_prompts
from medsam.volume import LabelVolume, Volume

SUFFIXES = (".nii", ".nii.gz", ".hdr", ".nrrd", ".mha", ".png", ".tif", ".npz", ".zip", ".dcm", "")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_pipes_sockets_and_devices_are_refused_and_not_waited_for(tmp_path, suffix, monkeypatch):
    pipe, link = tmp_path / f"pipe{suffix}", tmp_path / f"null{suffix}"
    os.mkfifo(pipe)
    link.symlink_to("/dev/zero")
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"socket{suffix}")
        for path in (pipe, link, tmp_path / f"socket{suffix}"):
            with pytest.raises(InputError, match="is a pipe, a socket or a device"):
                load_volume(path)
            with pytest.raises(InputError, match="is a pipe, a socket or a device"):
                load_labels(path, Volume.from_array(np.zeros((1, 2, 2), np.uint8)).geometry)


def test_a_prompts_file_that_is_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "p.json")
    with pytest.raises(Exception, match=r"p.json is a pipe"):
        read_prompts(tmp_path / "p.json")


def test_a_folder_with_a_files_name(tmp_path):
    (tmp_path / "a.nii.gz").mkdir()
    with pytest.raises(InputError, match=r"a.nii.gz"):
        load_volume(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("name", ["a\0b.nii", "x" * 5000 + ".nii", "none/such/a.nii"])
def test_a_name_that_no_file_can_have(tmp_path, name):
    with pytest.raises(InputError):
        load_volume(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[" * 100_000, "nested"),
        ('{"a":' * 200 + "1" + "}" * 200, "nested deeper than"),
        ("9" * 5000, "5000 digits"),
        ('{"a": -' + "9" * 25 + "}", "26 digits"),
        ("{", "line 1"),
        ("", "line 1"),
    ],
)
def test_json_from_outside_is_bounded(tmp_path, text, told):
    with pytest.raises(ValueError, match=told):
        parse_json(text)
    (tmp_path / "a.json").write_text(text or " ")
    with pytest.raises(InputError, match=r"a.json is not JSON"):
        read_json(tmp_path / "a.json")


def test_json_that_is_no_text(tmp_path):
    (tmp_path / "a.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(InputError, match=r"a.json is not JSON"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text('{"a": [1, 2.5, "x"]}', encoding="utf-8-sig")
    assert read_json(tmp_path / "a.json") == {"a": [1, 2.5, "x"]}


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha", ".png"])
def test_a_name_in_latin_1_is_a_name(tmp_path, suffix):
    folder = tmp_path / os.fsdecode(b"Aufnahme-\xfc")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    scan = Volume.from_array(np.zeros((1, 3, 4), np.uint8))
    labels = LabelVolume(np.ones((1, 3, 4), np.uint8), scan.geometry, {1: "all"})
    path = save_labels(labels, folder / os.fsdecode(b"Sch\xe4del" + suffix.encode()))
    np.testing.assert_array_equal(load_volume(path).array, labels.array)
    again = save_labels(labels, folder / os.fsdecode(b"Maske\xe4" + suffix.encode()), source=path)
    np.testing.assert_array_equal(load_volume(again).array, labels.array)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(InputError) as error:
        load_volume(path)
    assert "Sch\\udce4del" in str(error.value)
    str(error.value).encode()


def test_control_characters_are_shown_and_not_obeyed(tmp_path):
    path = tmp_path / "a\x1b[2J\r\x07.nii"
    path.write_bytes(b"no scan")
    with pytest.raises(InputError) as error:
        load_volume(path)
    assert "a\\x1b[2J\\r\\x07.nii" in str(error.value)
    assert printable("ä 漢 \n") == "ä 漢 \n"
    assert printable("\x9b\u202e\udcff") == "\\x9b\\u202e\\udcff"


@pytest.mark.parametrize(
    ("name", "start", "told"),
    [
        ("a.nii", b"NRRD0004\n", "an NRRD file, whatever its name says. Rename it to \\*.nrrd"),
        ("a.nii.gz", b"\x89PNG\r\n\x1a\n", "a PNG picture"),
        ("a.png", b"\0" * 344 + b"n+1\0", "a NIfTI file"),
        ("a.nrrd", b"ObjectType = Image\n", "a MetaImage"),
        ("a.mha", b"NRRD0005\n", "an NRRD file"),
        ("a.png", b"\0" * 128 + b"DICM", "a DICOM file"),
        ("a.nii", b"\x89HDF\r\n\x1a\n", "Convert it to .nii.gz"),
    ],
)
def test_another_kind_than_the_name_says_is_named(tmp_path, name, start, told):
    (tmp_path / name).write_bytes(start + bytes(400))
    with pytest.raises(InputError, match=told):
        load_volume(tmp_path / name)
