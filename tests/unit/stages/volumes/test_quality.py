"""Quality of a volume: measured on what was written, kept with the volume and read back."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import tifffile

from segem.config import IngestConfig
from segem.errors import WorkspaceError
from segem.geometry import Box, VoxelSize
from segem.io.volume import Volume, create_volume, write_block
from segem.io.workspace import Workspace
from segem.kernels.quality import measure_section
from segem.stages.volumes.ingest import ingest
from segem.stages.volumes.quality import TABLE, find_middle, measure_quality, read_quality
from tests.fabricate import tissue

COLUMNS = (
    "section,sharpness,contrast_grey,brightness_grey,noise_grey,darkest_grey,brightest_grey,outside_share,"
    "shift_y_px,shift_x_px,similarity,flags"
)


@pytest.fixture
def stack() -> np.ndarray:
    sections = np.repeat(tissue((1, 96, 128))[0], 8, axis=0).astype(int)
    sections += np.random.default_rng(0).integers(-12, 13, sections.shape)
    return np.clip(sections, 0, 255).astype(np.uint8)


@pytest.fixture
def dimmed(stack) -> np.ndarray:
    stack[5] //= 2
    return stack


def ingested(folder, sections, **more):
    tifffile.imwrite(folder / "a.tif", sections, photometric="minisblack")
    config = IngestConfig(name="v", source=folder / "a.tif", voxel_nm=(50, 4, 4), **more)
    return ingest(config, Workspace(folder / "w"))


def test_ingest_writes_a_row_for_each_section_and_notes_what_stands_out(tmp_path, dimmed):
    result = ingested(tmp_path, dimmed)
    lines = (result.path / TABLE).read_text().splitlines()
    assert lines[0] == COLUMNS
    rows = list(csv.DictReader(lines))
    assert [row["section"] for row in rows] == [str(z) for z in range(8)]
    for z, row in enumerate(rows):
        measured = measure_section(dimmed[z])
        told = [float(row[key]) for key in ("contrast_grey", "brightness_grey", "noise_grey", "sharpness")]
        expected = [measured.contrast, measured.brightness, measured.noise, measured.sharpness]
        assert told == pytest.approx(expected, rel=1e-5)
    assert (rows[0]["similarity"], rows[0]["shift_y_px"]) == ("", "")
    assert [z for z, row in enumerate(rows) if row["flags"]] == [5]
    assert rows[5]["flags"] == "contrast brightness"
    noted = Volume.open(result.path).attributes["quality"]
    assert [(flag["section"], flag["kind"]) for flag in noted["flags"]] == [(5, "contrast"), (5, "brightness")]
    assert (noted["schema"], noted["sections"], noted["sample_px"]) == (1, 8, [96, 128])
    assert [warning for warning in result.warnings if "stands out" in warning] == list(result.warnings)
    assert result.warnings[0].startswith("section 5 stands out, the first one: contrast of ")


def test_a_box_has_its_own_quality(tmp_path, dimmed):
    result = ingested(tmp_path, dimmed, box="4:8,:64,:")
    found, sections = read_quality(Volume.open(result.path))
    assert (found.sections, found.sample_px) == (4, (64, 128))
    assert [one.section for one in sections] == [0, 1, 2, 3]
    assert {flag.section for flag in found.flags} == {1}


def test_what_was_written_is_read_back(tmp_path, dimmed):
    result = ingested(tmp_path, dimmed)
    volume = Volume.open(result.path)
    before = (volume.path / TABLE).read_bytes()
    found, sections = read_quality(volume)
    assert found == measure_quality(volume)
    assert (volume.path / TABLE).read_bytes() == before
    assert sections[0].similarity is None
    assert sections[3].similarity == pytest.approx(1, abs=0.1)


def test_a_table_from_before_the_ends_of_levels_were_measured_is_read(tmp_path, stack):
    volume = Volume.open(ingested(tmp_path, stack).path)
    rows = list(csv.reader((volume.path / TABLE).read_text().splitlines()))
    kept = [at for at, name in enumerate(rows[0]) if name not in {"darkest_grey", "brightest_grey"}]
    before = read_quality(volume)[1]
    (volume.path / TABLE).write_text("\n".join(",".join(row[at] for at in kept) for row in rows) + "\n")
    after = read_quality(volume)[1]
    assert before[3].darkest == stack[3].min()
    assert after == tuple(one.model_copy(update={"darkest": None, "brightest": None}) for one in before)


def test_a_volume_of_earlier_versions_has_none_and_a_damaged_table_is_refused(tmp_path, stack):
    volume = Volume.open(ingested(tmp_path, stack).path)
    (volume.path / TABLE).write_text("section,sharpness\n0,1\n")
    with pytest.raises(WorkspaceError, match=r"quality\.csv: .*no column 'contrast_grey'.*--again"):
        read_quality(volume)
    (volume.path / TABLE).unlink()
    with pytest.raises(WorkspaceError, match=r"quality\.csv"):
        read_quality(volume)
    volume.set_attributes(quality=None)
    assert read_quality(volume) is None


def test_only_the_middle_of_large_sections_is_read(tmp_path, monkeypatch):
    sections = np.zeros((3, 1, 3000), np.uint8)
    sections[:, :, 1000:2000] = np.random.default_rng(0).integers(50, 200, (3, 1, 1000))
    volume = create_volume(
        tmp_path / "v.ome.zarr",
        shape=sections.shape,
        dtype=np.uint8,
        voxel_size=VoxelSize(50, 4, 4),
        labels={},
        attributes={},
    )
    for start in range(0, 3000, volume.write_block[2]):
        stop = min(start + volume.write_block[2], 3000)
        write_block(volume.raw, Box((0, 0, start), (3, 1, stop)), np.ascontiguousarray(sections[..., start:stop]))
    assert find_middle(volume.shape) == Box((0, 0, 988), (3, 1, 2012))
    measure_quality(volume)
    _, found = read_quality(volume)
    assert all(one.brightness > 50 for one in found)


def test_what_the_layer_outside_marks_counts_for_nothing(tmp_path, stack):
    dark = stack.copy()
    dark[3, :, 60:] = 0
    volume = create_volume(
        tmp_path / "v.ome.zarr",
        shape=stack.shape,
        dtype=np.uint8,
        voxel_size=VoxelSize(50, 4, 4),
        labels={"outside": np.uint8},
        attributes={},
    )
    whole = Box.of_shape(stack.shape)
    write_block(volume.raw, whole, dark)
    write_block(volume.label("outside"), whole, np.zeros_like(dark))
    assert {flag.section for flag in measure_quality(volume).flags} == {3}
    write_block(volume.label("outside"), whole, (dark == 0).astype(np.uint8))
    assert measure_quality(volume).flags == ()
    assert read_quality(volume)[1][3].outside == pytest.approx(68 / 128, abs=0.01)
