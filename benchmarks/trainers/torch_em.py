"""torch-em's default loader, net and trainer, on whole sections as its own script for the ISBI stack has them.

That is `experiments/unet-segmentation/neuron-segmentation/isbi2012/train_boundaries_2d.py` of constantinpape/torch-em.
Where the script differs from the defaults of the library, the defaults are taken.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray

from segem.io.layers import read_section
from segem.io.volume import Volume
from trainers.course import Budget, Course, Part, Predict

ABOUT = "UNet2d of 32 to 512 channels, Dice, AdamW 1e-3 with plateaus, crops of 512, one a step; best checkpoint"
PATCH = (1, 512, 512)


def train(course: Course) -> Predict:
    """Train and take the best checkpoint, which the trainer chooses by Dice on the validation sections."""
    from torch_em import default_segmentation_trainer
    from torch_em.model import UNet2d
    from torch_em.transform.raw import standardize
    from torch_em.util import load_model

    net = UNet2d(in_channels=1, out_channels=1, final_activation="Sigmoid")
    trainer = default_segmentation_trainer(
        name="membrane",
        model=net,
        train_loader=_loader(course, "train"),
        val_loader=_loader(course, "validation"),
        device="cpu",
        logger=_Stop,
        logger_kwargs={"budget": course.budget},
        save_root=str(course.folder),
    )
    trainer.fit(epochs=10**6)
    load_model(trainer.checkpoint_folder, net, "best", device="cpu").eval()

    @torch.inference_mode()
    def predict(volume: Volume, z: int) -> NDArray[np.float32]:
        image = torch.from_numpy(standardize(read_section(volume.raw, z)))
        probability: NDArray[np.float32] = net(image[None, None])[0, 0].numpy()
        return probability

    return predict


def _loader(course: Course, part: Part) -> Any:
    from torch_em import default_segmentation_loader

    files: tuple[list[str], list[str]] = [], []
    for name, *arrays in course.stacks(part):
        for kind, array, paths in zip(("raw", "truth"), arrays, files, strict=True):
            paths.append(str(course.folder / f"{name}-{part}-{kind}.tif"))
            tifffile.imwrite(paths[-1], array)
    raw, truth = files
    return default_segmentation_loader(
        raw, None, truth, None, batch_size=1, patch_shape=PATCH, ndim=2, shuffle=True, num_workers=1
    )


class _Stop:
    """What the trainer takes for its logger: ends the last epoch when the time is over, so that it is validated."""

    def __init__(self, trainer: Any, _save_root: str, budget: Budget) -> None:
        self.trainer, self.budget = trainer, budget

    def log_train(self, *_: Any, **__: Any) -> None:
        """Count a step; the first one, in which the net is compiled, is free."""
        if not self.budget.steps:
            self.budget.start()
        if not self.budget.step():
            self.trainer.max_iteration, self.trainer.early_stopping = 0, -1

    def log_validation(self, *_: Any, **__: Any) -> None:
        """Do nothing."""
