"""A net that is given more sections to see gives what it gave before."""

from __future__ import annotations

import pytest
import torch

from segem.learn.models.registry import build
from segem.learn.widen import widened

OPTIONS = {"features": 2, "depth": 1}


@pytest.mark.parametrize(
    ("name", "options"), [("unet", OPTIONS), ("unet", OPTIONS | {"shuffle_px": 2}), ("deeplab-v1-msc", {"width": 2})]
)
def test_a_widened_net_gives_what_it_gave_before(name: str, options: dict[str, int]) -> None:
    torch.manual_seed(0)
    narrow, wide = build(name, options).eval(), build(name, options | {"context_sections": 5}).eval()
    wide.load_state_dict(widened(narrow.state_dict(), wide))
    x = torch.randn(1, 5, 16, 16)
    assert torch.equal(narrow(x[:, 2:3]), wide(x))


def test_weights_of_another_architecture_are_left_for_the_loader_to_refuse() -> None:
    narrow, other = build("unet", OPTIONS), build("unet", {"features": 4, "depth": 1, "context_sections": 3})
    state = widened(narrow.state_dict(), other)
    assert all(torch.equal(state[key], value) for key, value in narrow.state_dict().items())
