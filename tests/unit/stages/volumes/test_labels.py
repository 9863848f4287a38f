"""What labels mean is said by the user; what is doubtful about them is told, and good labels raise no doubt."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from segem.cli.options import Options
from segem.config import IngestConfig, LabelSource, Manifest, parse
from segem.errors import ConfigError, InputError
from segem.geometry import VoxelSize
from segem.io.readers import open_stack
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.stages.training.labelled import open_labelled_volumes
from segem.stages.volumes.ingest import ingest
from segem.stages.volumes.labels import TruthTally
from tests.fabricate import tissue

VOXEL = (50.0, 4.0, 4.0)
IMAGE, TRUTH = tissue((6, 96, 96))


def read(folder: Path, labels: np.ndarray, **meaning: Any) -> Volume:
    """Ingest an image with labels of this meaning."""
    with h5py.File(folder / "t.h5", "w") as file:
        file["t"] = labels
    image = np.resize(IMAGE, labels.shape)
    tifffile.imwrite(folder / "a.tif", image, photometric="minisblack")
    source = LabelSource(source=folder / "t.h5", **meaning)
    config = IngestConfig(name="v", source=folder / "a.tif", voxel_nm=VOXEL, labels=source)
    return Volume.open(ingest(config, Workspace(folder / "w"), replace=True).path)


def truth_of(volume: Volume) -> np.ndarray:
    return np.asarray(volume.label("truth")[...])


def told(volume: Volume) -> list[str]:
    """Return the warnings, but for those of the images, which are synthetic."""
    return [warning for warning in volume.attributes["warnings"] if "stands out" not in warning]


def test_several_codes_mean_membrane(tmp_path: Path) -> None:
    codes = np.array([0, 32, 64, 96, 128, 159, 191, 223, 255], np.uint8)
    labels = np.tile(codes, (2, 9, 1))
    volume = read(tmp_path, labels, membrane=(0, 32, 64, 96), ignore=(159, 191))
    assert truth_of(volume)[0, 0].tolist() == [1, 1, 1, 1, 0, 2, 2, 0, 0]
    facts = volume.attributes["labels"]
    assert (facts["membrane"], facts["ignore"], facts["membrane_fraction"]) == ([0, 32, 64, 96], [159, 191], 4 / 7)
    assert volume.labels() == ["truth"], "codes are no cells"


@pytest.mark.parametrize("dtype", ["u1", "i4", "u8", "f4"])
def test_borders_of_numbered_cells_are_membrane(tmp_path: Path, dtype: str) -> None:
    labels = np.zeros((2, 4, 8), dtype)
    labels[0, :, 1:4], labels[0, :, 4:] = 5, 6
    labels[1, :2], labels[1, 2:] = 9, 100
    volume = read(tmp_path, labels, membrane="borders", border_nm=8, zero_means="membrane")
    assert truth_of(volume)[0].tolist() == [[1, 0, 0, 1, 1, 0, 0, 0]] * 4
    # In a section, not across: section 0 has no border because of section 1.
    assert truth_of(volume)[1].tolist() == [[0] * 8, [1] * 8, [1] * 8, [0] * 8]
    ids = np.asarray(volume.label("truth-ids")[...])
    assert (ids.dtype.kind, ids.tolist()) == ("u", labels.astype(int).tolist())
    facts = volume.attributes["labels"]
    assert (facts["membrane"], facts["border_nm"], facts["zero_means"]) == ("borders", 8.0, "membrane")
    assert told(volume) == []


def test_numbers_of_64_bits_are_told_apart_and_ignored(tmp_path: Path) -> None:
    most = 2**64 - 1
    labels = np.array([[[most - 1] * 3 + [most - 2] * 3 + [most] * 3]] * 2, np.uint64).repeat(3, 1)
    volume = read(tmp_path, labels, membrane="borders", border_nm=8, zero_means="unknown", ignore=most)
    assert truth_of(volume)[0, 0].tolist() == [0, 0, 1, 1, 0, 2, 2, 2, 2]
    assert volume.attributes["labels"]["known_fraction"] == pytest.approx(5 / 9)
    assert np.array_equal(volume.label("truth-ids")[...], labels)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.array([[[0.0, 1.0, 1.5]]], np.float32), "number cells; expected whole numbers, found values between"),
        (np.array([[[0, 2**24]]], np.float32), "large for their type; expected less than 16777216 in float32"),
    ],
)
def test_numbers_of_cells_that_cannot_be_exact_are_refused(tmp_path: Path, labels: np.ndarray, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(tmp_path, labels, membrane="borders", border_nm=8, zero_means="membrane")


def test_a_border_narrower_than_two_pixels_is_refused(tmp_path: Path) -> None:
    labels = np.ones((1, 3, 3), np.uint8)
    with pytest.raises(InputError, match=r"a border of 8 nm or more, with pixels of 4 nm, found border_nm 7.9"):
        read(tmp_path, labels, membrane="borders", border_nm=7.9, zero_means="membrane")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"membrane": "borders", "zero_means": "membrane"}, "borders needs border_nm (width of the membrane between"),
        ({"membrane": "borders", "border_nm": 8}, "borders needs zero_means (what 0 is"),
        ({"membrane": "zero", "border_nm": 8}, "border_nm is for labels that number the cells (membrane: borders)"),
        ({"membrane": 3, "zero_means": "unknown"}, "zero_means is for labels that number the cells"),
        ({"membrane": "0,3", "ignore": "3,4"}, "the value to ignore, 3, is one that means membrane; give different"),
        ({"membrane": "zero", "ignore": [7, 0]}, "the value to ignore, 0, is one that means membrane"),
        ({"membrane": "nonzero", "ignore": 0}, "leaves nothing that is not membrane"),
        (
            {"membrane": "borders", "border_nm": 8, "zero_means": "membrane", "ignore": "0"},
            "0 cannot both be ignored and mean membrane; give zero_means: unknown",
        ),
        ({"membrane": "borders", "border_nm": 0, "zero_means": "membrane"}, "--border-nm: must be greater than 0"),
        ({"membrane": "zero", "ignore": "²"}, "--ignore: must be a whole number or several of them, as 128,255; found"),
        ({"membrane": "²"}, "--membrane: must be zero, nonzero, borders, a whole number or several of them"),
        ({"membrane": "1,,2"}, "--membrane: must be zero, nonzero, borders, a whole number or several of them"),
    ],
)
def test_meanings_that_contradict_each_other_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(LabelSource, {"source": "a"} | given, called=Options({"": tuple(LabelSource.model_fields)}).named)
    assert said in str(caught.value)


def test_values_typed_and_values_listed_are_the_same_setting() -> None:
    typed, listed = (LabelSource(source=Path("a"), membrane=value) for value in ("0, 32", [0, 32, 0]))
    assert typed == listed
    assert typed.config_hash() == listed.config_hash()
    assert LabelSource(source=Path("a"), membrane="5") == LabelSource(source=Path("a"), membrane=[5])


def painted_in_part() -> np.ndarray:
    """Return 0 where nobody has painted, 1 in cells and 2 on membrane; two of six sections are painted."""
    labels = np.zeros(TRUTH.shape, np.uint8)
    labels[[1, 2]] = 1 + TRUTH[[1, 2]]
    return labels


def test_sections_that_nobody_has_painted_are_told_with_the_way_out(tmp_path: Path) -> None:
    (warning,) = told(read(tmp_path, painted_in_part(), membrane=2))
    assert warning.startswith("4 of 6 label sections hold one value only (sections 0 and 3 to 5), which counts as it")
    assert "give --unpainted unknown (in a manifest unpainted: unknown)" in warning
    volume = read(tmp_path, painted_in_part(), membrane=2, unpainted="unknown")
    assert told(volume) == []
    assert (truth_of(volume)[[0, 3, 4, 5]] == 2).all()
    assert np.array_equal(truth_of(volume)[[1, 2]], TRUTH[[1, 2]])
    facts = volume.attributes["labels"]
    assert (facts["unknown_sections"], facts["known_fraction"]) == ([0, 3, 4, 5], pytest.approx(1 / 3))
    assert facts["unpainted"] == "unknown"
    # Named by its value, it is no doubt either.
    volume = read(tmp_path, painted_in_part(), membrane=2, ignore=0)
    assert (told(volume), volume.attributes["labels"]["unknown_sections"]) == ([], [0, 3, 4, 5])


def test_zeros_beside_two_painted_classes_are_asked_about(tmp_path: Path) -> None:
    labels = 1 + TRUTH
    labels[:, :, 60:] = 0
    (warning,) = told(read(tmp_path, labels, membrane=2))
    assert "% of the sections that were painted is 0, which counts as background like 1" in warning
    assert "give --ignore 0 (ignore: 0 in a manifest)" in warning
    assert told(read(tmp_path, labels, membrane=2, ignore=0)) == []
    # A few pixels, or no other background, are no doubt.
    labels = 1 + TRUTH
    labels[0, :4, :4] = 0
    assert told(read(tmp_path, labels, membrane=2)) == []
    assert told(read(tmp_path, 2 * TRUTH, membrane=2)) == []


def test_what_lies_outside_tissue_is_unknown_and_no_paint(tmp_path: Path) -> None:
    section = np.array([[0, 0, 1, 1], [0, 0, 1, 1]], np.uint8)
    tifffile.imwrite(tmp_path / "t.tif", section, photometric="minisblack")
    labels = LabelSource(source=tmp_path / "t.tif", membrane=1)
    outside = np.array([[True, True, False, False]] * 2)
    with open_stack(labels.source, labels) as stack:
        tally = TruthTally(stack, labels, VoxelSize(*VOXEL))
        assert tally.add(0, section, outside).tolist() == [[2, 2, 1, 1]] * 2
        # In the tissue there is one value only.
        assert (tally.known, tally.membrane, tally.of_one_value) == (4, 4, [0])


def test_labels_of_which_no_section_is_painted_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing is known of the labels; found value 3 only"):
        read(tmp_path, np.full((2, 8, 8), 3, np.uint8), membrane="nonzero", unpainted="unknown")


def test_sections_for_testing_without_membrane_are_refused_before_training(tmp_path: Path) -> None:
    labels = TRUTH.copy()
    labels[[4, 5]] = 0
    assert read(tmp_path, labels, membrane=1).attributes["labels"]["sections_without_membrane"] == [4, 5]
    entry = {
        "name": "v",
        "source": tmp_path / "a.tif",
        "voxel_nm": VOXEL,
        "labels": {"source": tmp_path / "t.h5", "membrane": 1},
    }
    for first, refused in ((3, False), (4, True)):
        split = {"train": [0, 2], "validation": [2, 3], "test": [first, 6]}
        manifest = parse(Manifest, {"name": "m", "volumes": [entry | {"split": split}]})
        if refused:
            with pytest.raises(InputError, match="v: the test labels hold no membrane, so there is nothing to score"):
                open_labelled_volumes(manifest, Workspace(tmp_path / "w"))
        else:
            assert open_labelled_volumes(manifest, Workspace(tmp_path / "w"))[0].test == (3, 6)


def as_jpeg(mask: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray((mask * 255).astype(np.uint8)).save(file, "JPEG")
    return np.asarray(Image.open(file))


@pytest.mark.parametrize(
    ("how", "membrane"),
    [("jpeg", "nonzero"), ("jpeg", 255), ("resized", "nonzero"), ("resized", 255), ("float", "nonzero")],
)
def test_labels_that_are_no_longer_as_painted_are_told(tmp_path: Path, how: str, membrane: object) -> None:
    labels = TRUTH * np.uint8(255)
    if how == "jpeg":
        labels = np.stack([as_jpeg(section) for section in TRUTH])
    elif how == "resized":
        labels = ndimage.zoom(labels[:, ::2, ::2], (1, 2, 2), order=1)
    else:
        labels = ndimage.gaussian_filter(labels.astype(np.float32) / 255, (0, 1, 1))
    count = min(1000, len(np.unique(labels)))
    (warning,) = [line for line in told(read(tmp_path, labels, membrane=membrane)) if "values" in line]
    assert warning.startswith(f"the labels hold {count} values")
    why = (
        "where nonzero expects two" if membrane == "nonzero" else "most of them between the two that are most frequent"
    )
    assert f"), {why}: if they were resized or saved as JPEG" in warning
    assert "nearest neighbour" in warning


@pytest.mark.parametrize(
    ("labels", "meaning", "doubted"),
    [
        (TRUTH, {"membrane": "nonzero"}, False),
        (TRUTH * 2 + 1, {"membrane": 3}, False),
        (TRUTH + TRUTH[::-1], {"membrane": "nonzero"}, True),
        (TRUTH + TRUTH[::-1], {"membrane": "nonzero", "ignore": 2}, False),
        (TRUTH + TRUTH[::-1], {"membrane": [1, 2]}, False),
        (TRUTH + TRUTH[::-1], {"membrane": 2}, False),
        ((np.arange(96) * (1 - TRUTH)), {"membrane": "zero"}, True),
        ((1 + np.arange(96) * (1 - TRUTH)), {"membrane": 1}, False),
    ],
)
def test_more_values_than_two_are_told_where_two_are_expected(
    tmp_path: Path, labels: np.ndarray, meaning: dict[str, Any], doubted: bool
) -> None:
    assert any("expects two" in line for line in told(read(tmp_path, labels, **meaning))) == doubted
