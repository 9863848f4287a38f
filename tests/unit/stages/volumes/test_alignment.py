"""Labels that do not lie on their image are told with what would help; those that do are not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from segem.config import load_manifest
from segem.geometry import Box
from segem.kernels.instances import outline_cells
from segem.stages.volumes.alignment import doubt_alignment
from tests.fabricate import tissue

DATA = Path(__file__).resolve().parents[4] / "data"


def doubts(image: np.ndarray, truth: np.ndarray) -> list[str]:
    def read(voxels: np.ndarray) -> Callable[[Box], np.ndarray]:
        return lambda box: voxels[box.slices]

    labelled = [z for z, section in enumerate(truth) if {0, 1} <= set(np.unique(section))]
    return list(doubt_alignment(read(image), read(truth), image.shape, labelled))


@pytest.fixture(scope="module")
def independent() -> tuple[np.ndarray, np.ndarray]:
    """Sections that have nothing in common, so that each fits its own labels only."""
    sections = [tissue((1, 200, 200), seed) for seed in range(6)]
    return np.concatenate([image for image, _ in sections]), np.concatenate([truth for _, truth in sections])


def moved(truth: np.ndarray, y: int, x: int) -> np.ndarray:
    return np.roll(truth, (-y, -x), (1, 2))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda truth: moved(truth, 3, 0), "moved by +3 px in y and +0 px in x"),
        (lambda truth: moved(truth, -7, 12), "moved by -7 px in y and +12 px in x"),
        (lambda truth: moved(truth, 0, -40), "moved by +0 px in y and -40 px in x"),
        (lambda truth: np.roll(truth, 1, 0), "one section before"),
        (lambda truth: np.roll(truth, -1, 0), "one section after"),
        (lambda truth: np.roll(truth, 2, 0), "two sections before"),
        (lambda truth: truth[:, :, ::-1], "mirrored in x"),
        (lambda truth: truth[:, ::-1], "mirrored in y"),
        (lambda truth: truth[:, ::-1, ::-1], "turned by 180 degrees"),
        (lambda truth: truth.transpose(0, 2, 1), "with x and y exchanged"),
        (lambda truth: np.rot90(truth, -1, (1, 2)), "turned by 90 degrees"),
        (lambda truth: np.rot90(truth, 1, (1, 2)), "turned by 270 degrees"),
        (lambda truth: truth[::-1], "in reverse order"),
    ],
)
def test_labels_elsewhere_are_told_with_where_they_would_fit(
    independent: tuple[np.ndarray, np.ndarray], change: Callable[[np.ndarray], np.ndarray], said: str
) -> None:
    image, truth = independent
    (doubt,) = doubts(image, change(truth))
    assert doubt.startswith(f"the labels fit the image better {said} (correlation with dark lines 0.")


def test_labels_of_bright_membrane_are_told(independent: tuple[np.ndarray, np.ndarray]) -> None:
    image, truth = independent
    for doubted in (doubts(image, 1 - truth), doubts(255 - image, truth)):
        assert doubted[0].startswith("labelled membrane is brighter than what lies around it (correlation with dark")
        assert len(doubted) == 1


@pytest.mark.parametrize("side", [24, 48, 96, 200])
def test_chance_is_no_doubt(independent: tuple[np.ndarray, np.ndarray], side: int) -> None:
    image, truth = independent
    rng = np.random.default_rng(side)
    noise = rng.integers(0, 256, image.shape, np.uint8)
    for sections in (1, 6):
        part = np.s_[:sections, :side, :side]
        assert doubts(image[part], truth[part]) == []
        assert doubts(noise[part], truth[part]) == []
        assert doubts(image[part], (rng.random(image[part].shape) < 0.2).astype(np.uint8)) == []


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 300), (1, 5, 3), (3, 600, 70)])
def test_any_shape_is_compared(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    assert doubts(rng.integers(0, 256, shape, np.uint8), rng.integers(0, 3, shape, np.uint8)) == []
    assert doubts(np.zeros(shape, np.uint16), rng.integers(0, 2, shape, np.uint8)) == []


def test_what_is_unknown_has_no_part(independent: tuple[np.ndarray, np.ndarray]) -> None:
    image, truth = independent
    some = moved(truth, 0, 9)
    some[1:3], some[:, 100:] = 2, 2
    assert "moved by +0 px in y and +9 px in x" in doubts(image, some)[0]
    some[0], some[3:] = 2, 2
    assert doubts(image, some) == []


def real(em_data: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield the labelled sections of all public sets, and those of the codes of the VNC."""

    def folder(name: str, pattern: str = "*") -> np.ndarray:
        return np.stack([np.asarray(Image.open(path)) for path in sorted((em_data / name).glob(pattern))[:4]])

    labels = tifffile.imread(em_data / "isbi2012" / "train-labels.tif")
    image = tifffile.imread(em_data / "isbi2012" / "train-volume.tif")
    yield "isbi", image[:4], (labels[:4] == 0).astype(np.uint8)
    raw = folder("vnc/stack1/raw")
    yield "membranes", raw, folder("vnc/stack1/membranes").astype(np.uint8)
    yield "codes", raw, np.isin(folder("vnc/stack1/labels"), (0, 32, 64, 96)).astype(np.uint8)
    for name in ("ac4", "ac3") if (em_data / "snemi").is_dir() else ():
        ids = folder(f"snemi/{name}/ids", "000[0-3].tif")
        yield (
            name,
            folder(f"snemi/{name}/raw", "000[0-3].tif"),
            np.stack([outline_cells(each, 36, (6, 6), "membrane") for each in ids]),
        )


def test_good_labels_are_not_doubted_and_bad_ones_are(em_data: Path) -> None:
    for name, image, truth in real(em_data):
        assert doubts(image, truth) == [], name
        if name not in ("isbi", "ac3"):
            continue
        shift = re.search(r"moved by (.+) px in y and (.+) px in x", doubts(image, moved(truth, 4, -3))[0])
        assert shift is not None, name
        # ISBI's labels are drawn a pixel too high.
        assert [int(each) for each in shift.groups()] == pytest.approx([4, -3], abs=1), name
        assert "one section before" in doubts(image[1:], truth[:-1])[0], name
        assert "brighter" in doubts(image, 1 - truth)[0], name


def test_the_public_sets_are_named_with_what_their_labels_mean() -> None:
    meanings = {
        volume.name: (volume.labels.membrane, volume.labels.border_nm, volume.labels.zero_means)
        for volume in load_manifest(DATA / "manifests" / "all.yaml").volumes
        if volume.labels is not None
    }
    numbered = ("borders", 24.0, "membrane_with_border")
    assert meanings == {
        "isbi": ("zero", None, None),
        "stack1": ("nonzero", None, None),
        "ac4": numbered,
        "ac3": numbered,
    }
