"""The [listen] table."""

import pytest

from medsam.errors import InputError
from medsam.pacs.listen.config import read_listen
from medsam.pacs.listen.rules import Command, Match, ModelRun
from medsam.pacs.settings import read_settings

SERVER = '[servers.main]\ndicomweb = "https://pacs.example/dicom-web"\n'
RULE = '[[listen.rules]]\nname = "lung"\ncommand = ["segment", "{folder}", "{out}"]\n'


def read(tmp_path, text: str):
    path = tmp_path / "settings.toml"
    path.write_text(text)
    return read_listen(read_settings(path))


def refusal(tmp_path, text: str) -> str:
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    return str(caught.value)


def test_little_is_needed_and_the_rest_is_careful(tmp_path):
    found = read(tmp_path, '[listen]\nfolder = "in"\n')
    assert found.folder == tmp_path / "in"
    assert (found.host, found.port, found.aet, found.calling) == ("127.0.0.1", 11112, "MEDSAM", ())
    assert (found.quiet_s, found.jobs, found.tls()) == (5, 1, None)
    assert "nobody is let in" in found.warnings()[0]
    assert "no [[listen.rules]]" in found.warnings()[1]


def test_everything_can_be_said(tmp_path):
    (tmp_path / "boxes.json").write_text('{"prompts": []}')
    found = read(
        tmp_path,
        SERVER
        + """
[listen]
folder = "/var/lib/medsam"
aet = "SEGMENT"
host = "0.0.0.0"
port = 104
calling_aets = ["CT1", "ORTHANC"]
quiet_s = 0.5
associations = 3
timeout_s = 20
instance_mib = 512
quota_gib = 1.5
keep_free_gib = 0
keep_days = 0.5
jobs = 2
extra_sop_classes = ["1.3.6.1.4.1.9.1"]
[[listen.rules]]
name = "lung"
modality = "CT"
body_part = ["CHEST", "LUNG*"]
description = "*thorax*"
calling_aet = ["CT1"]
at_least = 20
command = ["segment", "--in={folder}", "{out}/{series}.dcm", "{{json}}"]
timeout_s = 60
send_to = "main"
[[listen.rules]]
model = "litemedsam"
prompts = "boxes.json"
propagate = true
format = "rtstruct"
""",
    )
    assert (found.calling, found.quota, found.keep_s) == (("CT1", "ORTHANC"), 1.5 * 2**30, 43200)
    assert found.instance_bytes == 512 * 2**20
    lung, second = found.rules
    assert lung.match == Match(("CT",), (), ("CT1",), ("CHEST", "LUNG*"), ("*thorax*",), 20)
    assert isinstance(lung.action, Command)
    assert lung.action.words[-1] == "{{json}}"
    assert (lung.send_to, lung.timeout_s) == ("main", 60)
    assert second.action == ModelRun("litemedsam", tmp_path / "boxes.json", True, "auto", "rtstruct")
    assert second.name == "2"
    assert any("not encrypted" in text for text in found.warnings())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SERVER, "no [listen] table"),
        ("[listen]\n", "`folder` is missing"),
        ('[listen]\nfolder = "x"\ncalling_aets = ["TOO LONG FOR AN AE TITLE"]', "no AE title"),
        ('[listen]\nfolder = "x"\nport = 70000', "`port` must lie between"),
        ('[listen]\nfolder = "x"\nquota = 3', "no key `quota`"),
        ('[listen]\nfolder = "x"\ncert = "a.pem"', "all three"),
        ('[listen]\nfolder = "x"\ncert = "a"\nkey = "b"\nca = "c"', "not there"),
        ('[listen]\nfolder = "x"\nextra_sop_classes = ["CT"]', "no UID"),
        ('[listen]\nfolder = "x"\npassword = "hunter2"', "No secret"),
        ('[listen]\nfolder = "x"\nrules = ["a"]', "must be tables"),
        ('[listen]\nfolder = "x"\n[[listen.rules]]\nname = "a"', "either `command`"),
        ('[listen]\nfolder = "x"\n' + RULE + 'model = "y"', "either `command`"),
        ('[listen]\nfolder = "x"\n' + RULE + 'prompts = "y"', "belong to `model`"),
        ('[listen]\nfolder = "x"\n' + RULE + 'send_to = "main"', "names no server"),
        ('[listen]\nfolder = "x"\n' + RULE + 'sop_class = "CT"', "takes UIDs"),
        ('[listen]\nfolder = "x"\n' + RULE + RULE, "an earlier rule"),
        ('[listen]\nfolder = "x"\n[[listen.rules]]\ncommand = "rm -r {folder}"', "a list of texts"),
        ('[listen]\nfolder = "x"\n[[listen.rules]]\ncommand = ["a", "{patient}", "{folder}"]', "braces other than"),
        ('[listen]\nfolder = "x"\n[[listen.rules]]\ncommand = ["a", "{folder.parent}"]', "braces other than"),
        ('[listen]\nfolder = "x"\n[[listen.rules]]\ncommand = ["a", "{folder"]', "braces other than"),
        ('[listen]\nfolder = "x"\n[[listen.rules]]\ncommand = ["a"]', "names no {folder}"),
        ('[listen]\nfolder = "x"\n[[listen.rules]]\nmodel = "a"', "a prompts file that is there"),
    ],
)
def test_what_is_wrong_is_said_and_no_value_is_quoted(tmp_path, text, said):
    message = refusal(tmp_path, text)
    assert said in message
    assert "hunter2" not in message


def test_a_rule_is_named_by_its_number(tmp_path):
    other = RULE.replace("lung", "liver") + "at_last = 3"
    assert "[listen.rules] number 2: there is no key `at_last`" in refusal(
        tmp_path, '[listen]\nfolder = "x"\n' + RULE + other
    )
