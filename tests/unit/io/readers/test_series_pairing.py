"""Labels and image: sections are paired by their numbers, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from segem.config import IngestConfig, LabelSource, Selection
from segem.errors import InputError
from segem.geometry import Box
from segem.io.readers import Stack, open_labels, open_stack
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.truth import UNKNOWN
from segem.stages.volumes.ingest import ingest

SHAPE = (8, 9)


def series(folder: Path, numbers: list[int], name: str = "s{:03}") -> Path:
    """Write a series of which every voxel holds the number of its section."""
    folder.mkdir(exist_ok=True)
    for number in numbers:
        data = np.full(SHAPE, number, np.uint8)
        tifffile.imwrite(folder / f"{name.format(number)}.tif", data, photometric="minisblack")
    return folder


def pair(raw: Path, labels: Path, raw_missing: str = "fail", missing: str = "fail") -> Stack:
    chosen = LabelSource(source=labels, membrane="zero", missing=missing)
    with open_stack(raw, Selection(missing=raw_missing)) as stack:
        return open_labels(labels, chosen, stack)


def values(stack: Stack) -> list[int | None]:
    """Return the number that each label section holds; None where it is unknown."""
    found = [int(stack.section(z)[0, 0]) for z in range(stack.shape[0])]
    return [None if z in stack.masked else number for z, number in enumerate(found)]


@pytest.mark.parametrize(
    ("ours", "theirs", "paired", "told"),
    [
        ([1, 2, 3], [1, 2, 3], [1, 2, 3], None),
        ([1, 2, 3, 4, 5], [2, 3, 4, 5, 6], [2, 3, 4, 5, 6], "different numbers"),
        ([0, 1, 2], [1, 2, 3], [1, 2, 3], "and are paired in order"),
        ([10, 20, 30], [1, 2, 3], [1, 2, 3], "paired in order"),
        ([5], [8], [8], "paired in order"),
        ([0, 1, 2, 3, 4, 5], [2, 3, 4], [None, None, 2, 3, 4, None], "3 of 6 sections have labels"),
        ([0, 1, 2, 3, 4, 5], [3], [None, None, None, 3, None, None], "1 of 6 sections have labels"),
        (
            [1, 2, 3, 4, 5],
            [1, 2, 4, 5],
            [1, 2, None, 4, 5],
            "no file for section 3: filled by black that no score counts",
        ),
        (list(range(9)), [0, 4, 8], [0, None, None, None, 4, None, None, None, 8], "3 of 9 sections have labels"),
        (list(range(30)), [1, 2, 4, 25], [None, 1, 2, None, 4, *[None] * 20, 25, *[None] * 4], "4 of 30"),
    ],
)
def test_pairs(tmp_path: Path, ours: list[int], theirs: list[int], paired: list[int | None], told: str | None) -> None:
    raw, labels = series(tmp_path / "raw", ours), series(tmp_path / "labels", theirs, "lab{}")
    with pair(raw, labels) as stack:
        assert values(stack) == paired
        assert stack.shape == (len(ours), *SHAPE)
        assert stack.source == labels
        if told is None:
            assert stack.warnings == ()
        else:
            assert any(told in warning for warning in stack.warnings)


def test_a_shift_is_a_warning_that_names_both(tmp_path: Path) -> None:
    raw, labels = series(tmp_path / "raw", [1, 2, 3, 4, 5]), series(tmp_path / "labels", [2, 3, 4, 5, 6])
    with pair(raw, labels) as stack:
        (warning,) = stack.warnings
    assert f"1 to 5 (5 sections) in {raw}, 2 to 6 (5 sections) in {labels}" in warning


@pytest.mark.parametrize(
    ("ours", "theirs", "told"),
    [
        ([0, 2, 4], [0, 1, 2], "4 only in the image and 1 only in the labels"),
        ([1, 2, 3, 4], [2, 3, 4, 5, 6], "1 only in the image and 5 and 6 only in the labels"),
        ([1, 2, 3], [0, 1, 2, 3, 4], "found 0 to 4 (5 sections); 0 and 4 only in the labels"),
        ([1, 2, 3, 4, 5], [3, 4, 5, 6], "1 and 2 only in the image and 6 only in the labels"),
    ],
)
def test_numbers_that_differ_in_places(tmp_path: Path, ours: list[int], theirs: list[int], told: str) -> None:
    raw, labels = series(tmp_path / "raw", ours), series(tmp_path / "labels", theirs)
    with pytest.raises(InputError) as caught:
        pair(raw, labels)
    assert str(caught.value).startswith(f"{labels}: it cannot be known which labels belong to which section")
    assert told in str(caught.value)


def test_what_the_image_lacks_the_labels_may_lack_too(tmp_path: Path) -> None:
    raw, labels = series(tmp_path / "raw", [1, 2, 4]), series(tmp_path / "labels", [1, 2, 4])
    with pair(raw, labels, raw_missing="copy") as stack:
        assert values(stack) == [1, 2, None, 4]
    with pytest.raises(InputError, match="a section is missing"):
        pair(raw, labels)


def test_of_a_masked_section_no_label_is_known(tmp_path: Path) -> None:
    raw, labels = series(tmp_path / "raw", [1, 2, 4]), series(tmp_path / "labels", [1, 2, 3, 4])
    with pair(raw, labels, raw_missing="mask") as stack:
        assert values(stack) == [1, 2, None, 4]
    with pair(raw, labels, raw_missing="black") as stack:
        assert values(stack) == [1, 2, 3, 4]


def test_labels_are_filled_as_asked(tmp_path: Path) -> None:
    raw, labels = series(tmp_path / "raw", [1, 2, 3, 4]), series(tmp_path / "labels", [1, 2, 4])
    with pair(raw, labels, missing="copy") as stack:
        assert values(stack) == [1, 2, 2, 4]
        assert (stack.filled, stack.masked) == ((2,), ())


def test_without_numbers_sections_are_paired_in_order_and_none_may_be_missing(tmp_path: Path) -> None:
    raw = tmp_path / "raw.tif"
    tifffile.imwrite(raw, np.zeros((4, *SHAPE), np.uint8), photometric="minisblack")
    with pair(raw, series(tmp_path / "labels", [7, 8, 9, 10])) as stack:
        assert values(stack) == [7, 8, 9, 10]
        assert stack.warnings == ()
    with pytest.raises(InputError, match=r"2 sections are missing.* found 4 files, and none for 2 and 3"):
        pair(raw, series(tmp_path / "gap", [1, 4, 5, 6]))


def test_parts_of_paired_labels(tmp_path: Path) -> None:
    raw, labels = series(tmp_path / "raw", list(range(9))), series(tmp_path / "labels", [2, 3, 4])
    with pair(raw, labels) as stack:
        found = stack.read(Box((1, 2, 3), (5, 4, 9)))
        assert found.shape == (4, 2, 6)
        assert found[:, 0, 0].tolist() == [0, 2, 3, 4]
        assert (stack.numbers, stack.filled, stack.masked) == (tuple(range(9)), (0, 1, 5, 6, 7, 8), (0, 1, 5, 6, 7, 8))
        assert stack.label_of(2) == str(labels / "s002.tif")
        assert stack.label_of(0) == f"{labels} z=0, which has no labels"
        part = stack.within(Box((2, 0, 0), (6, *SHAPE)))
        assert part.masked == (3,)


def test_ingest_takes_labels_by_number(tmp_path: Path) -> None:
    raw = series(tmp_path / "raw", [1, 2, 3, 4, 5])
    labels = tmp_path / "labels"
    labels.mkdir()
    for number in (2, 4):
        mask = np.zeros(SHAPE, np.uint8)
        mask[0] = number
        tifffile.imwrite(labels / f"{number}.tif", mask, photometric="minisblack")
    source = LabelSource(source=labels, membrane="nonzero")
    result = ingest(
        IngestConfig(name="v", source=raw, voxel_nm=(50, 4, 4), labels=source, box="1:5,:,:"), Workspace(tmp_path / "w")
    )
    volume = Volume.open(result.path)
    truth = volume.label("truth")[...]
    assert [sorted(set(section.ravel().tolist())) for section in truth] == [[0, 1], [UNKNOWN], [0, 1], [UNKNOWN]]
    noted = volume.attributes["labels"]
    assert noted["unknown_sections"] == [1, 3]
    assert noted["known_fraction"] == 0.5
    assert any("2 of 5 sections have labels" in warning for warning in result.warnings)
