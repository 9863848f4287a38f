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
from contextlib import contextmanager, redirect_stdout
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
"""Largest relative difference of a logit from torch: far above rounding, and a wrong conversion is off by more."""
_USE_TORCH = "use --runtime torch, or in a manifest segment: {runtime: torch}"
_TRACED_PX = 64


def installed(*packages: str) -> bool:
    """Return whether optional packages are installed, without importing them."""
    return all(importlib.util.find_spec(package) is not None for package in packages)


def openvino_name(quantized: Path | None = None) -> str:
    """Return what computes, without its version; a quantised model is identified by the digest of its files."""
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
        When the net cannot be converted, or its output is not that of torch.
    """

    def __init__(self, net: nn.Module, channels: int, threads: int, quantized: Path | None = None) -> None:
        ov = import_openvino()
        model = _read(quantized) if quantized is not None else halve_multiplications(_converted(net, channels))
        settings = {
            # One thread for each stream, so that the number of cores does not change the order of sums.
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
            # Every process would otherwise bind its threads to the same first cores, and all workers share those.
            "ENABLE_CPU_PINNING": False,
            # On processors that have it, OpenVINO would otherwise compute in bfloat16.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self._compiled = ov.Core().compile_model(model, "CPU", settings)
        self._own = threading.local()
        # 8 bits differ by design; what they change of the mask is measured on tiles of the volume instead.
        if quantized is None:
            _check_agreement(net, channels, self._logits)
        self._pool = TilePool(self._forward, threads)
        self._warm_up(channels, threads)

    def _warm_up(self, channels: int, threads: int) -> None:
        """Let every thread evaluate a small input; a stream's first tile would otherwise block the others."""
        together = threading.Barrier(threads)

        def small(_: int) -> None:
            # Every task waits for all the others, so that no thread takes two of them.
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
        # In place: a tile's logits are not needed any more, and may be as large as a section.
        probability: Probability = sigmoid(logits, out=logits).numpy()
        return probability

    def _logits(self, channels: Channels) -> Probability:
        # An infer request serves one thread at a time, so each thread has its own.
        request = getattr(self._own, "request", None)
        if request is None:
            request = self._own.request = self._compiled.create_infer_request()
        out = request.infer({0: np.ascontiguousarray(channels)[np.newaxis]}, share_inputs=True)
        # A copy: the next tile of this thread reuses the output buffer of the request.
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
        Typical inputs; all of them are used.
    folder : Path
        Folder to write; it appears complete or not at all.

    Returns
    -------
    Path
        `folder`.

    Notes
    -----
    Post-training quantisation by NNCF: weights to 8 bits for each channel, activations by the ranges seen on the tiles.
    """
    ov = import_openvino()
    # NNCF sends usage data to its makers unless it believes that it runs in continuous integration.
    os.environ["NNCF_CI"] = "1"
    import nncf

    # Not nncf.set_log_level, which changes handlers that others have put there.
    logging.getLogger("nncf").setLevel(logging.ERROR)
    calibration = nncf.Dataset([tile[np.newaxis] for tile in tiles])
    # NNCF draws its progress on stdout, which is for results.
    with redirect_stdout(sys.stderr):
        model = nncf.quantize(_converted(net, channels), calibration, subset_size=len(tiles))
    with new_directory(folder) as partial, disk_errors(folder):
        # OpenVINO rounds float weights to 16 bits when saving, unless told not to.
        ov.save_model(model, partial / MODEL_FILE, compress_to_fp16=False)
    return folder


def is_whole(folder: Path) -> bool:
    """Return whether a folder holds a quantised model that can be read."""
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
    """Return the package, with its telemetry disabled."""
    # OpenVINO's converter sends usage data to its makers wherever this package is installed.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _read(folder: Path) -> Any:
    try:
        return import_openvino().Core().read_model(folder / MODEL_FILE)
    except Exception as error:
        raise ModelError(
            "the 8-bit model cannot be read",
            where=folder,
            found=error,
            fix="move it elsewhere and run again: it is made again of the model",
        ) from error


def _converted(net: nn.Module, channels: int) -> Any:
    ov = import_openvino()
    example = torch.zeros(1, channels, _TRACED_PX, _TRACED_PX)
    try:
        with warnings.catch_warnings(), _root_logger_kept():
            # Only what is traced can be converted, by a function that torch has deprecated.
            for kind in (DeprecationWarning, FutureWarning):
                warnings.simplefilter("ignore", kind)
            # Without torch's check, which traces a second time and takes longer than all else: the output of the
            # compiled net is compared with that of torch anyway.
            traced = torch.jit.trace(folded(net), example, check_trace=False, strict=False)  # type: ignore[no-untyped-call]
            return _without_self(ov.convert_model(traced, example_input=example))
    except Exception as error:
        # The converter raises a dozen types of errors.
        raise ModelError(
            "OpenVINO cannot convert this net", found=f"{type(error).__name__}: {error}", fix=_USE_TORCH
        ) from error


def _without_self(model: Any) -> Any:
    """Remove the argument `self` of the traced method, in place, where the converter has left it.

    The converter removes it if nothing uses it, but counts nodes as users that it has thrown away and not yet freed.
    So it stays now and then, by chance, and such a model cannot be compiled.
    """
    # The image is the last argument.
    for parameter in model.get_parameters()[:-1]:
        model.remove_parameter(parameter)
    return model


@contextmanager
def _root_logger_kept() -> Iterator[None]:
    """Undo what OpenVINO's converter does to the root logger: when it fails, it leaves it deaf to all but errors."""
    root = logging.getLogger()
    level, filters = root.level, list(root.filters)
    try:
        yield
    finally:
        root.setLevel(level)
        root.filters[:] = filters


def _check_agreement(net: nn.Module, channels: int, logits: Any) -> None:
    """Raise unless the output agrees with torch for an input of another size: tracing may have frozen sizes."""
    x = np.random.default_rng(0).normal(size=(channels, _TRACED_PX + 13, 2 * _TRACED_PX - 9)).astype(np.float32)
    with torch.inference_mode():
        expected = net(torch.from_numpy(x)[None])[0, 0].numpy()
    found = logits(x)
    off = float(np.abs(found - expected).max()) if found.shape == expected.shape else float("inf")
    # Written so that NaN fails too.
    if not off <= _AGREEMENT * max(1.0, float(np.abs(expected).max())):
        raise ModelError(
            "OpenVINO does not give what torch gives for this net",
            expected=f"logits within {_AGREEMENT}",
            found=f"{off:.2g} off",
            fix=_USE_TORCH,
        )
