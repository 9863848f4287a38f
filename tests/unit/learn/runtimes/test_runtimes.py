"""Runtimes give what torch gives, in order, whatever they do side by side and however little memory there is."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.jit._trace import is_tracing

from segem.errors import BlockError, ConfigError, ModelError
from segem.learn.models.registry import build
from segem.learn.runtimes import choice
from segem.learn.runtimes.base import TilePool
from segem.learn.runtimes.choice import choose_runtime, open_runtime, runtime_identity
from segem.learn.runtimes.eager import EagerBatches
from segem.learn.runtimes.openvino import _without_self, import_openvino, quantize, quantized_digest

CPU = torch.device("cpu")


def small_net() -> nn.Module:
    torch.manual_seed(0)
    return build("unet", {"features": 4, "depth": 2, "context_sections": 3}).eval()


net = pytest.fixture(scope="module")(small_net)


def inputs(*sizes: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(3, *size)).astype(np.float32) for size in sizes]


def expected(net: nn.Module, tiles: list[np.ndarray]) -> list[np.ndarray]:
    with torch.inference_mode():
        return [torch.sigmoid(net(torch.from_numpy(tile)[None]))[0, 0].numpy() for tile in tiles]


SIZES = ((32, 32), (32, 32), (30, 41), (1, 1), (32, 32), (17, 64))


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_runtime_gives_what_torch_gives(net: nn.Module, runtime: str, threads: int) -> None:
    tiles = inputs(*SIZES)
    opened = open_runtime(net, runtime, CPU, 3, threads)  # type: ignore[arg-type]
    found = list(opened.evaluate(iter(tiles)))
    again = list(opened.evaluate(iter(tiles)))
    opened.close()
    for a, b, c in zip(found, expected(net, tiles), again, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
        assert np.array_equal(a, c)


def test_what_the_converter_left_of_self_is_removed() -> None:
    ov = import_openvino()
    operators = ov.opset13
    self = operators.parameter(ov.PartialShape.dynamic(), name="self")
    image = operators.parameter(ov.PartialShape([1, 3, -1, -1]), name="x")
    # A node outside the model that is still alive: the reason why the converter takes `self` for used.
    user = operators.relu(self)
    model = ov.Model([operators.relu(image)], [self, image])
    core = ov.Core()
    with pytest.raises(RuntimeError, match="Operation name: self"):
        core.compile_model(model, "CPU")
    compiled = core.compile_model(_without_self(model), "CPU")
    x = np.array([[[[-1, 2]], [[3, -4]], [[-5, 6]]]], np.float32)
    assert compiled({0: x})[0].tolist() == [[[[0, 2]], [[3, 0]], [[0, 6]]]]
    del user


def cores_of_threads(runtime: str) -> set[frozenset[int]]:
    """Return the cores that the threads of this process may use while `runtime` is at work."""
    opened = open_runtime(small_net(), runtime, CPU, 3, 1)  # type: ignore[arg-type]
    done, looks = threading.Event(), []

    def look() -> None:
        while not done.is_set():
            for thread in os.listdir("/proc/self/task"):
                with suppress(ProcessLookupError):
                    looks.append(frozenset(os.sched_getaffinity(int(thread))))

    watcher = threading.Thread(target=look)
    watcher.start()
    while len(looks) < 5000:
        list(opened.evaluate(iter(inputs((512, 512)))))
    done.set()
    watcher.join()
    opened.close()
    return set(looks)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="with one core there is nothing to bind to")
@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_no_thread_is_bound_to_a_core_which_other_workers_would_be_bound_to_as_well(runtime: str) -> None:
    # In a process of its own: here, threads may be left that another test bound.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:
        assert processes.submit(cores_of_threads, runtime).result() == {frozenset(os.sched_getaffinity(0))}


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_the_bytes_do_not_depend_on_the_number_of_threads(net: nn.Module, runtime: str) -> None:
    tiles = inputs(*[(64, 48)] * 6)
    results = []
    for threads in (1, 2, 3):
        opened = open_runtime(net, runtime, CPU, 3, threads)  # type: ignore[arg-type]
        results.append(np.stack(list(opened.evaluate(tiles))))
        opened.close()
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


class GivesInfinity(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, 1:2] / (x[:, 1:2] - x[:, 1:2])


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_logits_that_are_no_number_come_out_as_nan(runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segem.learn.runtimes.openvino._check_agreement", lambda *_: None)
    opened = open_runtime(GivesInfinity(), runtime, CPU, 3, 1)  # type: ignore[arg-type]
    assert np.isnan(next(opened.evaluate(inputs((8, 8))))).all()
    opened.close()


def test_a_net_that_openvino_gets_wrong_is_refused() -> None:
    class Lies(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :1] * (2.0 if is_tracing() else 1.0)

    with pytest.raises(ModelError, match=r"does not give what torch gives.*use --runtime torch"):
        open_runtime(Lies(), "openvino", CPU, 3, 1)


def test_a_net_that_openvino_cannot_convert_is_refused_in_one_line() -> None:
    class Unconvertible(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("nothing doing")

    root = logging.getLogger()
    before = root.level, list(root.filters)
    with pytest.raises(ModelError, match=r"OpenVINO cannot convert this net.*use --runtime torch"):
        open_runtime(Unconvertible(), "openvino", CPU, 3, 1)
    assert (root.level, root.filters) == before, "whoever listens goes on hearing warnings"


class Hungry(nn.Module):
    """Runs out of memory with more than so many tiles at once."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.seen = most, []  # type: ignore[var-annotated]

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        if len(x) > self.most:
            raise torch.OutOfMemoryError
        return x[:, 1:2]


