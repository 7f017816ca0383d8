import json

import pytest

from medsam.errors import PromptError
from medsam.evaluation.protocol import Protocol


def test_prompts_are_named_in_the_order_asked_and_the_first_is_primary():
    protocol = Protocol(prompts=("points:3", "box", "box+points:2", "propagate", "mask", "point"), jitter_px=(5, 0))
    assert protocol.names == (
        "points:3",
        "box+5px",
        "box",
        "box+5px+points:2",
        "box+points:2",
        "propagate+5px",
        "propagate",
        "mask",
        "point",
    )
    drawn = ("lasso", "scribbles:3", "scribble", "box+scribbles:2", "scribble-pair+points:1", "lines")
    assert Protocol(prompts=drawn, jitter_px=(0, 5)).names == (
        *drawn[:3],
        "box+scribbles:2",
        "box+5px+scribbles:2",
        *drawn[4:],
    )
    assert Protocol(oracle=True).names == ("box", "box:oracle3")
    assert Protocol(prompts=("points:1",)).names == ("point",)


def test_what_identifies_a_run_says_prompts_and_zoom():
    said = Protocol(prompts=("box", "points:3")).as_dict()
    assert (said["prompt"], said["zoom"], said["jitter_px"]) == ("box points:3", "auto", [0])
    assert json.loads(json.dumps(said)) == said
    assert said != Protocol(prompts=("box", "points:3"), zoom="off").as_dict()
    # as in runs of versions that knew neither
    assert {"noise", "slices"}.isdisjoint(said)
    assert Protocol(noise="noisy", slices=2).as_dict() == {**Protocol().as_dict(), "noise": "noisy", "slices": 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts": ("points:0",)}, "no prompt 'points:0'"),
        ({"prompts": ("points:100",)}, "no prompt 'points:100'"),
        ({"prompts": ("scribbles",)}, "use box, mask, lasso"),
        ({"prompts": ("points:2+box",)}, "no prompt"),
        ({"prompts": ("box+points:2+scribbles:1",)}, "no prompt"),
        ({"prompts": ("propagate+points:2",)}, "no prompt"),
        ({"prompts": ("box+",)}, "no prompt"),
        ({"noise": "loud"}, "`noise` is clean or noisy"),
        ({"slices": 0}, "`slices`"),
        ({"prompts": ()}, "at least one"),
        ({"prompts": ("point", "points:1")}, "twice"),
        ({"prompts": ("point", "mask"), "jitter_px": (0, 5)}, "moves boxes"),
        ({"prompts": ("point",), "oracle": True}, "add box"),
        ({"jitter_px": ()}, "whole numbers"),
        ({"jitter_px": (-1,)}, "whole numbers"),
        ({"jitter_px": (5, 5)}, "different whole numbers"),
        ({"seed": -1}, "`seed`"),
        ({"window": "bones"}, "no window 'bones'"),
        ({"zoom": "closer"}, "no zoom 'closer'"),
        ({"tolerance_mm": -1.0}, "`tolerance_mm`"),
    ],
)
def test_a_protocol_that_cannot_be_run(changes, message):
    with pytest.raises(PromptError, match=message):
        Protocol(**changes)
