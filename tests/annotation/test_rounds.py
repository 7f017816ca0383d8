"""Rounds as their user runs them: tiny scans, tiny models, real commands, in this process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotated import draw, project

from medsam.annotation import rounds
from medsam.annotation.commands import fit_words, least_pixels
from medsam.annotation.project import AnnotationProject
from medsam.annotation.rounds import RoundRequest, _Steps, abandon_round, answer_again, due, run_round, under_way
from medsam.cli.main import main
from medsam.cli.train import FitCLI
from medsam.data.manifest_json import read_manifest, write_manifest
from medsam.errors import InputError
from medsam.evaluation import report
from medsam.evaluation import run as evaluation
from medsam.masks import CompactMask
from medsam.models.checkpoint import read_checkpoint
from medsam.store.project_records import NewAnnotation
from medsam.training.module import SamFineTuning

_DIGESTS = ("data", "frozen", "model", "measured_before", "measured_after")


@pytest.fixture(scope="module", autouse=True)
def _no_pictures():
    """They take longer than all that is measured."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FitCLI, "pictures", lambda self: [])
        patch.setattr(report, "write_report", lambda folder: (folder / "report.html").touch())
        yield


class Commands:
    """Runs commands of medsam here, and remembers them."""

    def __init__(self) -> None:
        self.words: list[Sequence[str]] = []

    def __call__(self, words: Sequence[str]) -> int:
        self.words.append(words)
        return main(list(words))

    @property
    def names(self) -> list[str]:
        return [words[0] for words in self.words]


def done(made: AnnotationProject, number: int = 1) -> dict[str, Any]:
    """What a round said of its steps."""
    (this,) = [one for one in made.store.rounds() if one.number == number]
    return {kind: this.events[kind][1] for kind in _DIGESTS}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, boxes_model) -> tuple[AnnotationProject, Path, dict[str, Any]]:
    """A project whose first round was promoted, and a copy of what it was before."""
    folder = tmp_path_factory.mktemp("finished")
    with project(folder, boxes_model) as made:
        draw(made)
    before = shutil.copytree(made.folder, folder / "before")
    with AnnotationProject.open(made.folder) as made:
        yield made, before, run_round(made, run=Commands())


@pytest.mark.slow
def test_what_was_drawn_makes_a_model_that_answers_when_it_is_better(finished):
    made, _, ended = finished
    assert ended["promoted"], ended["why"]
    assert ended["ci95"][0] > 0
    path, model = made.model()
    assert model.round == 1
    assert Path(path) == made.folder / "rounds/1/model.safetensors"
    assert done(made)["data"]["train"] == {"scans": 2, "patients": 2, "masks": 12, "labelled": 0}
    assert done(made)["frozen"]["labelled"] == 6
    training = read_checkpoint(Path(path)).training
    assert training["round"] == 1
    assert training["annotated"]["val"]["masks"] == 6
    assert not any(name in json.dumps(training) for name in ('"c0"', '"c1"', str(made.folder))), "counts alone"
    assert model.weights == done(made)["model"]["weights"] == ended["weights"]


@pytest.mark.slow
def test_a_round_that_ends_in_training_and_in_measuring_goes_on_to_the_same_result(finished, tmp_path, monkeypatch):
    made, before, ended = finished
    # beside the other one: manifests name scans by their way there
    folder = shutil.copytree(before, before.with_name("broken"))
    shutil.copytree(made.folder / "evaluations", folder / "evaluations")
    shutil.rmtree(folder / "evaluations" / done(made)["measured_after"]["folder"])
    step, write, commands = SamFineTuning.training_step, evaluation._write_case, Commands()

    def killed_in_training(self, batch, batch_idx):
        if self.global_step == 33:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    def killed_in_measuring(run, name, result, made_from):
        if name == "c5":
            raise KeyboardInterrupt
        write(run, name, result, made_from)

    with AnnotationProject.open(folder) as broken:
        for owner, name, fault in (
            (SamFineTuning, "training_step", killed_in_training),
            (evaluation, "_write_case", killed_in_measuring),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, fault)
                with pytest.raises(KeyboardInterrupt):
                    run_round(broken, run=commands)
            assert under_way(broken).number == 1
            # masks that come meanwhile are for the next one
            draw(broken, slices=(3,))
        assert run_round(broken, run=commands) == ended
        assert done(broken) == done(made)
        assert broken.model()[1].weights == made.model()[1].weights
        assert commands.names == ["fit", "fit", "evaluate", "evaluate"], "the model that answered was measured before"
        assert "last" in commands.words[1]
        assert len([one for one in broken.store.models() if one.kind == "promoted"]) == 1


def test_a_step_that_fails_leaves_a_round_to_go_on_with_or_to_give_up(tmp_path, boxes_model, capsys):
    with project(tmp_path, boxes_model) as made:
        draw(made)
        with pytest.raises(InputError, match="Training ended with exit status 2"):
            run_round(made, run=lambda words: 2)
        with pytest.raises(InputError, match="Round 1 is under way and goes on as it began"):
            run_round(made, RoundRequest(steps=3), run=lambda words: 2)
        assert due(made, 1000) == (True, "round 1 is not over")
        # what cron says each time is no other round
        words = ["annotate", "round", str(made.folder), "--if-due", "--every", "1000", "--steps", "3"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rounds, "run_round", lambda project, request, tell: {"round": 1, "why": request})
            assert main([*words]) == 0
        assert "RoundRequest(config=None, steps=None" in capsys.readouterr().out
        assert abandon_round(made) == 1
        assert under_way(made) is None
        with pytest.raises(InputError, match="No round is under way"):
            abandon_round(made)


