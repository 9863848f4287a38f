"""The fast CRF against the same sums over all pairs, its free energy, and another implementation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.special import expit, logit

from segem.config import CrfConfig
from segem.errors import InputError
from segem.kernels.crf import MeanField, refine, spacing

SIGMA_PX = st.floats(2, 12)
SETTINGS = st.builds(
    CrfConfig,
    w1=st.floats(0, 6),
    sa_px=SIGMA_PX,
    sb_grey=st.floats(3, 40),
    w2=st.floats(0, 3),
    sg_px=st.floats(0.5, 4),
)
SECTIONS = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 24), st.integers(1, 24))


def section(seed, height, width):
    """Return a probability and an image of smooth structures of random size and contrast."""
    rng = np.random.default_rng(seed)
    image, logits = (ndimage.gaussian_filter(rng.normal(size=(height, width)), rng.uniform(0.3, 2)) for _ in range(2))
    image = (image - image.min()) / max(np.ptp(image), 1e-9) * 255
    return expit(rng.uniform(1, 12) * logits).astype(np.float32), image.astype(np.uint8)


def all_pairs(image, config):
    """Return k of every pair of pixels, as the energy has it."""
    place = np.moveaxis(np.indices(image.shape), 0, -1).reshape(-1, 2).astype(float)
    apart = ((place[:, None] - place) ** 2).sum(-1)
    grey = image.ravel().astype(float)
    unlike = (grey[:, None] - grey) ** 2
    appearance = np.exp(-apart / (2 * config.sa_px**2) - unlike / (2 * config.sb_grey**2))
    smoothness = np.exp(-apart / (2 * config.sg_px**2))
    return sum(
        weight * kernel / np.sqrt(np.outer(kernel.sum(1), kernel.sum(1)))
        for weight, kernel in ((config.w1, appearance), (config.w2, smoothness))
    )


def field_of(pairs, probability):
    certain = np.clip(probability.astype(float), 0.5 / 255, 1 - 0.5 / 255)
    return MeanField(logit(certain), lambda s: (pairs @ s.ravel()).reshape(s.shape))


def energies(field, iterations=10):
    logits, found = field.unary, [field.free_energy(field.unary)]
    for _ in range(iterations):
        logits = field.updated(logits)
        found.append(field.free_energy(logits))
    return logits, np.array(found)


@settings(max_examples=40)
@given(SECTIONS, SETTINGS)
def test_the_free_energy_never_rises(made_of, config):
    probability, image = section(*made_of)
    _, found = energies(field_of(all_pairs(image, config), probability))
    assert (np.diff(found) <= 1e-12 * (1 + np.abs(found).max())).all()


@settings(max_examples=40)
@given(SECTIONS, SETTINGS)
def test_the_fast_one_lowers_a_free_energy_of_its_own(made_of, config):
    probability, image = section(*made_of)
    _, found = energies(MeanField.of(probability, image, config))
    # A Gaussian that is cut off is positive definite only nearly.
    assert (np.diff(found) <= 1e-6 * (1 + np.abs(found).max())).all()


def test_without_its_diagonal_it_may_rise():
    # Two pixels that want to be alike and are updated at once swap their labels for ever.
    pairs = np.array([[0.0, 4.0], [4.0, 0.0]])
    _, found = energies(field_of(pairs, np.array([[0.6, 0.3]], np.float32)))
    assert np.diff(found).max() > 1e-3
    _, found = energies(field_of(pairs + 4 * np.eye(2), np.array([[0.6, 0.3]], np.float32)))
    assert np.diff(found).max() <= 1e-12


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), SETTINGS, st.integers(0, 2**9 - 1))
def test_the_free_energy_of_a_labelling_is_its_energy(seed, config, bits):
    probability, image = section(seed, 3, 3)
    pairs = all_pairs(image, config)
    field = field_of(pairs, probability)
    labels = np.array([bits >> i & 1 for i in range(9)])
    certain = np.clip(probability.astype(float).ravel(), 0.5 / 255, 1 - 0.5 / 255)
    unary = -np.log(np.where(labels == 1, certain, 1 - certain)).sum()
    unlike = labels[:, None] != labels
    expected = unary + pairs[unlike].sum() / 2
    assert field.free_energy((labels * 2.0 - 1).reshape(3, 3) * 40) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=60)
@given(SECTIONS, SETTINGS)
def test_one_filter_equals_the_sum_over_all_pairs(made_of, config):
    probability, image = section(*made_of)
    fast = MeanField.of(probability, image, config).pairwise(2.0 * probability - 1)
    exact = (all_pairs(image, config) @ (2.0 * probability - 1).ravel()).reshape(image.shape)
    # Weights add up to about w1 + w2: the grid is wrong by some per cent, the plane by what is cut of its Gaussian.
    assert np.abs(fast - exact).max() <= 0.06 * config.w1 + 1e-3 * config.w2


@settings(max_examples=40)
@given(SECTIONS, SETTINGS)
def test_ten_iterations_equal_those_over_all_pairs(made_of, config):
    probability, image = section(*made_of)
    exact, _ = energies(field_of(all_pairs(image, config), probability))
    # Mean field is a matter of either or, so a single undecided pixel may fall to the other side.
    assert np.abs(refine(probability, image, config) - expit(exact)).mean() <= 0.01


@settings(max_examples=20)
@given(SECTIONS, SETTINGS)
def test_where_the_grid_is_of_pixels_and_grey_levels_it_is_exact(made_of, config):
    probability, image = section(*made_of)
    config = config.model_copy(update={"sa_px": 3.5, "sb_grey": 3.5})
    exact, _ = energies(field_of(all_pairs(image, config), probability), iterations=1)
    fast = refine(probability, image, config.model_copy(update={"iterations": 1}))
    np.testing.assert_allclose(fast, expit(exact), atol=1e-3)


def test_without_weights_nothing_changes():
    probability, image = section(0, 20, 20)
    probability = probability.clip(0.01, 0.99)
    np.testing.assert_allclose(refine(probability, image, CrfConfig(w1=0, w2=0)), probability, atol=1e-6)


def test_a_mirrored_section_gives_the_mirrored_result():
    probability, image = section(3, 24, 17)
    # 17 and 25 are one more than multiples of the lattice, so the lattice mirrors onto itself.
    probability, image = (np.pad(a, ((0, 1), (0, 0)), "edge") for a in (probability, image))
    config = CrfConfig(sa_px=9, sb_grey=9)
    turned = refine(probability[::-1, ::-1], image[::-1, ::-1], config)
    np.testing.assert_allclose(turned[::-1, ::-1], refine(probability, image, config), atol=1e-6)


def test_the_lattice_divides_blocks():
    assert all(512 % spacing(sigma) == 0 for sigma in np.linspace(0.3, 500, 300))


@pytest.mark.parametrize("wrong", [np.nan, -0.1, 1.1])
def test_what_is_no_probability_is_refused(wrong):
    probability, image = section(0, 4, 4)
    probability[2, 2] = wrong
    with pytest.raises(InputError, match="not a probability"):
        refine(probability, image, CrfConfig())


def test_shapes_must_agree():
    with pytest.raises(InputError, match="same shape"):
        refine(np.zeros((3, 4), np.float32), np.zeros((4, 3), np.uint8), CrfConfig())


def test_the_authors_code_finds_the_same():
    """Kraehenbuehl's own code, by pydensecrf2: filters on a permutohedral lattice, coarser than the grid here."""
    densecrf = pytest.importorskip("pydensecrf.densecrf")
    for seed in range(6):
        rng = np.random.default_rng(seed)
        config = CrfConfig(
            w1=rng.uniform(1, 6),
            sa_px=rng.uniform(4, 30),
            sb_grey=rng.uniform(3, 30),
            w2=rng.uniform(0.5, 3),
            sg_px=rng.uniform(1, 4),
        )
        probability, image = section(seed, 64, 64)
        probability = probability.clip(0.01, 0.99)
        theirs = densecrf.DenseCRF2D(64, 64, 2)
        theirs.setUnaryEnergy(-np.log(np.stack([1 - probability, probability])).reshape(2, -1))
        theirs.addPairwiseGaussian(sxy=config.sg_px, compat=config.w2)
        y, x = np.indices(image.shape) / config.sa_px
        features = np.stack([x, y, image / config.sb_grey]).reshape(3, -1).astype(np.float32)
        theirs.addPairwiseEnergy(features, compat=config.w1)
        expected = np.asarray(theirs.inference(config.iterations)).reshape(2, 64, 64)[1]
        found = refine(probability, image, config)
        apart = ((found > 0.5) != (expected > 0.5)).mean()
        # 0.0092 and 0.0088 at most, with pydensecrf2 1.1.
        assert np.abs(found - expected).mean() <= 0.012
        assert apart <= 0.012
        # Far less than what the CRF itself does.
        assert ((found > 0.5) != (probability > 0.5)).mean() > 5 * apart
