"""Labels that readers submit, kept by case, reader and tag."""

from __future__ import annotations

import threading
from pathlib import Path

from medsam.server.monailabel import labels
from medsam.server.monailabel.labels import SubmittedLabels
from medsam.store.readers import Reader, Role

BEN = Reader(1, "ben", Role.READER)


def file(folder: Path) -> Path:
    path = folder / "label.nrrd"
    path.write_bytes(b"a label")
    return path


def test_what_is_known_is_told_while_a_file_is_still_on_its_way_to_the_disk(tmp_path, monkeypatch):
    kept = SubmittedLabels(tmp_path / "labels")
    kept.put("case", BEN, "first", file(tmp_path), ".nrrd", {})
    on_the_disk, begun, told = threading.Event(), threading.Event(), threading.Event()

    def slow(path: Path) -> None:
        begun.set()
        on_the_disk.wait(20)

    def look() -> None:
        # as the event loop does
        assert set(kept.of("case", BEN)) == {"first"}
        told.set()

    monkeypatch.setattr(labels, "sync", slow)
    threads = [
        threading.Thread(target=kept.put, args=("case", BEN, "second", file(tmp_path), ".nrrd", {})),
        threading.Thread(target=look),
    ]
    threads[0].start()
    assert begun.wait(10)
    threads[1].start()
    try:
        assert told.wait(10)
    finally:
        on_the_disk.set()
        for thread in threads:
            thread.join()
    assert set(kept.of("case", BEN)) == {"first", "second"}


def test_two_changes_of_a_label_both_count_also_after_a_restart(tmp_path):
    kept = SubmittedLabels(tmp_path / "labels")
    label = kept.put("case", BEN, "final", file(tmp_path), ".nrrd", {})
    kept.change(label, withdrawn=True)
    # by somebody who looked at it before that
    kept.change(label, names={"liver": 1})
    assert kept.of("case", BEN) == {}
    assert SubmittedLabels(tmp_path / "labels").of("case", BEN) == {}
