"""Inputs of the stages as files for both sides, made once by a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from stages import NETWORK, slice_input, stages_of
from turns import count_gflop

HERE = Path(__file__).resolve()
REFERENCE = HERE.parents[2] / ".venv-reference" / "bin" / "python"
# zero_shot_parity.py, whose cases these are
sys.path.append(str(HERE.parents[1] / "parity"))


class Maker:
    """Inputs of stages as .npz files in a folder. GFLOP of the network stages gather in `gflop`."""

    def __init__(self, data: Path, folder: Path, model: str) -> None:
        import medsam

        self.data, self.folder = data, folder
        # the operations of the eager model are counted
        self.predictor = medsam.Predictor(model, device="cpu", engine="torch")
        self.gflop: dict[str, float] = {}

    def case(self, wanted: str) -> Any:
        from zero_shot_parity import cases

        return next(case for case in cases(self.data) if case.name == wanted)

    def make(self, name: str) -> None:
        stage, _, ct = name.partition(":")
        if stage == "ct":
            self.ct(name, ct)
        elif stage.startswith("decode"):
            self.decode(name)
        elif stage != "machine":
            getattr(self, stage.replace("preprocess-area", "preprocess").replace("-", "_"))(name)

    def write(self, name: str, **arrays: Any) -> None:
        np.savez(self.folder / f"{file_name(name)}.npz", **arrays)

    def boxes_on(self, case: Any, index: int) -> list[tuple[str, tuple[int, int, int, int]]]:
        from medsam.prompts.simulate import tight_box

        plane = case.scan.geometry.plane()
        found = ((name, tight_box(plane.take(mask, index))) for name, mask in case.references.items())
        return [(name, box) for name, box in found if box is not None]

    def fine_slice(self) -> tuple[Any, int]:
        """Of a CT of 512 x 512: the slice in the middle of those where most structures are."""
        case = self.case("lung_ct_dicom_rtstruct")
        counts = [len(self.boxes_on(case, index)) for index in range(case.scan.geometry.plane().count)]
        best = [index for index, count in enumerate(counts) if count == max(counts)]
        return case, best[len(best) // 2]

    def preprocess(self, name: str) -> None:
        from medsam.transforms.intensity import resolve_window

        case, index = self.fine_slice()
        plane, window = case.scan.geometry.plane(), resolve_window(case.scan)
        self.write(
            name,
            scan=str(case.scan.source),
            index=index,
            stored=np.ascontiguousarray(plane.view.apply(plane.take(case.scan.array, index))),
            window=[window.low, window.high],
        )

    def encode(self, name: str) -> None:
        case, index = self.fine_slice()
        pixels = slice_input(case.scan, index)()
        embedding = self.predictor.encoder_for(case.scan).encode(index)
        boxes = np.array([box for _, box in self.boxes_on(case, index)])
        self.write(name, pixels=pixels.numpy(), model_boxes=embedding.frame.boxes(boxes))
        self.gflop[name] = count_gflop(lambda: self.predictor.sam.encode_image(pixels[None]))

    def decode(self, name: str) -> None:
        """20 boxes of a CT slice with more, from small to large; the first is of middle size."""
        case = self.case("totalseg_abdomen_ct/ct_slab")
        plane = case.scan.geometry.plane()
        index = max(range(plane.count), key=lambda n: len(self.boxes_on(case, n)))
        boxes = sorted(
            (box for _, box in self.boxes_on(case, index)), key=lambda b: (b[2] - b[0]) * (b[3] - b[1]), reverse=True
        )
        if len(boxes) < 20:
            raise SystemExit(f"Slice {index} of {case.name} has {len(boxes)} boxes, not 20.")
        chosen = [boxes[n] for n in np.linspace(0, len(boxes) - 1, 20).astype(int)]
        asked = np.array([chosen[10], *chosen[:10], *chosen[11:]])
        embedding = self.predictor.encoder_for(case.scan).encode(index)
        self.write(
            name,
            scan=str(case.scan.source),
            index=index,
            boxes=asked,
            # the reference's scaling, by the long side alone, moves a box by up to 0.1 pixels of the model
            model_boxes=embedding.frame.boxes(asked),
            features=embedding.features.float().numpy(),
        )
        self.gflop[name] = self.decode_gflop(embedding, 20 if name.startswith("decode20") else 1)

    def decode_gflop(self, embedding: Any, count: int) -> float:
        import torch

        boxes = torch.tensor([[20.0, 30, 120, 140]]).repeat(count, 1)[None]
        return count_gflop(lambda: self.predictor.sam.decode(embedding.features, boxes=boxes))

    def restore(self, name: str) -> None:
        """Logits of the structures of the fine slice, by boxes five times as many, moved a little each."""
        from medsam.inference.image_predictor import box_prompts
        from medsam.prompts.simulate import jittered

        case, index = self.fine_slice()
        rng, shape = np.random.default_rng(0), case.scan.geometry.plane().shape
        tight = [box for _, box in self.boxes_on(case, index)]
        boxes = [jittered(tight[n % len(tight)], 20, shape, rng) for n in range(20)]
        found = self.predictor.predict(
            self.predictor.encoder_for(case.scan).encode(index), box_prompts(np.array(boxes))
        )
        plane = case.scan.geometry.plane()
        upright = plane.view.shape(plane.shape)
        logits = found.logits[:, 0].float().numpy()
        self.write(name, scan=str(case.scan.source), logits=logits, shape=upright, view=view_of(plane))

    def metrics(self, name: str) -> None:
        from metrics import SHAPE, SPACING_MM, TOLERANCE_MM, structure

        rng, packed = np.random.default_rng(0), []
        for radius_mm in (73.0, 27.0, 10.0):
            packed += [np.packbits(mask) for mask in structure(rng, radius_mm)]
        self.write(name, packed=packed, shape=SHAPE, spacing_mm=SPACING_MM, tolerance_mm=TOLERANCE_MM)

    def encode_vit_b(self, name: str) -> None:
        from medsam.models.build import load_model

        weights = self.folder / "vit_b.pth"
        subprocess.run(
            [REFERENCE, "-W", "ignore", HERE.with_name("reference_ruler.py"), "--weights", weights], check=True
        )
        pixels = np.random.default_rng(0).standard_normal((3, 1024, 1024), np.float32)
        self.write(name, weights=str(weights), pixels=pixels)
        import torch

        sam = load_model(weights, spec="sam-vit-b")
        self.gflop[name] = count_gflop(lambda: sam.encode_image(torch.from_numpy(pixels)[None]))

    def ct(self, name: str, which: str) -> None:
        from medsam.transforms.intensity import resolve_window

        case = self.case(which)
        plane, window = case.scan.geometry.plane(), resolve_window(case.scan)
        asked = [(index, label, box) for index in range(plane.count) for label, box in self.boxes_on(case, index)]
        boxes = np.array([box for _, _, box in asked])
        if plane.array_axis:
            raise SystemExit(f"{which} is not sliced along its first axis.")
        self.write(
            name,
            scan=str(case.scan.source),
            upright_scan=np.stack([plane.view.apply(plane.take(case.scan.array, n)) for n in range(plane.count)]),
            window=[window.low, window.high],
            view=view_of(plane),
            slices=[index for index, _, _ in asked],
            names=[label for _, label, _ in asked],
            boxes=boxes,
            upright=plane.view.boxes(boxes, plane.shape),
        )
        slices = len({index for index, _, _ in asked})
        embedding = self.predictor.encoder_for(case.scan).encode(asked[0][0])
        size = self.predictor.sam.spec.image_size
        import torch

        one = count_gflop(lambda: self.predictor.sam.encode_image(torch.zeros(1, 3, size, size)))
        many = self.decode_gflop(embedding, 20) / 20
        self.gflop[name] = slices * one + len(asked) * many

    def segment(self, name: str) -> None:
        """Four structures on each of three slices."""
        case = self.case("totalseg_abdomen_ct/ct_full")
        plane = case.scan.geometry.plane()
        rows = []
        for index in (plane.count // 4, plane.count // 2, 3 * plane.count // 4):
            here = self.boxes_on(case, index)
            here.sort(key=lambda item: -(item[1][2] - item[1][0]) * (item[1][3] - item[1][1]))
            rows += [(index, label, box) for label, box in here[:4]]
        from medsam.transforms.intensity import resolve_window

        window = resolve_window(case.scan)
        boxes = np.array([box for _, _, box in rows])
        about = {
            "scan": str(case.scan.source),
            "window": [window.low, window.high],
            "prompts": [
                {"slice": index, "label": label, "stored": list(box), "upright": upright}
                for (index, label, box), upright in zip(
                    rows, plane.view.boxes(boxes, plane.shape).tolist(), strict=True
                )
            ],
        }
        (self.folder / "segment.json").write_text(json.dumps(about))


def view_of(plane: Any) -> list[bool]:
    return [plane.view.transpose, plane.view.flip_rows, plane.view.flip_columns]


def make_inputs(names: list[str], data: Path, folder: Path, model: str) -> None:
    maker = Maker(data, folder, model)
    if NETWORK & set(stages_of(names)):
        names = list(dict.fromkeys(["decode", *names]))
    for name in names:
        maker.make(name)
    (folder / "gflop.json").write_text(json.dumps(maker.gflop))


def file_name(name: str) -> str:
    return name.replace(":", "_").replace("/", "_")
