"""`scripts/kill` for a few seconds: a command is killed, goes on, and ends as if nothing had been."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills processes")
@pytest.mark.skipif(
    not os.environ.get("MEDSAM_LONG"), reason="takes a quarter of a minute: MEDSAM_LONG=1 ./scripts/test tests/scripts"
)
def test_embeddings_survive_kills(tmp_path):
    table = tmp_path / "kills.csv"
    command = [str(ROOT / "scripts" / "kill"), "--kinds", "embed|segment", "--moments", "2", "--table", str(table)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert run.returncode == 0, run.stdout + run.stderr
    rows = [line.split(",") for line in table.read_text().splitlines()]
    assert rows[0][:2] == ["kind", "moments"]
    assert [(row[0], row[1], row[5]) for row in rows[1:]] == [("embed", "2", "0"), ("segment", "2", "0")]
    assert all(int(row[4]) > 0 for row in rows[1:]), "something was compared"
