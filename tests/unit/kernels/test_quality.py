"""Measures of sections against values known beforehand, and each flag on a stack in which one section was spoilt."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from segem.kernels.outliers import Bound, find_outliers
from segem.kernels.quality import compare_traces, find_ends, measure_section, trace_section
from segem.kernels.quality_flags import QualityTally
from segem.records.quality import VolumeQuality

SECTIONS, SIDE = 12, 192


@pytest.fixture(scope="module")
def tissue() -> np.ndarray:
    """Sections of one block: membranes that change from section to section, in grain that does not repeat."""
    rng = np.random.default_rng(0)
    block = ndimage.gaussian_filter(rng.normal(size=(SECTIONS, SIDE, SIDE)), (2, 6, 6))
    membrane = np.exp(-((block / (0.3 * block.std())) ** 2))
    return as_grey(170 - 100 * membrane + rng.normal(0, 6, block.shape))


def as_grey(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def flagged(sections, first=0, outside=None) -> list[tuple[int, str, str]]:
    tally = QualityTally(first=first)
    for section in sections:
        tally.add(
            measure_section(section, outside), trace_section(section, outside), digest=section.tobytes().hex()[:4096]
        )
    return [(flag.section, flag.kind, flag.reason) for flag in tally.find_flags()]


def with_section(tissue, z, section) -> np.ndarray:
    return np.concatenate([tissue[:z], section[None], tissue[z + 1 :]])


@pytest.mark.parametrize("sigma", [2, 8, 20])
def test_noise_is_that_of_the_section(sigma):
    rng = np.random.default_rng(1)
    slope = np.linspace(60, 180, 300)[:, None] + np.zeros(300)
    measured = measure_section(as_grey(slope + rng.normal(0, sigma, slope.shape)))
    # Rounding to whole grey levels adds a variance of 1 / 12.
    assert measured.noise == pytest.approx(np.hypot(sigma, 12**-0.5), rel=0.03)


def test_contrast_and_brightness_are_percentiles():
    section = np.arange(1000, 1100, dtype=np.uint16).repeat(10).reshape(20, 50)
    measured = measure_section(section)
    assert (measured.contrast, measured.brightness) == (1094 - 1004, 1049)


def test_sharpness_falls_with_blur_and_not_with_noise(tissue):
    plain = tissue[3].astype(float)
    rng = np.random.default_rng(2)
    sharp, noisy, dull, flat = (
        measure_section(as_grey(section)).sharpness
        for section in (
            plain,
            plain + rng.normal(0, 6, plain.shape),
            ndimage.gaussian_filter(plain, 3),
            plain.mean() + 0.5 * (plain - plain.mean()),
        )
    )
    assert noisy == pytest.approx(sharp, rel=0.1)
    assert dull < 0.75 * sharp
    assert flat == pytest.approx(sharp, rel=0.05)


def test_pure_noise_has_no_sharpness():
    assert measure_section(np.random.default_rng(0).integers(0, 255, (90, 90), np.uint8)).sharpness is None


def test_what_lies_outside_counts_for_nothing(tissue):
    outside = np.zeros((SIDE, 2 * SIDE), bool)
    outside[:, SIDE:] = True
    wide = np.concatenate([tissue[0], np.zeros_like(tissue[0])], axis=1)
    alone, masked = measure_section(tissue[0]), measure_section(wide, outside)
    assert (masked.contrast, masked.brightness, masked.outside) == (alone.contrast, alone.brightness, 0.5)
    assert masked.noise == pytest.approx(alone.noise, rel=0.02)
    assert masked.sharpness == pytest.approx(alone.sharpness, rel=0.02)
    assert measure_section(wide).contrast > 1.5 * alone.contrast


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (16, 16), (40, 17)])
def test_sections_of_any_size_are_measured(shape):
    section = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    measured, trace = measure_section(section), trace_section(section)
    assert measured.contrast is not None
    assert (measured.noise is None) == (min(shape) < 16)
    assert min(shape) >= 16 or trace is None


@settings(max_examples=15)
@given(st.integers(-30, 30), st.integers(-30, 30))
def test_a_shift_is_found_to_the_pixel(down, right):
    rng = np.random.default_rng(0)
    field = as_grey(128 + 400 * ndimage.gaussian_filter(rng.normal(size=(256, 256)), 3))
    before, after = field[32:224, 32:224], field[32 - down : 224 - down, 32 - right : 224 - right]
    found = compare_traces(trace_section(before), trace_section(after))
    assert found.shift_y_px == pytest.approx(down, abs=0.6)
    assert found.shift_x_px == pytest.approx(right, abs=0.6)


@pytest.mark.parametrize(
    ("curve", "found"),
    [
        ([1, 1, 1, 5, 1, 1], {3: (5.0, 1.0)}),
        ([5, 1, 1, 1, 1, 1], {0: (5.0, 1.0)}),
        ([1, 1, 1, 1, 1, -3], {5: (-3.0, 1.0)}),
        ([1, 1, 1, 5, 5, 5], {}),  # a step
        ([1, 2, 3, 4, 5, 6, 7, 8], {}),  # a slope
        ([1, 1, None, 5, 1, 1], {3: (5.0, 1.0)}),
        ([1, 1, 1, 1.9, 1, 1], {}),  # less than the least
        ([1, 5], {}),
        ([None, None, None], {}),
    ],
)
def test_outliers_differ_from_both_sides(curve, found):
    assert find_outliers(curve, Bound(1, 3)) == found


def test_where_a_curve_scatters_more_it_takes_more():
    rng = np.random.default_rng(0)
    calm, wild = rng.normal(0, 0.1, 40), rng.normal(0, 3, 40)
    calm[20] = wild[20] = 6
    assert list(find_outliers(calm.tolist(), Bound(1, 3))) == [20]
    assert find_outliers(wild.tolist(), Bound(1, 3)) == {}


def test_nothing_stands_out_of_plain_tissue(tissue):
    assert flagged(tissue) == []


@pytest.mark.parametrize(
    ("kind", "spoil", "reason"),
    [
        ("blurred", lambda s, _: ndimage.gaussian_filter(s, 3), "blurred: "),
        ("contrast", lambda s, _: s.mean() + 0.6 * (s - s.mean()), "contrast of "),
        ("brightness", lambda s, _: s - 25, "brightness of "),
        ("noise", lambda s, rng: s + rng.normal(0, 8, s.shape), "noise of "),
        (
            "shift",
            lambda s, _: np.roll(s, (-9, 5), (0, 1)),
            "shifted by ",
        ),
        ("blank", lambda s, _: np.full_like(s, 17), "empty: a contrast of 0 grey levels, where "),
    ],
)
@pytest.mark.parametrize("z", [1, 6, SECTIONS - 1])
def test_one_spoilt_section_is_named(tissue, kind, spoil, reason, z):
    spoilt = as_grey(spoil(tissue[z].astype(float), np.random.default_rng(3)))
    found = flagged(with_section(tissue, z, spoilt))
    named = {what: text for at, what, text in found if at == z}
    assert len(named) == len(found)
    assert named[kind].startswith(reason)
    # Where thin membranes are blurred, contrast and median change too.
    assert set(named) - {kind} <= ({"contrast", "brightness"} if kind == "blurred" else set())


GARBAGE = {
    "random": np.random.default_rng(5).integers(0, 256, SIDE * SIDE, np.uint8),
    "empty": np.zeros(SIDE * SIDE, np.uint8),
    "text": np.resize(np.frombuffer(b"not an image\n", np.uint8), SIDE * SIDE),
}


@pytest.mark.parametrize("z", [0, 6, SECTIONS - 1])
@pytest.mark.parametrize("rows", [SIDE // 12, SIDE // 2])
@pytest.mark.parametrize("kind", GARBAGE)
def test_a_section_that_was_overwritten_in_part_is_named(tissue, kind, rows, z):
    """Of voxels that are stored as they are, or packed without a checksum, no decoder can tell it."""
    spoilt = tissue[z].copy()
    spoilt[-rows:] = GARBAGE[kind].reshape(SIDE, SIDE)[-rows:]
    assert {at for at, _, _ in flagged(with_section(tissue, z, spoilt))} == {z}


@pytest.mark.parametrize(
    ("inverted", "named"),
    [
        ([0], {0: "inverted: dark where section 1 is bright"}),
        ([6], {6: "inverted: dark where section 5 is bright"}),
        ([0, 1], {0: "inverted up to section 1: dark where section 2 is bright"}),
        ([3, 7, 8], {3: "inverted: dark where section 2", 7: "inverted up to section 8: dark where section 6"}),
        (range(6, SECTIONS), {6: f"inverted up to section {SECTIONS - 1}: dark where section 5 is bright"}),
        # Those are the others.
        (range(2, SECTIONS), {0: "inverted up to section 1: dark where section 2 is bright"}),
        (range(SECTIONS), {}),
    ],
)
def test_sections_that_are_inverted_are_named(tissue, inverted, named):
    spoilt = tissue.copy()
    spoilt[list(inverted)] = 255 - spoilt[list(inverted)]
    found = flagged(spoilt)
    reasons = {z: reason for z, kind, reason in found if kind == "inverted"}
    assert reasons.keys() == named.keys()
    for z, reason in reasons.items():
        assert reason.startswith(named[z])
        assert 0.15 < float(reason.split("by -")[1].rstrip(")")) < 1
    # Their place in the stack is not in doubt.
    assert not [one for one in found if one[1] in ("order", "shift")]


def test_the_numbers_of_a_reason_are_those_of_the_sections(tissue):
    ((_, _, reason),) = flagged(with_section(tissue, 6, as_grey(tissue[6] - 30.0)))
    shown = [float(word.rstrip(",")) for word in reason.split() if word[0].isdigit()]
    assert shown[0] == pytest.approx(np.median(as_grey(tissue[6] - 30.0)))
    assert shown[1] == pytest.approx(np.median(tissue), abs=3)


def as_jpeg(section) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(section).save(buffer, "JPEG", quality=90)
    return np.asarray(Image.open(buffer))


def test_where_a_section_lies_is_said(tissue):
    (alone,) = flagged(with_section(tissue, 6, np.roll(tissue[6], (-12, 5), (0, 1))))
    numbers = [int(word.strip("(")) for word in alone[2].split() if word.strip("(").isdigit()]
    assert alone[2].startswith("shifted by ")
    assert "against the sections before and after (" in alone[2]
    assert numbers == pytest.approx([13, 12, 5], abs=2)
    assert "up, " in alone[2]
    assert alone[2].endswith("right)")
    rest = flagged(np.concatenate([tissue[:6], np.roll(tissue[6:], (-12, 5), (1, 2))]))
    assert [(z, kind) for z, kind, _ in rest] == [(6, "shift")]
    assert "against the section before (" in rest[0][2]


@pytest.mark.parametrize(
    ("counts", "ends"),
    [
        ([0, 1, 5, 5, 5, 4, 0, 0], (1, 5)),
        # Nor need the last level be that of the type.
        ([0, 1, 5, 5, 5, 8, 0, 0], (1, 7)),
        # As many as two levels would have: had they thinned out evenly, they reached two levels further.
        ([10, 5, 5, 5, 5, 5, 0], (-2, 5)),
        ([0, 5, 5, 5, 5, 5, 10], (1, 8)),
        # No further than the section shows is wide.
        ([10**6, 5, 5, 5, 5, 5, 0], (-5, 5)),
        # Where only every other level is used, each stands for two.
        ([10, 0, 5, 0, 5, 0, 5, 0, 5, 0, 5, 0], (-4, 10)),
        ([7, 0, 0], (0, 0)),
    ],
)
def test_the_ends_of_the_levels_reach_as_far_as_what_was_cut_off_did(counts, ends):
    assert find_ends(np.array(counts)) == ends


def test_a_few_hot_pixels_are_no_brightest_level():
    section = np.full((1024, 1024), 90, np.uint8)
    section[:, :512] = 40
    section[5, 5:8] = 255
    measured = measure_section(section)
    assert (measured.darkest, measured.brightest) == (40, 90)


@pytest.mark.parametrize("levels", [-22, 22])
def test_brightness_is_told_from_what_the_section_shows_by_the_ends_of_its_levels(tissue, levels):
    rng = np.random.default_rng(0)
    # Medians that wander by 15 grey levels, since more or less of a section is dark.
    wandering = np.stack([np.where(rng.random(s.shape) < rng.uniform(0, 0.5), s * 0.5 + 20, s) for s in tissue])
    spoilt = with_section(as_grey(wandering), 6, as_grey(wandering[6] + levels))
    assert not [one for one in flagged(as_grey(wandering)) if one[1] == "brightness"]
    ((z, reason),) = [(z, reason) for z, kind, reason in flagged(spoilt) if kind == "brightness"]
    assert z == 6
    assert reason.startswith("brighter by about " if levels > 0 else "darker by about ")
    assert float(reason.split()[3]) == pytest.approx(22, abs=6)
    assert reason.endswith(" grey levels than the sections around it")


@pytest.mark.parametrize(("place", "of"), [(7, 6), (7, 2), (2, 7)])
@pytest.mark.parametrize(
    ("encode", "reason"),
    [
        (lambda s: s.copy(), "copy of section {}, voxel by voxel"),
        (as_jpeg, "copy of section {}: their fine structure correlates by 0.9"),
        (lambda s: as_grey(s + np.random.default_rng(0).integers(-1, 2, s.shape)), "copy of section {}: "),
    ],
)
def test_a_copy_is_named_with_what_it_is_a_copy_of(tissue, place, of, encode, reason):
    found = flagged(with_section(tissue, place, encode(tissue[of])), first=100)
    copies = [(z, text) for z, kind, text in found if kind == "copy"]
    later, earlier = max(place, of) + 100, min(place, of) + 100
    assert [z for z, _ in copies] == [later]
    assert copies[0][1].startswith(reason.format(earlier))


@pytest.mark.parametrize(("start", "to"), [(2, 7), (8, 3), (4, 0), (4, SECTIONS - 1)])
def test_a_section_out_of_place_is_named(tissue, start, to):
    order = [z for z in range(SECTIONS) if z != start]
    order.insert(to, start)
    found = flagged(tissue[order])
    assert [(z, kind) for z, kind, _ in found] == [(to, "order")]
    assert found[0][2].startswith("out of place or damaged: ")


def test_a_section_without_tissue_is_named(tissue):
    tally = QualityTally()
    for z, section in enumerate(tissue):
        outside = np.full(section.shape, z == 4)
        tally.add(measure_section(section, outside), trace_section(section, outside), digest=str(z))
    assert [(flag.section, flag.reason) for flag in tally.find_flags()] == [(4, "no tissue: 100% of it lies outside")]


def test_a_lasting_change_is_no_outlier(tissue):
    rng = np.random.default_rng(5)
    noisier = as_grey(tissue[6:] + rng.normal(0, 12, tissue[6:].shape))
    assert flagged(np.concatenate([tissue[:6], noisier])) == []


def test_sections_that_show_nothing_are_no_copies_of_each_other():
    assert flagged(np.zeros((5, 64, 64), np.uint8)) == []


def test_a_summary_names_each_section_once(tissue):
    assert VolumeQuality(sections=4, sample_px=(8, 8)).summarise() is None
    flags = [{"section": z, "kind": "noise", "reason": f"reason {z}"} for z in (1, 1, 5)]
    told = VolumeQuality.model_validate({"sections": 9, "sample_px": (8, 8), "flags": flags}).summarise()
    assert told.startswith("sections 1, 5 stand out, the first one: reason 1; ")
