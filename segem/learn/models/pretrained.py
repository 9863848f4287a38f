"""Weights learned on ImageNet for the nets of the zoo that share their layers with a classifier of torchvision."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from segem.errors import ModelError

Source = Path | Literal["imagenet"]
"""A file of weights in torchvision's names, or torchvision's own download."""


def torchvision_weights(source: Source, weights: WeightsEnum) -> dict[str, Tensor]:
    """Return the weights of a classifier of torchvision.

    Parameters
    ----------
    source : Path or "imagenet"
        A ``.safetensors`` file or a ``.pth`` file of tensors only; or torchvision's download, kept in torch's cache and
        checked by its hash.
    weights : WeightsEnum
        What to download.

    Raises
    ------
    ModelError
        When there is no network, no such file, the file holds something else or a weight is not finite.
    """
    try:
        if source == "imagenet":
            state = dict(weights.get_state_dict(progress=False, check_hash=True))
        elif Path(source).suffix == ".safetensors":
            state = load_file(source)
        else:
            with warnings.catch_warnings():
                # Of pickle's versions; what is refused is said below.
                warnings.simplefilter("ignore", UserWarning)
                state = torch.load(source, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(
            "no such file of weights", where=source, fix="give imagenet, or a .pth or .safetensors file"
        ) from None
    except SafetensorError as error:
        raise _not_weights(source, error) from None
    except OSError as error:
        raise ModelError(
            "the ImageNet weights cannot be fetched" if source == "imagenet" else "the weights cannot be read",
            where=weights.url if source == "imagenet" else source,
            found=error,
            fix="fetch that file where there is a network and give its path, as in --pretrained weights.pth"
            if source == "imagenet"
            else "check the file and its rights",
        ) from None
    except Exception:
        # torch reports what is no file of tensors by a dozen types of errors, some of them from pickle.
        raise _not_weights(source, "a file of something else, of which nothing was run") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise _not_weights(source, type(state).__name__)
    for key, value in state.items():
        if not torch.isfinite(value).all():
            raise ModelError(
                "the weights are not finite", where=source, found=f"NaN or infinity in {key}", fix="take other weights"
            )
    return state


def _not_weights(source: object, found: object) -> ModelError:
    reason = str(found).splitlines()[0] if str(found) else type(found).__name__
    return ModelError(
        "not a file of weights",
        where=source,
        expected="a dictionary of tensors, as torchvision saves one",
        found=reason[:160],
        fix="save the state_dict of the classifier again",
    )


def for_sections(weight: Tensor, sections: int) -> Tensor:
    """Return the weights of a first convolution on grey sections, made from those on three colours.

    The middle section gets the sum over the colours, so the layer gives for a grey image what it gave for the same
    image in all three channels; a mean would make all activations three times as small. The sections around it start at
    zero.

    Examples
    --------
    >>> for_sections(torch.tensor([1.0, 2.0, 4.0]).reshape(1, 3, 1, 1), 3).flatten().tolist()
    [0.0, 7.0, 0.0]
    """
    found = weight.new_zeros(len(weight), sections, *weight.shape[2:])
    found[:, sections // 2] = weight.sum(dim=1)
    return found


def filled(
    net: nn.Module,
    state: Mapping[str, Tensor],
    prefixes: tuple[str, ...],
    source: Source,
    left_out: tuple[str, ...] = (),
) -> None:
    """Copy weights into a net that must fill every layer under the given prefixes.

    Raises
    ------
    ModelError
        When one is missing or has another shape.
    """
    own = net.state_dict()
    wanted = [key for key in own if key.startswith(prefixes) and not any(part in key for part in left_out)]
    for key in wanted:
        value = state.get(key)
        if value is None or value.shape != own[key].shape:
            raise ModelError(
                "the weights do not fit",
                where=source,
                expected=f"{key} {tuple(own[key].shape)}",
                found="nothing" if value is None else tuple(value.shape),
                fix="give the weights of the classifier that this net is built on",
            )
    net.load_state_dict({key: state[key] for key in wanted}, strict=False)
