"""OpenVINO on the processor: the same float32 results as torch in less time, or 8-bit ones in far less.

OpenVINO and NNCF are optional (``pip install -e '.[cpu]'``); nothing is imported from them before it is needed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from segem.errors import ModelError
from segem.io.files import disk_errors, new_directory
from segem.learn.fold import folded
from segem.learn.runtimes.base import Channels, Probability, TilePool, instructions, sigmoid
from segem.learn.winograd import halve_multiplications

MODEL_FILE = "model.xml"
_WEIGHTS_FILE = "model.bin"
_AGREEMENT = 1e-3
_USE_TORCH = "use --runtime torch, or in a manifest segment: {runtime: torch}"
_TRACED_PX = 64


def installed(*packages: str) -> bool:
    """Tell whether optional packages are there, without importing them."""
    return all(importlib.util.find_spec(package) is not None for package in packages)


def openvino_name(quantized: Path | None = None) -> str:
    """Return what computes, without its version; a quantised model is known by its bytes."""
    name = f"openvino cpu{instructions(torch.device('cpu'))}"
    return f"{name} int8 {quantized_digest(quantized)}" if quantized is not None else f"{name} float32 winograd"


class OpenVinoCpu:
    """A net evaluated by OpenVINO on the processor.

    Parameters
    ----------
    net : Module
        In evaluation mode, (B, C, H, W) to (B, 1, H, W) logits.
    channels : int
        C of the net.
    threads : int
        Tiles evaluated at the same time, each by one thread.
    quantized : Path, optional
        Folder of a model made by `quantize`, to be used in place of the float32 net.

    Raises
    ------
    ModelError
        When the net cannot be converted, or gives something else than torch does.
    """

    def __init__(self, net: nn.Module, channels: int, threads: int, quantized: Path | None = None) -> None:
        ov = import_openvino()
        model = _read(quantized) if quantized is not None else halve_multiplications(_converted(net, channels))
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
            # Some processors would otherwise compute in bfloat16 without being asked.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self._compiled = ov.Core().compile_model(model, "CPU", settings)
        self._own = threading.local()
        if quantized is None:
            _check_agreement(net, channels, self._logits)
        self._pool = TilePool(self._forward, threads)
        self._warm_up(channels, threads)

    def _warm_up(self, channels: int, threads: int) -> None:
        """Let every thread evaluate something small; the first tile of a stream would otherwise hold up the others'."""
        together = threading.Barrier(threads)

        def small(_: int) -> None:
            together.wait()
            self._logits(np.zeros((channels, _TRACED_PX, _TRACED_PX), np.float32))

        self._pool.each(small)

    def evaluate(self, inputs: Iterable[Channels]) -> Iterator[Probability]:
        """Yield the membrane probability of each input, in order."""
        return self._pool.evaluate(inputs)

    def close(self) -> None:
        """Stop the threads and free the compiled net, which is large and would wait for the garbage collector."""
        self._pool.close()
        self._own = threading.local()
        del self._compiled

    def _forward(self, channels: Channels) -> Probability:
        logits = torch.from_numpy(self._logits(channels))
        probability: Probability = sigmoid(logits, out=logits).numpy()
        return probability

    def _logits(self, channels: Channels) -> Probability:
        # An infer request serves one thread at a time, so each thread keeps one of its own.
        request = getattr(self._own, "request", None)
        if request is None:
            request = self._own.request = self._compiled.create_infer_request()
        out = request.infer({0: np.ascontiguousarray(channels)[np.newaxis]}, share_inputs=True)
        return np.array(out[0][0, 0])


def quantize(net: nn.Module, channels: int, tiles: Sequence[Channels], folder: Path) -> Path:
    """Write an 8-bit copy of a net, calibrated on tiles of the volume it is meant for.

    Parameters
    ----------
    net : Module
        In evaluation mode.
    channels : int
        C of the net.
    tiles : sequence of (C, H, W) float32
        What the net will see; all of them are used.
    folder : Path
        Where the model shall lie; it appears whole or not at all.

    Returns
    -------
    Path
        `folder`.

    Notes
    -----
    Post-training quantisation by NNCF: weights to 8 bits for each channel, activations by the ranges seen on the tiles.
    """
    ov = import_openvino()
    # NNCF reports its use to its makers unless it believes itself in continuous integration.
    os.environ["NNCF_CI"] = "1"
    import nncf

    nncf.set_log_level(logging.ERROR)
    calibration = nncf.Dataset([tile[np.newaxis] for tile in tiles])
    # NNCF draws its progress on stdout, which belongs to results.
    with redirect_stdout(sys.stderr):
        model = nncf.quantize(_converted(net, channels), calibration, subset_size=len(tiles))
    with new_directory(folder) as partial, disk_errors(folder):
        ov.save_model(model, partial / MODEL_FILE, compress_to_fp16=False)
    return folder


def is_whole(folder: Path) -> bool:
    """Tell whether a quantised model lies in a folder and can be read."""
    if not all((folder / name).is_file() for name in (MODEL_FILE, _WEIGHTS_FILE)):
        return False
    try:
        _read(folder)
    except ModelError:
        return False
    return True


def quantized_digest(folder: Path) -> str:
    """Return the sha256 of a quantised model's weights and graph."""
    digest = hashlib.sha256()
    for name in (MODEL_FILE, _WEIGHTS_FILE):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def import_openvino() -> Any:
    """Return the package, kept from reporting its use."""
    # OpenVINO's converter reports its use to its makers wherever this package is found.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _read(folder: Path) -> Any:
    try:
        return import_openvino().Core().read_model(folder / MODEL_FILE)
    except Exception as error:
        raise ModelError(
            "the 8-bit model cannot be read", where=folder, found=error, fix="remove it and run again"
        ) from error


def _converted(net: nn.Module, channels: int) -> Any:
    ov = import_openvino()
    example = torch.zeros(1, channels, _TRACED_PX, _TRACED_PX)
    try:
        with warnings.catch_warnings():
            # The converter traces the net by a function of torch that will be replaced one day.
            for kind in (DeprecationWarning, FutureWarning):
                warnings.simplefilter("ignore", kind)
            return ov.convert_model(folded(net), example_input=example)
    except Exception as error:
        # The converter fails by a dozen types of errors.
        raise ModelError(
            "OpenVINO cannot convert this net", found=f"{type(error).__name__}: {error}", fix=_USE_TORCH
        ) from error


def _check_agreement(net: nn.Module, channels: int, logits: Any) -> None:
    """Raise unless an input of an awkward size comes out as torch gives it: a traced net may have frozen its sizes."""
    x = np.random.default_rng(0).normal(size=(channels, _TRACED_PX + 13, 2 * _TRACED_PX - 9)).astype(np.float32)
    with torch.inference_mode():
        expected = net(torch.from_numpy(x)[None])[0, 0].numpy()
    found = logits(x)
    off = float(np.abs(found - expected).max()) if found.shape == expected.shape else float("inf")
    if not off <= _AGREEMENT * max(1.0, float(np.abs(expected).max())):
        raise ModelError(
            "OpenVINO does not give what torch gives for this net",
            expected=f"logits within {_AGREEMENT}",
            found=f"{off:.2g} off",
            fix=_USE_TORCH,
        )
