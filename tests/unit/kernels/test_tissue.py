from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from segem.kernels.tissue import Tissue, Waves, coarse, smooth_field

EXTENT, PIXEL_NM = (256, 320), (4.0, 4.0)


@pytest.fixture(scope="module")
def tissue():
    return Tissue.grow(EXTENT, PIXEL_NM, np.random.default_rng(2))


def test_a_field_has_unit_variance_and_the_asked_scale():
    rng = np.random.default_rng(0)
    field = smooth_field(rng.standard_normal(coarse((600, 600), (8.0, 8.0))), (600, 600))
    assert field.std() == pytest.approx(1, abs=0.1)
    beside, far = (np.mean(field[:, :-step] * field[:, step:]) for step in (1, 60))
    assert beside > 0.9
    assert abs(far) < 0.1


def test_waves_drift_slowly_and_keep_their_variance():
    waves = Waves.draw(np.random.default_rng(1), (100, 100), period_nm=2000.0)
    here, next_section, far = waves.at(0.0), waves.at(50.0), waves.at(20_000.0)
    assert np.corrcoef(here.ravel(), next_section.ravel())[0, 1] > 0.95
    assert abs(np.corrcoef(here.ravel(), far.ravel())[0, 1]) < 0.1
    assert far.std() == pytest.approx(1, abs=0.05)


def test_profiles_are_of_very_different_sizes(tissue):
    area = np.bincount(tissue.at(0.0).profile.ravel())
    area = area[area > 50]
    assert len(area) > 30
    assert np.percentile(area, 95) > 5 * np.median(area)


def test_depth_is_the_distance_to_the_next_cell(tissue):
    anatomy = tissue.at(100.0)
    y, x = 90, 120
    others = np.argwhere(anatomy.cell != anatomy.cell[y, x]) - (y, x)
    # Borders run half-way between pixels of different cells; one pixel of tolerance for those that run diagonally.
    assert anatomy.depth_nm[y, x] == pytest.approx(4 * (np.hypot(*others.T).min() - 0.5), abs=4)


def test_cells_continue_through_z_and_drift(tissue):
    here, near, far = (tissue.at(z_nm).cell for z_nm in (0.0, 50.0, 2000.0))
    assert 0.8 < np.mean(here == near) < 1
    assert np.mean(here == far) < np.mean(here == near)


def test_a_cell_without_neighbours_has_no_border(tissue):
    alone = replace(tissue, cell=np.zeros_like(tissue.cell)).at(0.0)
    assert (alone.depth_nm > 100).all()
    assert np.isfinite(alone.depth_nm).all()


def test_mitochondria_lie_inside_one_cell(tissue):
    found = 0
    for z_nm in range(0, 2000, 250):
        anatomy = tissue.at(float(z_nm))
        for mitochondrion in tissue.mitochondria(anatomy, float(z_nm)):
            inside = mitochondrion.depth_nm > 0
            if inside.any():
                found += 1
                assert len(np.unique(anatomy.cell[mitochondrion.window][inside])) == 1
                assert anatomy.depth_nm[mitochondrion.window][inside].min() > 16
    assert found > 5
