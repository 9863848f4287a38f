"""Every tool that trains side by side: one function for each, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from trainers import monai, nnunet, segem, torch_em
from trainers.course import Course, Predict


@dataclass(frozen=True)
class Trainer:
    """One tool that trains a net.

    Parameters
    ----------
    name : str
        For the command line.
    about : str
        The recipe, for the table.
    train : callable
        Trains until the budget is spent, and returns what predicts a section.
    needs : str
        Module it belongs to.
    """

    name: str
    about: str
    train: Callable[[Course], Predict]
    needs: str

    @property
    def missing(self) -> bool:
        """Whether its package is not installed."""
        return find_spec(self.needs) is None


BY_NAME = {
    trainer.name: trainer
    for trainer in (
        Trainer("segem", segem.ABOUT, segem.train, "segem"),
        Trainer("nnunet", nnunet.ABOUT, nnunet.train, "nnunetv2"),
        Trainer("torch-em", torch_em.ABOUT, torch_em.train, "torch_em"),
        Trainer("monai", monai.ABOUT, monai.train, "monai"),
    )
}
