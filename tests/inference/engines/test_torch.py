import pytest
import torch

from medsam.errors import PromptError
from medsam.inference.engines.torch import TorchEngine


def test_many_prompts_are_decoded_in_parts_and_come_back_in_their_order(tiny_sam, features, monkeypatch):
    engine = TorchEngine(tiny_sam, torch.device("cpu"))
    boxes = torch.rand(7, 4, generator=torch.Generator().manual_seed(1)).cumsum(1) * 20
    whole = engine.decode(features, {"boxes": boxes}, multimask=True)
    asked, decode = [], tiny_sam.decode

    def counted(*arguments, **options):
        asked.append(options["boxes"].shape[1])
        return decode(*arguments, **options)

    monkeypatch.setattr(tiny_sam, "decode", counted)
    parts = engine.decode(features, {"boxes": boxes}, multimask=True, at_once=3)
    assert asked == [3, 3, 1]
    for one, other in zip(parts, whole, strict=True):
        torch.testing.assert_close(one, other)


def test_no_prompt_is_refused(tiny_sam, features):
    engine = TorchEngine(tiny_sam, torch.device("cpu"))
    for nothing in ({}, {"boxes": torch.zeros(0, 4)}):
        with pytest.raises(PromptError, match="No prompt"):
            engine.decode(features, nothing, multimask=False)
