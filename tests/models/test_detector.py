"""Maps of a detector become boxes, and its head comes back from its file."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch

from medsam.errors import CheckpointError
from medsam.models.detector import Detector, DetectorMaps, DetectorSizes, cell_boxes, decode, detector_of
from medsam.models.heads import Head, HeadCard, read_head, save_head

SIDE, SIZE = 8, 64  # cells, model pixels: 8 pixels a cell


def drawn(*peaks: tuple[int, int, int, float]) -> DetectorMaps:
    """Two classes; peaks of (class, row, column, logit), each cell with a box of two cells by one round its middle."""
    heat = torch.full((1, 2, SIDE, SIDE), -20.0)
    for number, row, column, logit in peaks:
        heat[0, number, row, column] = logit
    box = torch.zeros(1, 2, 4, SIDE, SIDE)
    box[:, :, 2] = torch.tensor(2.0).log()
    return DetectorMaps(heat, box, torch.full((1, 2), 20.0))


def test_a_cell_says_where_a_box_is_in_model_pixels():
    box = torch.zeros(1, 1, 4, SIDE, SIDE)
    box[0, 0, :, 2, 5] = torch.tensor([0.5, -0.5, torch.tensor(2.0).log(), torch.tensor(4.0).log()])
    found = cell_boxes(box, SIZE)[0, 0, :, 2, 5]
    # middle (5.5 + 0.5, 2.5 - 0.5) = (6, 2) cells, 2 wide and 4 high
    assert found.tolist() == pytest.approx([40, 0, 56, 32])
    # a map of a box that no float can hold stays finite
    assert cell_boxes(torch.full((1, 1, 4, SIDE, SIDE), 1e30), SIZE).isfinite().all()


def test_peaks_become_boxes_the_best_first():
    (of_slice,) = decode(drawn((0, 2, 2, 0.0), (0, 6, 6, 2.0), (1, 4, 4, 1.0)), SIZE, 0.05)
    first, second = of_slice[0]
    assert first.score > second.score > 0.05
    assert first.box == pytest.approx((44, 48, 60, 56), abs=1e-3)
    assert second.box == pytest.approx((12, 16, 28, 24), abs=1e-3)
    assert len(of_slice[1]) == 1
    assert second.score == pytest.approx(0.5**0.5, abs=1e-3)


def test_what_is_not_there_or_below_the_least_gives_nothing():
    maps = drawn((0, 2, 2, 3.0))
    assert decode(maps._replace(presence=torch.full((1, 2), -20.0)), SIZE, 0.05) == [[[], []]]
    assert decode(maps, SIZE, 0.99) == [[[], []]]


def test_slices_are_answered_alone_and_weights_are_about_a_million():
    torch.manual_seed(0)
    network = Detector(DetectorSizes(2)).eval()
    assert 0.9e6 < sum(weight.numel() for weight in network.parameters()) < 2e6
    small = Detector(DetectorSizes(2, 32, 16, 16)).eval()
    embedding = torch.randn(2, 32, SIDE, SIDE)
    for together, alone in zip(small(embedding), small(embedding[:1]), strict=True):
        torch.testing.assert_close(together[:1], alone)


def test_a_detector_comes_back_from_its_file(vit, tmp_path):
    torch.manual_seed(0)
    sizes = DetectorSizes(2, 32, 16, 16)
    network = Detector(sizes).eval()
    card = HeadCard("detector", "shapes", ("bar", "disc"), "tiny-vit", "0" * 64, asdict(sizes))
    save_head(Head(card, network.state_dict()), tmp_path / "head.safetensors")
    head = read_head(tmp_path / "head.safetensors")
    embedding = torch.randn(1, 32, SIDE, SIDE)
    found = detector_of(head)(embedding)
    torch.testing.assert_close(found.heat, network(embedding).heat, rtol=0, atol=0.02)

    for wrong in ({}, {**asdict(sizes), "classes": 3}, {**asdict(sizes), "more": 1}):
        with pytest.raises(CheckpointError, match="lacks some of its sizes"):
            detector_of(replace(head, card=replace(card, sizes=wrong)))
    with pytest.raises(CheckpointError, match="is damaged"):
        detector_of(replace(head, card=replace(card, sizes={**asdict(sizes), "width": 24})))
    with pytest.raises(CheckpointError, match="do not fit each other"):
        detector_of(replace(head, card=replace(card, sizes={**asdict(sizes), "width": 25})))
    with pytest.raises(CheckpointError, match="more blocks than there are weights"):
        detector_of(replace(head, card=replace(card, sizes={**asdict(sizes), "blocks": 1 << 14})))
