"""What every contender is given: the same weights and the same sections."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from torch import nn

from segem.config import IngestConfig
from segem.io.layers import read_section
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.normalize import IntensityStatistics, histogram, zscore
from segem.learn.allocator import keep_activations
from segem.learn.artefact import save_artefact
from segem.learn.fold import folded
from segem.learn.models.registry import build
from segem.records.card import ModelCard
from segem.stages.volumes.ingest import ingest

DEPTH, SEED = 4, 0
VOXEL_NM = (50.0, 4.6, 4.6)


@dataclass(frozen=True)
class Case:
    """One net and one volume, in a folder that `make` has filled.

    Parameters
    ----------
    folder : Path
        Where everything lies.
    features : int
        Channels of the first level of the net.
    threads : int
        Threads that a contender may use.
    """

    folder: Path
    features: int
    threads: int

    @property
    def options(self) -> dict[str, int]:
        """How the net is built."""
        return {"features": self.features, "depth": DEPTH}

    @property
    def weights(self) -> Path:
        """The state dict, for everyone but segem."""
        return self.folder / f"unet-{self.features}.pt"

    @property
    def artefact(self) -> Path:
        """The same weights as segem keeps them."""
        return self.folder / f"unet-{self.features}"

    @property
    def workspace(self) -> Workspace:
        """Where segem's volumes and runs lie."""
        return Workspace(self.folder / "workspace")

    def net(self) -> nn.Module:
        """Return the net as PyTorch has it, ready to predict."""
        net = build("unet", self.options)
        net.load_state_dict(torch.load(self.weights, weights_only=True))
        return net.eval()

    def optimised_net(self) -> nn.Module:
        """Return the net as segem runs it in torch, in a process that keeps the memory of its activations."""
        keep_activations()
        return folded(self.net()).to(memory_format=torch.channels_last)

    def stack(self, sections: int) -> Stack:
        """Return the first sections of the volume."""
        return Stack(self, sections)


@dataclass(frozen=True)
class Stack:
    """The first sections of a volume, scaled by their own statistics, as segem does it."""

    case: Case
    sections: int

    @property
    def name(self) -> str:
        """Name of the volume in segem's workspace."""
        return f"sections-{self.sections}"

    @property
    def volume(self) -> Volume:
        """The volume in segem's workspace."""
        return Volume.open(self.case.workspace.volume(self.name))

    @property
    def statistics(self) -> IntensityStatistics:
        """Of these sections."""
        return IntensityStatistics.from_dict(json.loads(self._statistics.read_text()))

    @cached_property
    def input(self) -> torch.Tensor:
        """What a net takes, (N, 1, H, W) float32."""
        raw = np.load(self.case.folder / "volume.npy", mmap_mode="r")
        scaled = [zscore(np.asarray(raw[z % len(raw)]), self.statistics) for z in range(self.sections)]
        return torch.from_numpy(np.stack(scaled)[:, None])

    @cached_property
    def reference(self) -> NDArray[np.float32]:
        """Probabilities of the plain net on whole sections, (N, H, W)."""
        reference: NDArray[np.float32] = np.load(self._reference)
        return reference

    def make(self, with_reference: bool) -> None:
        """Write what the methods above read, as far as it is missing."""
        raw = np.load(self.case.folder / "volume.npy", mmap_mode="r")
        repeated = raw[np.arange(self.sections) % len(raw)]
        source = self.case.folder / f"{self.name}.tif"
        if not self._statistics.is_file():
            tifffile.imwrite(source, repeated, photometric="minisblack")
            ingest(IngestConfig(name=self.name, source=source, voxel_nm=VOXEL_NM), self.case.workspace)
            statistics = IntensityStatistics.from_histogram(histogram(repeated))
            self._statistics.write_text(json.dumps(statistics.to_dict()))
        if with_reference and not self._reference.is_file():
            net = self.case.net()
            keep_activations()  # changes no bit, and takes half the time
            with torch.inference_mode():
                whole = [torch.sigmoid(net(section[None]))[0, 0].numpy() for section in self.input]
            np.save(self._reference, np.stack(whole))

    @property
    def _statistics(self) -> Path:
        return self.case.folder / f"{self.name}.json"

    @property
    def _reference(self) -> Path:
        return self.case.folder / f"{self.name}-{self.case.features}.npy"


def make_volume(folder: Path, source: Path, size: int) -> None:
    """Cut real sections to squares and write them to ``volume.npy``."""
    if (folder / "volume.npy").is_file():
        return
    workspace = Workspace(folder / "workspace")
    made = ingest(IngestConfig(name="real", source=source, voxel_nm=VOXEL_NM), workspace)
    raw = Volume.open(made.path).raw
    np.save(folder / "volume.npy", np.stack([read_section(raw, z)[:size, :size] for z in range(made.shape[0])]))


def make_net(case: Case) -> None:
    """Draw seeded weights, fit batch norm to real sections, and write them as a state dict and as an artefact."""
    if case.artefact.is_dir():
        return
    torch.manual_seed(SEED)
    net = build("unet", case.options)
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # a plain average over what the net is shown
    raw = np.load(case.folder / "volume.npy", mmap_mode="r")[:4, :256, :256]
    scaled = zscore(np.asarray(raw), IntensityStatistics.from_histogram(histogram(raw)))
    crops = torch.from_numpy(scaled)[:, None]
    with torch.no_grad():
        net.train()(crops)
        # Random weights lean to one side; centred, they call half of the section membrane.
        net.get_submodule("head").bias -= net.eval()(crops).median()
    torch.save(net.state_dict(), case.weights)
    card = ModelCard(name=case.artefact.name, architecture="unet", options=case.options, threshold=0.5)
    save_artefact(case.artefact, card, net)


def described(case: Case) -> dict[str, str | int]:
    """Return the case as plain values, from which a process of its own makes it again."""
    return {**asdict(case), "folder": str(case.folder)}
