"""Pictures of the model's masks on a few validation slices, so that training can be watched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from medsam.drawing.colours import PREDICTION, REFERENCE
from medsam.drawing.overlay import Outline, render
from medsam.files import write_whole
from medsam.training.samples import ValidationSample

# longer side of a panel; it is shown about that large
_EDGE_PX = 320


class SampleOverlays(Callback):
    """After every validation `folder/STEP.png`, and the same picture for the loggers that take pictures.

    folder: made when needed. samples: slices, evenly spread over the validation data. Reference and answer in the
    colours of an evaluation's overlays (`drawing.colours`), the reference wider and below; the box dashed; the boxes of
    the first jitter.
    """

    def __init__(self, folder: Path, samples: int = 6) -> None:
        self.folder, self.samples = Path(folder), samples
        self._panels: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, str]] = []

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._panels = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # what validation_step answered
        batch: ValidationSample,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if trainer.global_rank != 0:
            return
        number = trainer.num_val_batches[dataloader_idx]
        every = max(1, int(number) // self.samples)
        # from the middle of each stretch: the first slices of a scan hold the tips of organs
        if batch_idx % every != every // 2 or len(self._panels) >= self.samples:
            return
        image = batch.image[0, :, : batch.frame.resized[0], : batch.frame.resized[1]].float().cpu()
        image = (image - image.amin()) / (image.amax() - image.amin()).clamp_min(1e-6)
        truths, found = (batch.frame.upright_masks(masks.cpu()) for masks in (batch.masks, outputs[0]))
        self._panels.append((image.permute(1, 2, 0).numpy(), truths, found, batch.boxes[0].cpu().numpy(), batch.name))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._panels:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{trainer.global_step:06d}.png"
        picture = self._draw(path)
        for logger in trainer.loggers:
            experiment: Any = getattr(logger, "experiment", None)
            if hasattr(experiment, "add_image"):
                experiment.add_image("val/overlays", picture, trainer.global_step, dataformats="HWC")
            elif hasattr(logger, "log_image"):
                logger.log_image(key="val/overlays", images=[str(path)], step=trainer.global_step)

    def _draw(self, path: Path) -> np.ndarray:
        """Write the picture; also returned, (H, W, 3) uint8."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        columns = min(3, len(self._panels))
        rows = -(-len(self._panels) // columns)
        figure = Figure(figsize=(4 * columns, 4.2 * rows), layout="constrained")
        canvas = FigureCanvasAgg(figure)
        for number, (image, truths, answers, boxes, name) in enumerate(self._panels, start=1):
            axes = figure.add_subplot(rows, columns, number)
            outlines = [
                *(Outline(mask, REFERENCE, width=2) for mask in truths),
                *(Outline(mask, PREDICTION) for mask in answers),
            ]
            scale = _EDGE_PX / max(image.shape[:2])
            size = round(image.shape[0] * scale), round(image.shape[1] * scale)
            axes.imshow(render((255 * image).round().astype(np.uint8), size, outlines, boxes.tolist()))
            axes.set_title(name, fontsize=8)
            axes.set_axis_off()
        with write_whole(path) as part:
            figure.savefig(part, format="png", dpi=80)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()
