"""Traits of tissue and membranes, and how far they lie from a reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from segem.kernels.drift import (
    TOO_FAR,
    TRAITS,
    explain_distance,
    mean_traits,
    measure_distance,
    measure_image,
    measure_membrane,
    measure_pieces,
    measure_section,
    range_traits,
)
from tests.fabricate import guess, tissue

NAMES = {trait.name for trait in TRAITS}
OF_IMAGE = {trait.name for trait in TRAITS if trait.of == "image"}


@pytest.fixture(scope="module")
def section() -> tuple[np.ndarray, np.ndarray]:
    """A section in standard deviations, and a probability of its membranes."""
    image, truth = tissue((1, 256, 256))
    return scaled(image[0]), guess(truth)[0]


def scaled(image: np.ndarray) -> np.ndarray:
    return (image - image.mean()) / image.std()


def measured(image: np.ndarray, stored: np.ndarray) -> dict[str, float]:
    found = measure_section(image, stored, 0.5)
    assert found is not None
    return found


def test_a_section_has_every_trait(section: tuple[np.ndarray, np.ndarray]) -> None:
    found = measured(*section)
    assert found.keys() == NAMES
    assert all(map(math.isfinite, found.values()))
    image = measure_image(section[0])
    assert image is not None
    assert image.keys() == OF_IMAGE


def test_shares_of_detail_are_those_of_the_variance() -> None:
    """Independent pixels: a mean over four has a quarter of their variance."""
    found = measure_image(np.random.default_rng(0).normal(size=(1024, 1024)))
    assert found is not None
    shares = [found[f"detail_{px}px"] for px in (1, 2, 4, 8, 16)]
    assert shares == pytest.approx([0.75 / 4**k for k in range(5)], rel=0.06)


def test_a_grid_of_lines_measures_as_it_was_drawn() -> None:
    """Lines of 4 px, 32 px apart, closed but for one gap, in a tissue two deviations brighter."""
    stored = np.zeros((256, 256), np.uint8)
    for at in range(30, 256, 32):
        stored[at : at + 4] = stored[:, at : at + 4] = 255
    found = measure_membrane(np.where(stored > 0, -1.5, 0.5), stored, 0.5)
    assert found["width_px"] == pytest.approx(4, abs=0.4)
    assert found["darkness"] == 2
    assert found["cells"] == pytest.approx(1e6 * 65 / 256**2), "8 x 8 cells, the last ones cut, and one more"
    assert found["doubt"] == 0
    gap = stored.copy()
    gap[30:34, 100:120] = 0
    assert measure_membrane(np.zeros(stored.shape), gap, 0.5)["ends"] > found["ends"]


@pytest.mark.parametrize("value", [0, 255])
def test_no_membrane_and_nothing_else_have_finite_traits_far_from_any(
    section: tuple[np.ndarray, np.ndarray], value: int
) -> None:
    image, stored = section
    found = measured(image, np.full(stored.shape, value, np.uint8))
    assert all(map(math.isfinite, found.values()))
    assert measure_distance(found, range_traits([measured(image, stored)])).too_far


@pytest.mark.parametrize(
    ("change", "trait", "sign"),
    [
        (lambda z: scaled(ndimage.gaussian_filter(z, 2)), "detail_1px", -1),
        (lambda z: scaled(z + np.random.default_rng(0).normal(size=z.shape)), "detail_1px", 1),
        (np.negative, "asymmetry", 1),
        (lambda z: z + 1, "brightness", 1),
        (lambda z: z * 2, "contrast", 1),
        (lambda z: scaled(z[::2, ::2]), "detail_16px", -1),
    ],
    ids=["blur", "noise", "inverted", "brighter", "contrast", "halved"],
)
def test_what_spoils_an_image_shows(section: tuple[np.ndarray, np.ndarray], change, trait: str, sign: int) -> None:
    image, _ = section
    before, after = measure_image(image), measure_image(change(image))
    assert before is not None
    assert after is not None
    assert sign * (after[trait] - before[trait]) > 0
    assert measure_distance(after, {name: (value, value) for name, value in before.items()}).excess[trait] > 0


def test_padding_changes_little_and_too_much_of_it_nothing_is_measured(section: tuple[np.ndarray, np.ndarray]) -> None:
    image, stored = section
    inside = np.ones(image.shape, bool)
    inside[:, 192:] = False
    padded = np.where(inside, image, 9.0)
    whole, part = measure_section(image[:, :192], stored[:, :192], 0.5), measure_section(padded, stored, 0.5, inside)
    assert whole is not None
    assert part is not None
    assert measure_distance(part, range_traits([whole])).value < TOO_FAR / 2
    inside[:, 100:] = False
    assert measure_section(padded, stored, 0.5, inside) is None
    assert measure_image(np.zeros((64, 64))) is None, "one intensity"


def test_pieces_cover_a_section() -> None:
    image = np.random.default_rng(0).normal(size=(1024, 700))
    places = [(piece.rows, piece.columns) for piece in measure_pieces(image)]
    assert places == [(slice(0, 512), slice(0, 700)), (slice(512, 1024), slice(0, 700))]


VALUES = st.fixed_dictionaries({trait.name: st.floats(0.01, 100) for trait in TRAITS})


@given(st.lists(VALUES, min_size=1, max_size=4))
def test_what_made_a_reference_is_in_it(pieces: list[dict[str, float]]) -> None:
    ranges = range_traits(pieces)
    assert all(measure_distance(piece, ranges).value == 0 for piece in pieces)
    assert measure_distance(mean_traits(pieces), ranges).value == pytest.approx(0, abs=1e-6)


@given(VALUES, VALUES, VALUES)
def test_more_reference_never_lies_further(
    one: dict[str, float], other: dict[str, float], here: dict[str, float]
) -> None:
    alone, both = (measure_distance(here, range_traits(known)).value for known in ([one], [one, other]))
    assert both <= alone


def test_a_trait_that_is_not_known_is_infinitely_far(section: tuple[np.ndarray, np.ndarray]) -> None:
    found = measured(*section)
    ranges = range_traits([found])
    del ranges["ends"]
    distance = measure_distance(found, ranges)
    assert distance.value == math.inf
    assert explain_distance(distance, found, ranges) == (
        "loose ends of membranes, for 1000 px of their length is not known",
    )


def test_the_furthest_traits_come_first_in_words() -> None:
    ranges = {trait.name: (1.0, 2.0) for trait in TRAITS}
    traits = {trait.name: 1.5 for trait in TRAITS} | {"ends": 8.0, "width_px": 2.5, "brightness": -1.0}
    first, *_ = explain_distance(measure_distance(traits, ranges), traits, ranges)
    assert first == (
        "the median intensity is -1 standard deviations of the volume, and 1 to 2 standard deviations of the volume "
        "where the estimate was fitted"
    )
