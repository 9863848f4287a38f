"""Tensors in a file: numbers only, never an object that could run code."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from segem.errors import ModelError
from segem.io.files import disk_errors


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to a new file.

    Parameters
    ----------
    path : Path
        The file, in a folder that is not in place yet: writing is not atomic.
    tensors : mapping of str to Tensor
        On any device, in any layout.

    Raises
    ------
    WorkspaceError
        When the disk refuses.
    """
    with disk_errors(path.parent):
        try:
            save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, path)
        except SafetensorError as error:
            # The library gives the system's error only as text.
            number = re.search(r"\(os error (\d+)\)", str(error))
            raise OSError(int(number[1]) if number else 0, str(error)) from None
        # safetensors writes files that only their owner can read; a model on a shared disk is for others too.
        path.chmod(0o644)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the weights of a net from a file of tensors of any origin.

    Parameters
    ----------
    path : Path
        A ``.safetensors`` file; any other is taken for what `torch.save` makes of a dictionary of tensors, and refused
        when it holds anything else: no object of it is ever made.

    Returns
    -------
    dict of str to Tensor
        Of any shape, and not yet known to be finite. A tensor may repeat few numbers and so be larger than the file.

    Raises
    ------
    ModelError
        When there is no such file, or it holds something else.
    """
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            with warnings.catch_warnings():
                # torch warns about versions of pickle; a file that is refused is reported below.
                warnings.simplefilter("ignore", UserWarning)
                state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError("no such file of weights", where=path, fix="give a .pth or .safetensors file") from None
    except SafetensorError as error:
        raise _not_weights(path, error) from None
    except OSError as error:
        raise ModelError(
            "the weights cannot be read", where=path, found=error, fix="check the file and its rights"
        ) from None
    except Exception:
        # For a file that holds no tensors, torch raises a dozen types of errors, whose texts are about pickle.
        raise _not_weights(path, "something else, of which nothing was run") from None
    if not isinstance(state, dict):
        raise _not_weights(path, type(state).__name__)
    for key, value in state.items():
        if not (isinstance(key, str) and isinstance(value, Tensor) and _is_plain(value)):
            raise _not_weights(path, f"{str(key)[:80]}, which is something else")
    return state


def check_finite(tensors: Mapping[str, Tensor], where: object) -> None:
    """Raise unless every weight is a number.

    Raises
    ------
    ModelError
        When one is NaN or infinite.
    """
    for key, value in tensors.items():
        if not torch.isfinite(value).all():
            raise ModelError(
                "the weights are not finite",
                where=where,
                found=f"NaN or infinity in {key}",
                fix="fetch the model again, or train it with a lower learning rate",
            )


def _is_plain(value: Tensor) -> bool:
    return value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized


def _not_weights(path: Path, found: object) -> ModelError:
    reason = str(found).splitlines()[0] if str(found) else type(found).__name__
    return ModelError(
        "not a file of weights",
        where=path,
        expected="a dictionary of tensors",
        found=reason[:160],
        fix="save the state_dict of the net again",
    )