def batches_of(net: nn.Module, batch: int | None) -> EagerBatches:
    runtime = EagerBatches(net, CPU, batch)
    runtime._net = net  # folding copies, and this test looks at what the net has seen
    return runtime


def test_batches_come_back_in_order_and_hold_tiles_of_one_shape() -> None:
    tiles, net = inputs(*SIZES), Hungry(99)
    found = list(batches_of(net, 4).evaluate(tiles))
    for tile, probability in zip(tiles, found, strict=True):
        np.testing.assert_allclose(probability, 1 / (1 + np.exp(-tile[1])), atol=1e-6)
    assert net.seen == [2, 1, 1, 1, 1]


def test_a_batch_that_does_not_fit_is_halved_and_the_size_that_fits_is_kept() -> None:
    tiles, net = inputs(*[(8, 8)] * 20), Hungry(2)
    runtime = batches_of(net, 8)
    found = list(runtime.evaluate(tiles))
    for tile, probability in zip(tiles, found, strict=True):
        np.testing.assert_allclose(probability, 1 / (1 + np.exp(-tile[1])), atol=1e-6)
    assert runtime.batch == 2
    assert max(net.seen[-3:]) <= 2


def test_a_tile_that_never_fits_is_named() -> None:
    with pytest.raises(BlockError, match=r"does not fit the memory of the device.*--tile-px"):
        list(batches_of(Hungry(0), 4).evaluate(inputs((8, 8))))


def test_a_failing_tile_fails_alone_and_leaves_the_pool_usable() -> None:
    def forward(channels: np.ndarray) -> np.ndarray:
        if channels[0, 0, 0] < 0:
            raise ValueError("negative")
        return channels[0]

    def some() -> Iterator[np.ndarray]:
        for value in (1, 2, -1, 3):
            yield np.full((1, 2, 2), value, np.float32)

    pool = TilePool(forward, 2)
    with pytest.raises(ValueError, match="negative"):
        list(pool.evaluate(some()))
    assert float(next(pool.evaluate([np.ones((1, 2, 2), np.float32)]))[0, 0]) == 1
    pool.close()


def test_an_eight_bit_model_is_near_the_float_one_and_known_by_its_bytes(net: nn.Module, tmp_path: Path) -> None:
    tiles = inputs(*[(64, 64)] * 4)
    model = quantize(net, 3, tiles, tmp_path / "int8")
    assert model == tmp_path / "int8"
    assert len(quantized_digest(model)) == 64
    assert quantized_digest(model) in runtime_identity("openvino-int8", CPU, model)
    opened = open_runtime(net, "openvino-int8", CPU, 3, 2, model)
    other = inputs((40, 52))
    off = np.abs(next(opened.evaluate(other)) - expected(net, other)[0])
    opened.close()
    assert 0 < off.mean() < 0.05


def test_auto_takes_openvino_on_a_processor_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_runtime("auto", CPU) == "openvino"
    assert choose_runtime("auto", torch.device("cuda")) == "torch"
    monkeypatch.setattr(choice, "installed", lambda *_: False)
    assert choose_runtime("auto", CPU) == "torch"
    with pytest.raises(ConfigError, match=r"openvino-int8 is not installed; expected openvino and nncf.*'\.\[cpu\]'"):
        choose_runtime("openvino-int8", CPU)


def test_openvino_serves_the_processor_only() -> None:
    with pytest.raises(ConfigError, match="computes on the CPU only"):
        choose_runtime("openvino", torch.device("cuda"))


def test_nothing_is_reported_to_the_makers_of_openvino(net: nn.Module) -> None:
    open_runtime(net, "openvino", CPU, 3, 1).close()
    assert sys.modules["openvino_telemetry"] is None
