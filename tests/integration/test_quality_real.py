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
    inverted = np.concatenate([clean[:-9], 255 - clean[-9:]])
    assert [z for z, kind in flagged(inverted) if kind == "inverted"] == [len(clean) - 9]


FAULTS = (
    ("shift", lambda s: ndimage.shift(s, (8 * 0.6, -8 * 0.8), order=1, mode="reflect")),
    ("brightness", lambda s: s + 20),
    ("brightness", lambda s: s - 20),
    ("contrast", lambda s: s.mean() + 0.7 * (s - s.mean())),
    ("noise", lambda s: s + np.random.default_rng(0).normal(0, 12, s.shape)),
    ("blurred", lambda s: ndimage.gaussian_filter(s, 2)),
    ("inverted", lambda s: 255 - s),
)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["vnc/stack1/raw", "snemi/ac3/raw"])
def test_each_fault_is_found_in_each_section(em_data, path):
    with open_stack(em_data / path) as stack:
        clean = [np.ascontiguousarray(stack.section(z)) for z in range(stack.shape[0])]
    known = {z: (measure_section(section), trace_section(section)) for z, section in enumerate(clean)}
    assert not kinds_of(list(known.values()))
    missed = []
    for z in range(1, len(clean), 3):
        for kind, spoil in FAULTS:
            spoilt = np.clip(np.rint(spoil(clean[z].astype(float))), 0, 255).astype(np.uint8)
            measured = {**known, z: (measure_section(spoilt), trace_section(spoilt))}
            if (z, kind) not in kinds_of([measured[at] for at in range(len(clean))]):
                missed.append((z, kind))
    assert not missed


def kinds_of(measured) -> set[tuple[int, str]]:
    tally = QualityTally()
    for z, (measures, trace) in enumerate(measured):
        tally.add(measures, trace, digest=str(z))
    return {(flag.section, flag.kind) for flag in tally.find_flags()}
