"""Quality of real sections: hardly one stands out as it is, and what is spoilt does."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from segem.io.readers import open_stack
from segem.kernels.quality import measure_section, trace_section
from segem.kernels.quality_flags import QualityTally


@pytest.fixture(scope="module")
def stacks(em_data) -> dict[str, np.ndarray]:
    paths = {"train": "isbi2012/train-volume.tif", "test": "isbi2012/test-volume.tif", "fibsem": "fibsem/raw"}
    found = {}
    for name, path in paths.items():
        with open_stack(em_data / path) as stack:
            found[name] = np.stack([stack.section(z) for z in range(stack.shape[0])])
    return found


def flagged(sections) -> list[tuple[int, str]]:
    tally = QualityTally()
    for section in sections:
        tally.add(measure_section(section), trace_section(section), digest=str(hash(section.tobytes())))
    return [(flag.section, flag.kind) for flag in tally.find_flags()]


def as_jpeg(section) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(section).save(buffer, "JPEG", quality=90)
    return np.asarray(Image.open(buffer))


def test_hardly_a_section_stands_out_as_it_is(stacks):
    found = [flag for name in ("test", "fibsem") for flag in flagged(stacks[name])]
    assert len({z for z, _ in found}) <= 0.03 * 90
    assert {kind for _, kind in found} <= {"shift"}


def test_sections_that_are_noisier_from_one_on_are_no_outliers(stacks):
    assert {kind for _, kind in flagged(stacks["train"])} == {"shift"}


@pytest.mark.parametrize("name", ["test", "fibsem"])
def test_what_is_spoilt_stands_out(stacks, name):
    clean = stacks[name]
    spoilt = clean.copy()
    rng = np.random.default_rng(0)
    spoilt[5] = ndimage.gaussian_filter(clean[5].astype(float), 2).round()
    spoilt[12] = np.clip(clean[12] + rng.normal(0, 12, clean[12].shape), 0, 255)
    spoilt[19] = as_jpeg(clean[26])
    found = flagged(spoilt)
    assert {(5, "blurred"), (12, "noise"), (26, "copy")} <= set(found)
    moved = np.concatenate([clean[:8], clean[9:16], clean[8:9], clean[16:]])
    assert (15, "order") in flagged(moved)
