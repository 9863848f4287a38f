"""NaN and infinity, wherever they come from, end a block or a run with a reason; none becomes "no membrane"."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from segem.config import ExecutionConfig, SegmentConfig
from segem.errors import BlockError, IncompleteError, ModelError, WorkspaceError
from segem.geometry import Halo
from segem.io.ledger import Ledger, PhaseKey
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.normalize import IntensityStatistics, zscore
from segem.learn.artefact import Artefact, load_artefact, load_net
from segem.learn.engine import Engine
from segem.learn.runtimes.eager import EagerCpu
from segem.plan import Plan, crop_tiling
from segem.stages.segmentation.segment import segment
from segem.stages.segmentation.verify import verify
from tests.integration.conftest import make_artefact, make_volume
from tests.nets import vouch_for_weights

QUIET = ExecutionConfig(device="cpu")
TINY = SegmentConfig(model="tiny")
SHAPE = (2, 32, 48)
STATISTICS = IntensityStatistics(mean=128, std=70, minimum=0, maximum=255, percentiles={})


@pytest.fixture
def engine(artefact: Artefact) -> Iterator[Engine]:
    with Engine(load_net(artefact), torch.device("cpu"), threads=1) as made:
        yield made


@pytest.fixture
def plan() -> Plan:
    return Plan(SHAPE, SHAPE, crop_tiling(SHAPE, SHAPE, Halo(0, 16, 16), 4, 16))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_voxel_of_the_input(engine: Engine, plan: Plan, bad: float) -> None:
    rng = random.Random(0)
    for _ in range(10):
        voxels = np.full(SHAPE, 100, np.float32)
        place = tuple(rng.randrange(n) for n in SHAPE)
        voxels[place] = bad
        with pytest.raises(BlockError, match="NaN or infinity"):
            engine.predict_block(plan, plan.block((0, 0, 0)), voxels, STATISTICS)  # type: ignore[arg-type]
    voxels = np.full(SHAPE, 100, np.float32)
    assert np.isfinite(engine.predict_block(plan, plan.block((0, 0, 0)), voxels, STATISTICS)).all()  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["mean", "std"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_statistics_of_the_volume(
    workspace: Workspace, artefact: Artefact, tmp_path: Path, key: str, bad: float
) -> None:
    make_volume(workspace, tmp_path / "source", (9, 64, 64))
    file = workspace.volume("noise") / "zarr.json"
    values = json.loads(file.read_text())
    values["attributes"]["segem"]["statistics"][key] = bad
    file.write_text(json.dumps(values))
    with pytest.raises(WorkspaceError, match="no intensity statistics"):
        segment("noise", "r", TINY, QUIET, workspace)
    with Ledger(workspace.ledger("r")) as ledger:
        assert ledger.rows(PhaseKey("noise", "segment", "blocks")) == {}
    assert verify("r", workspace) != []


def weights(artefact: Artefact) -> dict[str, torch.Tensor]:
    state = load_file(artefact.path / "weights.safetensors")
    return {key: value for key, value in state.items() if value.is_floating_point()}


def test_one_weight_of_a_model(artefact: Artefact) -> None:
    file = artefact.path / "weights.safetensors"
    for key in weights(artefact):
        state = load_file(artefact.path / "weights.safetensors")
        kept = file.read_bytes()
        state[key].view(-1)[-1] = torch.nan
        save_file(state, file)
        vouch_for_weights(artefact.path)
        with pytest.raises(ModelError, match=f"NaN or infinity in {key}"):
            load_net(load_artefact(artefact.path))
        file.write_bytes(kept)
    vouch_for_weights(artefact.path)
    load_net(load_artefact(artefact.path))


def test_one_weight_of_a_net_in_memory(artefact: Artefact, plan: Plan) -> None:
    voxels = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    for key in weights(artefact):
        net = load_net(artefact)
        net.state_dict()[key].view(-1)[-1] = torch.nan
        with pytest.raises(ModelError, match=f"NaN or infinity in {key}"):
            Engine(net, torch.device("cpu"), threads=1)
    with Engine(load_net(artefact), torch.device("cpu"), threads=1) as engine:
        assert isinstance(engine.runtime, EagerCpu)
        for parameter in engine.runtime._net.parameters():
            kept = parameter.detach().clone()
            parameter.detach()[(-1,) * parameter.dim()] = torch.nan
            with pytest.raises(BlockError, match="the net gave NaN or infinity"):
                engine.predict_block(plan, plan.block((0, 0, 0)), voxels, STATISTICS)
            parameter.detach().copy_(kept)
        assert np.isfinite(engine.predict_block(plan, plan.block((0, 0, 0)), voxels, STATISTICS)).all()


def test_a_block_of_nan_is_named_and_not_written(
    workspace: Workspace, artefact: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_volume(workspace, tmp_path / "source", (24, 64, 64))
    source = Volume.open(workspace.volume("noise"))
    struck = zscore(np.asarray(source.raw[11:12]), source.statistics)
    real = Engine.probabilities

    def once_nan(self: Engine, inputs: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        tiles = list(inputs)
        for channels, found in zip(tiles, real(self, tiles), strict=True):
            probability = found.copy()
            if np.array_equal(channels, struck):
                probability[3, 4] = np.nan
            yield probability

    monkeypatch.setattr(Engine, "probabilities", once_nan)
    with pytest.raises(IncompleteError, match=r"1 of 3 blocks are not finished, the first is block \(1, 0, 0\)"):
        segment("noise", "r", TINY, QUIET, workspace)
    with Ledger(workspace.ledger("r")) as ledger:
        assert sorted(ledger.rows(PhaseKey("noise", "segment", "blocks"))) == [(0, 0, 0), (2, 0, 0)]
    result = Volume.open(workspace.result("r", "noise"))
    assert not (result.path / "0" / "c" / "1").exists()
    monkeypatch.undo()
    make_artefact(workspace, seed=0)
    assert segment("noise", "r", TINY, QUIET, workspace).computed == 1
