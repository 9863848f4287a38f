"""Exchange of nets: traced for use without segem, and rebuilt from foreign weights."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segem.config import parse
from segem.errors import ModelError
from segem.io.files import disk_errors
from segem.learn.cost import bare_net
from segem.learn.models.registry import build, spec_of
from segem.learn.tensors import check_finite

_TRACED_PX, _AGREEMENT = 64, 1e-4


def write_torchscript(path: Path, net: nn.Module, channels: int) -> None:
    """Write a net as TorchScript, which torch evaluates without the net's code.

    Parameters
    ----------
    path : Path
        The file, in a folder that is not in place yet: writing is not atomic.
    net : Module
        In evaluation mode.
    channels : int
        Sections that it takes.

    Raises
    ------
    ModelError
        When the traced net gives other logits than the net for an image of another size.
    WorkspaceError
        When the disk refuses.
    """
    with warnings.catch_warnings(), torch.no_grad():
        # torch calls TorchScript deprecated; of torch's formats, it is the one that bioimage.io has a name for.
        warnings.simplefilter("ignore")
        example = torch.zeros(1, channels, _TRACED_PX, _TRACED_PX)
        recorded = torch.jit.trace(net, example, check_trace=False)  # type: ignore[no-untyped-call]
        with disk_errors(path):
            recorded.save(str(path))
        # Tracing may have frozen the size of the example.
        x = torch.randn(2, channels, _TRACED_PX + 13, 2 * _TRACED_PX - 9, generator=torch.Generator().manual_seed(0))
        expected, found = net(x), torch.jit.load(str(path))(x)  # type: ignore[no-untyped-call]
    off = float((found - expected).abs().max()) if found.shape == expected.shape else float("inf")
    if not off <= _AGREEMENT * max(1.0, float(expected.abs().max())):
        raise ModelError(
            "the recorded net does not give what the net gives",
            where=type(net).__name__,
            expected=f"logits within {_AGREEMENT}",
            found=f"{off:.2g} off",
            fix="report it: this architecture cannot be exported",
        )


def fitted_net(architecture: str, options: dict[str, Any], state: Mapping[str, Tensor], where: object) -> nn.Module:
    """Build a net and fill in weights of which nothing is known yet.

    Parameters
    ----------
    architecture : str
        Name in the zoo.
    options : dict
        Its options.
    state : mapping of str to Tensor
        The weights.
    where : object
        Where they come from, for the message.

    Returns
    -------
    Module
        In evaluation mode.

    Raises
    ------
    ModelError
        When they do not fit or are not finite.
    """
    spec = spec_of(architecture)
    try:
        # Compared before memory is taken: options of a stranger could ask for a net that fits no machine.
        bare_net(spec, parse(spec.options, options, where=architecture)).load_state_dict(state, assign=True)
    except RuntimeError as error:
        reasons = [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]
        raise ModelError(
            "the weights do not fit the architecture",
            where=where,
            expected=" ".join([architecture, *(f"{key}={value}" for key, value in options.items())]),
            found=reasons[0][:160],
            fix="name the architecture and the options that they were trained with",
        ) from None
    check_finite(state, where)
    net = build(architecture, options)
    net.load_state_dict(state)  # into float32, whatever they are
    return net.eval()


def torch_version() -> str:
    """Return the version of torch without the name of its build.

    Examples
    --------
    >>> "+" in torch_version()
    False
    """
    return torch.__version__.partition("+")[0]
