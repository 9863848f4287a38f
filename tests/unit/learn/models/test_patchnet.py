"""The sliding window: three ways to evaluate it that agree to the bit, and what it learns from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import Compose
from torch import Tensor, nn

from segem.config import TrainConfig
from segem.learn import batches as batches_module
from segem.learn.batches import draw_batches
from segem.learn.models.patchnet import PatchNet
from segem.learn.patches import cut_patch
from segem.learn.sections import LabelledSection


def with_whole_numbers(net: PatchNet) -> PatchNet:
    """Give a net sparse weights of -1, 0 and 1: every sum is then exact, in whatever order it is taken."""
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        drawn = torch.rand(parameter.shape, generator=generator)
        parameter.data.copy_((drawn < 0.09).to(parameter) - (drawn > 0.94).to(parameter))
    return net


def section(height: int, width: int, dtype: torch.dtype, whole: bool) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    if whole:
        return torch.randint(-2, 3, (1, 1, height, width), generator=generator).to(dtype)
    return torch.randn(1, 1, height, width, generator=generator, dtype=dtype)


def test_the_weights_of_n4_are_219290() -> None:
    net = PatchNet()
    assert sum(p.numel() for p in net.parameters()) == 219_290


def test_the_maps_of_a_patch_have_the_sizes_of_the_paper() -> None:
    net, sizes = PatchNet(), []
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _m, _i, out: sizes.append(tuple(out.shape[1:])))
    assert net.logits_of_patches(torch.zeros(1, 1, 95, 95)).shape == (1, 1, 1, 1)
    assert sizes == [(48, 92, 92), (48, 42, 42), (48, 18, 18), (48, 6, 6), (200, 1, 1), (2, 1, 1)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(17, 9), (3, 21)])
def test_all_ways_agree_to_the_bit_on_whole_numbers(dtype: torch.dtype, size: tuple[int, int]) -> None:
    net, x = with_whole_numbers(PatchNet().to(dtype)).eval(), section(*size, dtype, whole=True)
    with torch.inference_mode():
        expected = net.logits_patchwise(x, batch=32)
        assert expected.unique().numel() > 20
        # Beyond this, float32 no longer holds every whole number.
        assert expected.abs().max() < 2**24
        assert torch.equal(net.logits_atrous(x), expected)
        assert torch.equal(net.logits_fragments(x), expected)
        assert torch.equal(net(x), expected)


def test_all_ways_agree_on_ordinary_weights() -> None:
    torch.manual_seed(0)
    net, x = PatchNet().eval(), section(18, 7, torch.float32, whole=False)
    with torch.inference_mode():
        expected = net.logits_patchwise(x)
        assert expected.std() > 1e-3
        torch.testing.assert_close(net.logits_atrous(x), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(net.logits_fragments(x), expected, rtol=1e-5, atol=1e-5)


def test_dense_ways_agree_over_several_tiles_of_fragments_and_in_a_batch() -> None:
    net = with_whole_numbers(PatchNet()).eval()
    x = torch.cat([section(70, 53, torch.float32, whole=True), section(70, 53, torch.float32, whole=True).flip(-1)])
    with torch.inference_mode():
        both = net.logits_atrous(x)
        assert torch.equal(net.logits_fragments(x), both)
        assert torch.equal(net.logits_fragments(x[1:]), both[1:])


def test_a_logit_is_that_of_the_patch_around_its_pixel() -> None:
    torch.manual_seed(0)
    net, x = PatchNet().double().eval(), section(120, 110, torch.float64, whole=False)
    with torch.inference_mode():
        alone = net.logits_of_patches(x[..., 10:105, 3:98])
        assert float(net(x)[0, 0, 57, 50]) == pytest.approx(float(alone), abs=1e-12)


def test_centres_are_of_the_class_asked_for_and_all_of_them_are_drawn() -> None:
    truth = (np.random.default_rng(0).random((9, 7)) < 0.2).astype(np.float32)[np.newaxis]
    layers = {"label": truth, "image": np.arange(63, dtype=np.float32).reshape(1, 9, 7)}
    rng = np.random.default_rng(1)
    for membrane in (0, 1):
        drawn = set()
        for _ in range(600):
            patch = cut_patch(layers, 21, membrane, rng)
            assert patch["image"].shape == (1, 21, 21)
            assert patch["label"][0, 10, 10] == membrane
            pixel = int(patch["image"][0, 10, 10])
            y, x = divmod(pixel, 7)
            mirrored = np.pad(layers["image"][0], 10, mode="reflect")[y : y + 21, x : x + 21]
            assert np.array_equal(patch["image"][0], mirrored)
            drawn.add(pixel)
        assert drawn == set(np.flatnonzero(truth == membrane))


def test_a_section_without_membrane_still_gives_patches() -> None:
    empty = {"label": np.zeros((1, 4, 4), np.float32)}
    assert cut_patch(empty, 5, 1, np.random.default_rng(0))["label"].shape == (1, 5, 5)


def test_batches_hold_as_many_membranes_as_other_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches_module, "build_augmentation", lambda *_: Compose([]))
    truth = np.zeros((50, 60), np.uint8)
    truth[3, 4] = truth[40, 50] = 1
    labelled = LabelledSection("v", truth[np.newaxis].astype(np.float32), truth)
    image, label, weight, _ = next(draw_batches([labelled], TrainConfig(model="patchnet", steps=1, batch=32)))
    assert image.shape == (32, 1, 95, 95)
    assert label.shape == weight.shape == (32, 1, 1, 1)
    assert float(label.mean()) == 0.5
    assert torch.equal(image[..., 47:48, 47:48], label)
