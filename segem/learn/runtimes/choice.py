"""Which runtime evaluates a net here."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from segem.config import Device, RuntimeName
from segem.errors import ConfigError
from segem.learn.runtimes.base import Runtime
from segem.learn.runtimes.eager import EagerBatches, EagerCpu, eager_name
from segem.learn.runtimes.openvino import OpenVinoCpu, installed, openvino_name


def choose_device(device: Device) -> torch.device:
    """Return the torch device; ``auto`` takes CUDA, then Apple's MPS, then the CPU.

    Raises
    ------
    ConfigError
        When the requested device is not available.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name, available in there.items() if available))
    if not there[device]:
        raise ConfigError(f"no {device} device here", expected=device, found="cpu", fix="use --device auto")
    return torch.device(device)


def choose_runtime(runtime: RuntimeName, device: torch.device) -> RuntimeName:
    """Return the runtime for a device; ``auto`` takes OpenVINO on a processor where it is installed.

    Raises
    ------
    ConfigError
        When the requested runtime is not installed, or does not support the device.
    """
    # OpenVINO is the faster of the two on a processor; 8 bits change the result, so only a user may choose them.
    if runtime == "auto":
        return "openvino" if device.type == "cpu" and installed("openvino") else "torch"
    if runtime == "torch":
        return runtime
    if device.type != "cpu":
        raise ConfigError(
            f"runtime {runtime} computes on the CPU only", found=device.type, fix="use --device cpu, or --runtime auto"
        )
    needed = ("openvino", "nncf") if runtime == "openvino-int8" else ("openvino",)
    if not installed(*needed):
        raise ConfigError(
            f"runtime {runtime} is not installed",
            expected=" and ".join(needed),
            fix="run pip install -e '.[cpu]' in the clone of segem, or use --runtime torch",
        )
    return runtime


def runtime_identity(runtime: RuntimeName, device: torch.device, quantized: Path | None = None) -> str:
    """Return what computes, for the identity of a block: another runtime may round differently.

    Versions are part of the identity too; `segem.stages.segmentation.identity` adds them.
    """
    return openvino_name(quantized) if runtime.startswith("openvino") else eager_name(device)


def training_runtime(device: torch.device) -> str:
    """Return what trains nets, with its version, for their cards."""
    # Training needs gradients, which OpenVINO does not have: it is always torch that trains.
    return eager_name(device).replace("torch", f"torch {torch.__version__}", 1)


def open_runtime(
    net: nn.Module,
    runtime: RuntimeName,
    device: torch.device,
    channels: int,
    threads: int,
    quantized: Path | None = None,
) -> Runtime:
    """Make a net ready to evaluate.

    Parameters
    ----------
    net : Module
        In evaluation mode, (B, C, H, W) to (B, 1, H, W) logits.
    runtime : {"torch", "openvino", "openvino-int8"}
        As `choose_runtime` returns it.
    device : torch.device
        Where to compute.
    channels : int
        C of the net.
    threads : int
        Tiles evaluated at the same time on a processor.
    quantized : Path, optional
        The 8-bit model of ``openvino-int8``.

    Returns
    -------
    Runtime
    """
    if runtime.startswith("openvino"):
        return OpenVinoCpu(net, channels, threads, quantized)
    return EagerCpu(net, threads) if device.type == "cpu" else EagerBatches(net, device)