def test_a_round_is_due_after_so_many_new_masks(tmp_path, boxes_model):
    with project(tmp_path, boxes_model) as made:
        with pytest.raises(InputError, match="`every`"):
            due(made)
        draw(made, slices=(0,))
        assert due(made, 6) == (True, "6 masks are new, and a round is due after 6")
        made.store.begin_round({})
        abandon_round(made)
        draw(made, ["train"], slices=(0, 1))
        assert due(made, 9)[0] is False
        assert due(made, 8)[0] is True, "what was drawn again is new, too"


def test_without_masks_or_frozen_patients_there_is_no_round(tmp_path, boxes_model):
    with project(tmp_path, boxes_model, ("train", "test"), labelled=()) as made:
        with pytest.raises(InputError, match="No scan of the train side"):
            run_round(made)
        draw(made)
        with pytest.raises(InputError, match="No scan of the test side"):
            run_round(made)
        draw(made, ["test"])
        with pytest.raises(InputError, match="no training configuration nothing.yaml"):
            run_round(made, RoundRequest(config="nothing.yaml"))
        assert made.store.rounds() == []


def test_an_earlier_model_answers_again_at_once(tmp_path, boxes_model):
    with project(tmp_path, boxes_model) as made:
        with pytest.raises(InputError, match="there is none before it"):
            answer_again(made)
        for number in (1, 2):
            made.store.begin_round({})
            abandon_round(made)
            path = made.folder / "rounds" / str(number) / "model.safetensors"
            path.parent.mkdir()
            shutil.copy(boxes_model, path)
            made.store.put_model("promoted", str(path.relative_to(made.folder)), f"w{number}", number=number)
        assert answer_again(made) == "round 1"
        assert (made.store.model().weights, made.store.model().kind) == ("w1", "back")
        assert "the project began with" in answer_again(made)
        assert made.model()[0] == str(boxes_model)
        assert answer_again(made, 2) == "round 2"
        assert answer_again(made, 0).startswith("the model that the project began with")
        made.store.begin_round({})
        abandon_round(made)
        shutil.copytree(made.folder / "rounds" / "2", made.folder / "rounds" / "3")
        made.store.put_model("promoted", "rounds/3/model.safetensors", "w3", number=3)
        assert "began with" in answer_again(made), "what answered when it was promoted, not a model given up before"
        with pytest.raises(InputError, match="there are: 0, 1, 2, 3"):
            answer_again(made, 4)


def test_without_pixels_enough_on_the_val_side_training_is_not_watched(tmp_path, boxes_model):
    with project(tmp_path, boxes_model) as made:
        draw(made, ["train"])
        (scan,) = made.store.scans("val")
        small = CompactMask.of(np.ones((3, 3), bool), (20, 24), (2, 2))
        made.store.add_annotations([NewAnnotation(scan.id, "disc", "k", 1, "edited", small)])
        said, commands = [], []
        with pytest.raises(InputError, match="Training ended"):
            run_round(made, tell=said.append, run=lambda words: commands.append(words) or 2)
        assert commands[0][commands[0].index("--trainer.limit_val_batches") + 1] == "0"
        assert any("No structure has 10 pixels on a slice of the val side" in line for line in said)
        wrong = {**made.store.rounds()[0].settings, "overrides": {"data.min_pixels": "many"}}
        with pytest.raises(InputError, match="`data.min_pixels` of the training is a whole number, not 'many'"):
            least_pixels(wrong)


@pytest.mark.slow
def test_a_model_is_not_promoted_over_one_that_it_was_not_measured_against(finished):
    made, _, _ = finished
    this = made.store.rounds()[0]
    steps = _Steps(made, this, lambda text: None, Commands(), None)
    measured = done(made)["measured_before"], done(made)["measured_after"]
    assert steps._decide(*measured)[0].promoted
    made.store.put_model("promoted", "rounds/9/model.safetensors", "w9")
    decision, _ = steps._decide(*measured)
    assert not decision.promoted
    assert "another model answers, rounds/9/model.safetensors" in decision.why


@pytest.mark.slow
def test_without_a_val_side_the_last_step_is_kept(finished, tmp_path):
    made, _, _ = finished
    this = made.store.rounds()[0]
    told = {**this.settings, "structures": ["disc", "bar"], "validated": False, "steps": 2}
    (tmp_path / "config.yaml").write_text(told["config"])
    source = read_manifest(made.folder / "rounds" / "1" / "manifest.json")
    manifest = replace(source, cases=source.in_split("train"))
    write_manifest(manifest, tmp_path / "manifest.json")
    words = fit_words(told, tmp_path, tmp_path / "manifest.json", made.folder / "embeddings", made.settings.model)
    assert main(words) == 0
    assert read_checkpoint(tmp_path / "fit" / "model.safetensors").training["steps"] == 2
