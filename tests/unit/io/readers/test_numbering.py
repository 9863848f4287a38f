"""The number of a section, found in the names of all files: as instruments and programs write them."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segem.errors import InputError
from segem.io.readers.numbering import Numbering, natural_key, number_sections, say_gaps, say_numbers

WITHOUT_GAPS = [
    # ImageJ, MATLAB, TrakEM2, Amira and the like
    (["stack0001.tif", "stack0002.tif", "stack0003.tif"], [1, 2, 3]),
    ([f"img_{n}.png" for n in range(1, 12)], list(range(1, 12))),
    (["a.0008.tif", "a.0009.tif", "a.0010.tif"], [8, 9, 10]),
    (["z=0.tif", "z=1.tif", "z=2.tif"], [0, 1, 2]),
    (["1.tif", "2.tif", "3.tif"], [1, 2, 3]),
    # The number is not the last one, nor the first.
    (["s001_c0.tif", "s002_c0.tif", "s003_c0.tif"], [1, 2, 3]),
    (["Section_001_r1-c1.tif", "Section_002_r1-c1.tif", "Section_003_r1-c1.tif"], [1, 2, 3]),
    (["EXP7_2x2_0100.png", "EXP7_2x2_0101.png", "EXP7_2x2_0102.png"], [100, 101, 102]),
    (["Image 1 of 3.png", "Image 2 of 3.png", "Image 3 of 3.png"], [1, 2, 3]),
    ([f"Tile_001-001-{n:06}_0-000.tif" for n in range(3)], [0, 1, 2]),
    ([f"img_channel000_position002_time000000000_z{n:03}.tif" for n in range(4)], [0, 1, 2, 3]),
    (["v1.2_001.tif", "v1.2_002.tif", "v1.2_003.tif"], [1, 2, 3]),
    (["s1_v2.tif", "s2_v1.tif", "s3_v1.tif"], [1, 2, 3]),
    (["s1_x120_y8.tif", "s2_x191_y91.tif", "s3_x117_y40.tif", "s4_x180_y8.tif"], [1, 2, 3, 4]),
    (["wafer1_s1.tif", "wafer1_s2.tif", "wafer2_s3.tif"], [1, 2, 3]),
    # A second number that runs with it: the depth of a FIB-SEM, the time of day, a serial number
    ([f"slice_{n:05}_z={n / 100:.4f}um.tif" for n in range(1, 130)], list(range(1, 130))),
    (["s0001_120311.tif", "s0002_120405.tif", "s0003_120722.tif"], [1, 2, 3]),
    (["s0001_235959.tif", "s0002_000204.tif", "s0003_000501.tif", "s0004_000502.tif"], [1, 2, 3, 4]),
    (["s0001_150000.tif", "s0002_110000.tif"], [1, 2]),
    (["a1_id9311.tif", "a2_id112.tif", "a3_id404.tif", "a4_id5000.tif"], [1, 2, 3, 4]),
    # Dates and times, forwards and backwards
    (["s0001_20240101-120311.tif", "s0002_20240101-120405.tif", "s0003_20240101-120722.tif"], [1, 2, 3]),
    (["s0001_20240103-120311.tif", "s0002_20240102-120405.tif", "s0003_20240101-120722.tif"], [1, 2, 3]),
    (["2024-01-01_12.03.11 s1.tif", "2024-01-02_00.00.00 s2.tif", "2024-01-02_00.09.59 s3.tif"], [1, 2, 3]),
    (["20240101T120311.25Z_7.tif", "20240101T120312.5Z_8.tif", "20240101T120313Z_9.tif"], [7, 8, 9]),
    (["20240101120311_7.tif", "20240101120312_8.tif", "20240101120319_9.tif"], [7, 8, 9]),
    # Six digits behind a date may be a count.
    ([f"20240101_{n:06}.tif" for n in range(1, 9)], list(range(1, 9))),
    ([f"20240101_{n:06}.tif" for n in range(55, 65)], list(range(55, 65))),
    ([f"{n:06}.tif" for n in range(5)], list(range(5))),
    # Signs
    (["z-2.png", "z-1.png", "z0.png", "z1.png"], [-2, -1, 0, 1]),
    (["-1.png", "0.png", "1.png"], [-1, 0, 1]),
    (["z-5.png", "z5.png"], [-5, 5]),
    (["z--1.png", "z-0.png", "z-1.png"], [-1, 0, 1]),
    (["z-10.png", "z+00.png", "z+10.png"], [-10, 0, 10]),
    (["img-1.png", "img-2.png", "img-3.png"], [1, 2, 3]),
    (["SEM Image - SliceImage - 001.tif", "SEM Image - SliceImage - 002.tif"], [1, 2]),
    # Decimals
    ([f"z{n / 8}.png" for n in range(17)], [Fraction(n, 8) for n in range(17)]),
    (["z0.png", "z0.5.png", "z1.png", "z1.5.png"], [0, Fraction(1, 2), 1, Fraction(3, 2)]),
    (["z1.5.png", "z3.0.png", "z4.5.png"], [Fraction(3, 2), 3, Fraction(9, 2)]),
    (["z-0.25.png", "z0.00.png", "z0.25.png"], [Fraction(-1, 4), 0, Fraction(1, 4)]),
    ([f"z{n}.0.png" for n in range(12)], list(range(12))),
    ([f"p2.{n}.png" for n in range(1, 13)], list(range(1, 13))),
    # Padding, and steps
    (["z1.png", "z02.png", "z003.png"], [1, 2, 3]),
    (["z8.png", "z010.png", "z12.png"], [8, 10, 12]),
    (["0.png", "10.png", "20.png", "30.png"], [0, 10, 20, 30]),
    (["1.png", "9.png"], [1, 9]),
    # Upper and lower case
    (["Slice1.TIF", "slice2.tif", "SLICE3.tif"], [1, 2, 3]),
    # One file
    (["z003.png"], [3]),
]


def find(names: list[str]) -> Numbering:
    """Find numbers, whatever the order of the names."""
    found = number_sections(names, where="folder")
    shuffled = random.Random(0).sample(names, len(names))
    again = number_sections(shuffled, where="folder")
    assert [names[at] for at in found.order] == [shuffled[at] for at in again.order]
    assert (found.numbers, found.gaps, found.warnings) == (again.numbers, again.gaps, again.warnings)
    return found


@pytest.mark.parametrize(("names", "numbers"), WITHOUT_GAPS, ids=[names[0] for names, _ in WITHOUT_GAPS])
def test_the_number_is_found(names: list[str], numbers: list[Fraction]) -> None:
    found = find(names)
    assert found == Numbering(tuple(range(len(names))), tuple(numbers))


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (["s001_c0.png", "s002_c0.png", "s003_c0.png", "s005_c0.png"], [4]),
        (["1.png", "2.png", "3.png", "7.png", "8.png", "10.png"], [4, 5, 6, 9]),
        (["0.png", "10.png", "20.png", "40.png"], [30]),
        (["z-2.png", "z-1.png", "z1.png"], [0]),
        (["z0.125.png", "z0.250.png", "z0.500.png"], [375]),
        (["z0.5.png", "z1.0.png", "z1.5.png", "z2.5.png"], [2]),
        (["s1_20240101-120311.png", "s2_20240101-120411.png", "s4_20240101-120511.png"], [3]),
        (["1.png", "2.png", "9.png"], [3, 4, 5, 6, 7, 8]),
    ],
)
def test_gaps_are_found(names: list[str], missing: list[int]) -> None:
    found = find(names)
    assert [number for gap in found.gaps for number in gap.numbers] == missing
    assert found.warnings == ()


def test_a_gap_says_where_it_is() -> None:
    (first, second) = find(["1.png", "2.png", "4.png", "5.png", "9.png", "10.png", "11.png"]).gaps
    assert (first.position, first.numbers) == (2, [3])
    assert (second.position, second.numbers) == (4, [6, 7, 8])


def test_a_gap_of_a_million_costs_nothing() -> None:
    (gap,) = find(["1.png", "2.png", "3.png", "99999999999.png"]).gaps
    assert (gap.position, gap.count) == (3, 99_999_999_995)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["z09.png", "z0a.png", "z0b.png"], "their numbers seem to be hexadecimal, found z0a.png and z0b.png"),
        (["00ff.png", "0100.png", "0101.png"], "seem to be hexadecimal"),
        (["z1.png", "z01.png", "z2.png"], "two have the same number; found z1.png and z01.png"),
        (["z1.png", "z01.png"], "two have the same number"),
        (["z1_a.png", "z2_a.png", "z2_A.png"], "two have the same number"),
        (
            ["z1.png", "z2.png", "z3.png", "z2(1).png"],
            "they are of different patterns; found 3 like z#.png and 1 like z#(#).png",
        ),
        (["z1.png", "z2.png", "z2 - Copy.png"], "2 like z#.png and 1 like z# - Copy.png"),
        (["raw_1.png", "raw_2.png", "mask_1.png", "mask_2.png"], "2 like raw_#.png and 2 like mask_#.png"),
        (["mean.png", "z1.png", "z2.png"], "2 like z#.png and 1 like mean.png"),
        (["z1.png", "z2.png", "dog7a.png", "cat.png", "b1.png", "c2c.png", "c2d.png"], "and 1 of other patterns"),
        (
            [f"x{x}_y{y}_z{z}.png" for z in range(2) for y in range(3) for x in range(2)],
            "found 2 numbers where x0_y0_z0.png has 0 and 3 numbers where x0_y0_z0.png has 0 and 2 numbers",
        ),
        (["r1-c1.png", "r1-c2.png", "r2-c1.png", "r2-c2.png"], "several numbers run in them"),
        (["w1_s1.png", "w1_s2.png", "w2_s1.png", "w2_s2.png"], "as those of tiles or channels do"),
        ([f"t{n}_x{n % 2}_y{n // 2}.png" for n in range(4)], "2 numbers where t0_x0_y0.png has 0"),
        ([f"Tile_r{n // 3}-c{n % 3}_{n:04}.tif" for n in range(6)], "as those of tiles or channels do"),
        (["a1_b3.png", "a2_b2.png", "a3_b1.png"], "each in another order; found 1 and 3 in a1_b3.png"),
        (["s1_t10.png", "s2_t09.png", "s4_t08.png", "s7_t07.png"], "each in another order"),
        (["p2.9.png", "p2.10.png"], "a dot may be a decimal point or separate two numbers"),
        (["p.0.12.png", "p.0.251.png", "p.0.37.png"], "a dot may be"),
        # A section that was made again
        (["s1_20240101-120311.png", "s1_20240101-130000.png", "s2_20240101-140000.png"], "two have the same number"),
        (["20240101-120311.png", "20240101_120311.png", "20240101_130311.png"], "two have the same date"),
    ],
)
def test_names_that_leave_it_in_doubt_are_refused(names: list[str], told: str) -> None:
    for order in (names, names[::-1]):
        with pytest.raises(InputError) as caught:
            number_sections(order, where="folder")
        assert "folder: the names do not say which section is which" in str(caught.value)
        assert ". Fix: " in str(caught.value)
    with pytest.raises(InputError) as caught:
        number_sections(names, where="folder")
    assert told.replace(", found", "; found") in str(caught.value)


@pytest.mark.parametrize(
    "names", [["apical.png", "basal.png", "middle.png"], ["sA.png", "sB.png"], ["x1a.png", "x1b.png", "x1c.png"]]
)
def test_without_numbers_names_decide_and_a_warning_says_so(names: list[str]) -> None:
    found = find(names)
    assert (found.order, found.numbers, found.gaps) == (tuple(range(len(names))), None, ())
    assert "the sections are in the order of the names" in found.warnings[0]


@pytest.mark.parametrize(
    "names",
    [
        ["20240101-235959.png", "20240102-000001.png", "20240102-120000.png", "20240103-110000.png"],
        ["2024-01-31_23-59-59.png", "2024-02-01_00-00-01.png", "2024-02-01_12-00-00.png"],
        ["a_20240101.png", "a_20240131.png", "a_20240201.png"],
        ["2024-01-31 09.00.10.png", "2024-02-01 08.00.20.png", "2024-02-01 09.00.30.png"],
        ["Merlin-6257 2021.05.20 12:35:19.25.dat", "Merlin-6257 2021.05.20 12:35:19.5.dat"],
    ],
)
def test_where_only_dates_run_they_decide_and_a_warning_says_so(names: list[str]) -> None:
    found = find(names)
    assert (found.order, found.numbers, found.gaps) == (tuple(range(len(names))), None, ())
    assert "in the order of the dates in their names" in found.warnings[0]


@pytest.mark.parametrize("names", [["1.png", "4.png", "9.png", "31.png"], ["0.png", "2.png", "4.png", "5.png"]])
def test_uneven_numbers_are_a_warning(names: list[str]) -> None:
    found = find(names)
    assert found.order == (0, 1, 2, 3)
    assert found.numbers == tuple(int(name[:-4]) for name in names)
    assert "numbered unevenly" in found.warnings[0]


def test_of_several_numbers_in_one_name_none_is_known() -> None:
    assert number_sections(["s1_c2.png"], where="folder") == Numbering((0,), None)
    assert number_sections(["alone.png"], where="folder") == Numbering((0,), None)


@given(
    numbers=st.lists(st.integers(-(10**6), 10**6), min_size=2, max_size=30, unique=True),
    width=st.integers(0, 8),
    before=st.text("abz_ -", max_size=5).filter(lambda text: not text.endswith("-")),
    after=st.sampled_from(["", "_c0", "_20240101-120311", "_1.5"]),
)
def test_any_series_is_in_the_order_of_its_numbers(numbers: list[int], width: int, before: str, after: str) -> None:
    if all(number < 0 for number in numbers):
        numbers = [-number for number in numbers]
    names = [f"{before}{'-' * (number < 0)}{abs(number):0{width}}{after}.tif" for number in numbers]
    found = number_sections(names, where="folder")
    assert found.numbers == tuple(sorted(numbers))
    assert [numbers[at] for at in found.order] == sorted(numbers)


@given(
    start=st.integers(0, 10**5),
    step=st.sampled_from([1, 2, 10]),
    kept=st.sets(st.integers(0, 60), min_size=45, max_size=60),
)
def test_what_is_missing_between_others_is_found(start: int, step: int, kept: set[int]) -> None:
    names = [f"s{start + step * n}_c1.png" for n in kept]
    missing = [start + step * n for n in range(min(kept), max(kept)) if n not in kept]
    found = number_sections(names, where="folder")
    assert [number for gap in found.gaps for number in gap.numbers] == missing


STEMS = st.text("ab01.-_ ()", min_size=1, max_size=8).filter(lambda text: text.strip("."))


@given(st.lists(STEMS, min_size=1, unique=True))
def test_any_names_are_numbered_or_refused(stems: list[str]) -> None:
    names = [f"{stem}.png" for stem in stems]
    try:
        found = number_sections(names, where="folder")
    except InputError:
        return
    assert sorted(found.order) == list(range(len(names)))
    assert found.numbers is None or list(found.numbers) == sorted(set(found.numbers))


def test_numbers_in_words() -> None:
    assert say_numbers([]) == ""
    assert say_numbers([3]) == "3"
    assert say_numbers([0.25, 1.0]) == "0.25 and 1"
    gaps = find([f"{n}.png" for n in (1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 18, 19, 20, 21, 22, 23, 24)]).gaps
    assert say_gaps(gaps) == "7, 9, 11, 13, 15 and 1 more"


@given(st.lists(st.integers(0, 10**6), min_size=2, unique=True))
def test_natural_order_is_the_order_of_numbers(numbers: list[int]) -> None:
    names = [f"z_{n}.png" for n in numbers]
    assert sorted(names, key=natural_key) == [f"z_{n}.png" for n in sorted(numbers)]
