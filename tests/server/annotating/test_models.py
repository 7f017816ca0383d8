"""Another model answers: what is open goes on, what begins has the new one, and no embedding is made twice."""

from __future__ import annotations

import gc

import pytest
import torch
from annotating_house import annotating, make_project

from medsam.models.build import build_model
from medsam.models.checkpoint import save_checkpoint
from medsam.models.specs import tiny_spec


@pytest.fixture
def folder(tmp_path):
    """A project that begins with a tiny network; round 1 made one of another decoder, which is not promoted yet."""
    torch.manual_seed(3)
    sam = build_model(tiny_spec("tiny_vit"))
    save_checkpoint(sam, tmp_path / "first.safetensors")
    project = make_project(tmp_path / "project", 3, model=str(tmp_path / "first.safetensors"))
    with torch.no_grad():
        for weight in sam.mask_decoder.parameters():
            weight.add_(0.01)
    (project.folder / "rounds" / "1").mkdir(parents=True)
    save_checkpoint(sam, project.folder / "rounds" / "1" / "model.safetensors")
    project.close()
    return tmp_path / "project"


def promote(house) -> None:
    one = house.store.begin_round({})
    said = {"why": "Better.", "dice_before": 0.5, "dice_after": 0.75}
    house.store.put_model("promoted", "rounds/1/model.safetensors", None, number=one.number, details=said)
    house.store.round_event(one.number, "ended", {"promoted": True, **said})


def test_a_promoted_model_answers_what_begins_and_an_open_session_keeps_its_own(folder):
    with annotating(folder, own_model=True) as house:
        ann, ben, ada = house.ann, house.ben, house.ada
        ann.begin()
        ann.draw(1)
        weights = ann.get("/annotate")["weights"]
        services = house.app.state.services
        promote(house)
        ben.begin()
        now = ben.get("/annotate")
        assert (now["round"], now["weights"] != weights) == (1, True)
        # a scan that was seen already: the encoder is what it was
        before = services.predictor.cache.misses
        ben.draw(1)
        seen = services.predictor.cache.misses
        assert seen == before
        # in memory, and read from the store again
        ann.draw(2)
        house.drop(ann.session)
        ann.draw(0)
        assert ann.post(f"/annotate/tasks/{ann.task['id']}/open")["session"] == ann.session
        ann.submit(absent=missing(ann))
        ben.submit(absent=missing(ben))
        made = {one.by: one.weights for one in house.store.standing()}
        assert len(set(made.values())) == 2
        assert weights in made.values()
        told = [(one["round"], one["kind"], one["active"], one["dice_after"]) for one in ada.get("/annotate/models")]
        assert told == [(None, "started", False, None), (1, "promoted", True, 0.75)]
        assert ben.post("/annotate/models/back", {"round": None}, 403)
        assert ada.post("/annotate/models/back", {"round": 7}, 422)["parameters"] == ["round"]
        assert [one["active"] for one in ada.post("/annotate/models/back", {"round": None})] == [False, False, True]
        assert ada.get("/annotate")["weights"] == weights


def missing(person) -> list[str]:
    """Structures without a mask: a network of random weights may find nothing."""
    shown = person.get(f"/sessions/{person.session}/measures")
    return [one["name"] for one in shown if not one["voxels"]]


def test_after_a_restart_a_session_goes_on_with_the_model_that_it_began_with(folder):
    with annotating(folder, own_model=True) as house:
        house.ann.begin()
        house.ann.draw(1)
        promote(house)
        session, weights = house.ann.session, house.app.state.services.predictor.images.weights
    with annotating(folder, own_model=True) as house:
        assert house.app.state.services.predictor.images.weights != weights
        assert house.ann.begin() == session
        house.ann.draw(2)
        # its model is gone: what was drawn goes on with the one that answers
        folder.with_name("first.safetensors").unlink()
        house.drop(session)
        gc.collect()
        ann = house.ann
        assert ann.begin() != session
        before, now = (seen(house.store, key) for key in (session, ann.session))
        assert {place: mask for place, mask in now.items() if mask} == before
        ann.submit(absent=missing(ann))
        standing = list(house.store.standing())
        assert [one.effort.boxes for one in standing] == [1] * len(before), "what was done in the session before counts"


def seen(store, key):
    reader = next(user.reader for user in store.users() if user.name == "ann")
    return {(one.object, one.slice): one.mask for one in store.masks(store.reading(reader, key).id) if one.mask}
