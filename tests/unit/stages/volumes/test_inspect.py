"""What is said of a source before it is ingested, and that nothing is changed by looking."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from segem.cli import app
from segem.cli.exits import exit_code_of
from segem.config import IngestConfig, LabelSource
from segem.config.inspection import InspectConfig, InspectedLabels
from segem.errors import InputError
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.stages.volumes.ingest import ingest
from segem.stages.volumes.inspect import choose_runs, inspect
from tests.fabricate import tissue

SHAPE = (6, 80, 120)


@pytest.fixture
def source(tmp_path) -> Path:
    image, truth = tissue(SHAPE)
    tifffile.imwrite(tmp_path / "stack.tif", image, photometric="minisblack")
    tifffile.imwrite(tmp_path / "truth.tif", truth * np.uint8(7), photometric="minisblack")
    return tmp_path / "stack.tif"


def look(source, workspace=Path("/nowhere"), picture=None, **more):
    return inspect(InspectConfig(source=source, **more), Workspace(workspace), picture=picture)


def shell(capsys, *words):
    capsys.readouterr()
    app(list(map(str, words)), standalone_mode=False)
    return capsys.readouterr().out


def test_the_facts_of_a_stack(source):
    found, image = look(source), tifffile.imread(source)
    assert (found.format, found.files, found.stored_bytes) == ("TIFF", 1, source.stat().st_size)
    assert (found.axes, found.shape, found.dtype) == ("zyx", SHAPE, "uint8")
    assert (found.voxel, found.labels, found.picture, found.warnings) == (None, None, None, ())
    assert found.sampled == tuple(range(6))
    assert (found.percentiles["0"], found.percentiles["100"]) == (image.min(), image.max())
    assert found.percentiles["50"] == np.percentile(image, 50, method="inverted_cdf")
    assert found.first_section.endswith("page 1 (z=0)")
    assert found.estimate.run_bytes == round(image.size * 4 / 3)


def test_intensities_of_other_types_are_told_as_they_are(tmp_path):
    image, _ = tissue((4, 64, 64))
    values = image.astype(np.float32) / 1000 - 0.1
    values[1, 3, 4] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack")
    found = look(tmp_path / "a.tif", picture=tmp_path / "a.png")
    assert (found.dtype, found.percentiles["0"]) == ("float32", pytest.approx(image.min() / 1000 - 0.1))
    assert found.percentiles["50"] == pytest.approx(np.median(image) / 1000 - 0.1, abs=0.002)
    assert {flag.kind for flag in found.flags} <= {"order", "shift"}


def test_what_is_no_tissue_is_told(tmp_path):
    image, _ = tissue((4, 128, 128))
    padded = np.zeros((4, 128, 256), np.uint8)
    padded[:, :, 64:192] = image
    tifffile.imwrite(tmp_path / "a.tif", padded, photometric="minisblack")
    found = look(tmp_path / "a.tif")
    assert found.outside == pytest.approx(0.5, abs=0.05)


def test_a_box_is_what_is_looked_at(source):
    found, image = look(source, box="1:3,:40,:"), tifffile.imread(source)[1:3, :40]
    assert found.shape == (2, 40, 120)
    assert found.percentiles["100"] == image.max()


def test_what_is_estimated_for_the_disk_is_what_ingest_takes(source, tmp_path):
    estimate = look(source).estimate
    volume = ingest(IngestConfig(name="v", source=source, voxel_nm=(50, 4, 4)), Workspace(tmp_path / "w")).path
    taken = sum(file.stat().st_size for file in volume.rglob("c/**/*") if file.is_file())
    assert estimate.volume_bytes == pytest.approx(taken, rel=0.35)


def test_labels_are_counted(source):
    truth = tifffile.imread(source.with_name("truth.tif"))
    labels = source.with_name("truth.tif")
    found = look(source, labels=InspectedLabels(source=labels)).labels
    share = np.mean(truth == 7)
    assert (found.distinct, found.membrane_share) == (2, None)
    assert {one.value: one.share for one in found.values} == pytest.approx({0: 1 - share, 7: share})
    told = look(source, labels=InspectedLabels(source=labels, membrane="zero")).labels
    assert told.membrane_share == pytest.approx(1 - share)
    ignored = look(source, labels=InspectedLabels(source=labels, membrane=7, ignore=0)).labels
    assert ignored.membrane_share == 1


def test_of_a_large_stack_three_places_are_read():
    assert choose_runs((24, 512, 512), 1) == [(0, 24)]
    assert choose_runs((25, 512, 512), 1) == [(0, 8), (8, 16), (17, 25)]
    assert choose_runs((1000, 20_000, 20_000), 2) == [(0, 1), (499, 500), (999, 1000)]


def test_flags_have_the_numbers_of_the_whole_stack(tmp_path):
    # Rows of a slope, so that the sections of each third resemble each other.
    rng = np.random.default_rng(0)
    sections = np.repeat(tissue((1, 64, 64))[0], 40, axis=0).astype(int) + rng.integers(-12, 13, (40, 64, 64))
    sections[36] = sections[36] // 3
    tifffile.imwrite(tmp_path / "a.tif", np.clip(sections, 0, 255).astype(np.uint8), photometric="minisblack")
    found = look(tmp_path / "a.tif")
    assert found.sampled == (*range(8), *range(16, 24), *range(32, 40))
    assert {flag.section for flag in found.flags} == {36}


@pytest.mark.parametrize("kind", ["missing", "complex", "damaged", "labels", "box", "voxel"])
def test_what_ingest_refuses_is_refused_in_the_same_words(source, tmp_path, kind):
    more: dict = {}
    if kind == "missing":
        source = tmp_path / "none.tif"
    elif kind == "complex":
        tifffile.imwrite(source, np.zeros((3, 8, 8), np.complex64), photometric="minisblack")
    elif kind == "damaged":
        source.write_bytes(source.read_bytes()[:4000])
    elif kind == "labels":
        tifffile.imwrite(tmp_path / "truth.tif", np.zeros((6, 80, 121), np.uint8))
        more = {"source": tmp_path / "truth.tif", "membrane": "nonzero"}
    said = {
        "box": "0:9,:,:" if kind == "box" else None,
        # Typed from x to z.
        "voxel_nm": (4, 4, 50) if kind == "voxel" else (50, 4, 4),
    }
    with pytest.raises(InputError) as seen:
        look(source, labels=InspectedLabels(**more) if more else None, **said)
    config = IngestConfig(name="v", source=source, labels=LabelSource(**more) if more else None, **said)
    with pytest.raises(InputError) as ingested:
        ingest(config, Workspace(tmp_path / "w"))
    assert str(seen.value) == str(ingested.value)


def test_nothing_is_changed(source, tmp_path):
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    look(source, tmp_path / "w", labels=InspectedLabels(source=source.with_name("truth.tif")))
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before


def test_the_picture_shows_three_sections_with_their_labels(source, tmp_path):
    labels = InspectedLabels(source=source.with_name("truth.tif"))
    assert look(source, picture=tmp_path / "out.png", labels=labels).picture == str(tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.width > 3 * 480
        orange = np.all(np.asarray(picture) == (230, 92, 0), axis=-1)
    assert [bool(third.any()) for third in np.array_split(orange, 3, axis=1)] == [True] * 3


def test_the_command_that_is_proposed_makes_the_volume(source, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = [
        source,
        "--box",
        "0:4,:,:",
        "--voxel-nm",
        "50,4.6,4.6",
        "--labels",
        source.with_name("truth.tif"),
        "--membrane",
        "7",
    ]
    told = json.loads(shell(capsys, "inspect", *given, "--json"))
    assert told["next"].startswith("segem ingest stack.tif --name stack --voxel-nm 50,4.6,4.6 ")
    shell(capsys, *shlex.split(told["next"])[1:], "--workspace", tmp_path / "w")
    volume = Volume.open(tmp_path / "w" / "volumes" / "stack.ome.zarr")
    assert (volume.shape, volume.voxel_size.zyx) == ((4, 80, 120), (50, 4.6, 4.6))
    assert volume.has_label("truth")


def test_a_voxel_size_that_the_source_states_is_not_asked_for(tmp_path, capsys):
    image, _ = tissue((3, 40, 40))
    stated = {"axes": "ZYX", "spacing": 0.05, "unit": "um"}
    tifffile.imwrite(tmp_path / "a.tif", image, imagej=True, resolution=(250, 250), metadata=stated)
    told = json.loads(shell(capsys, "inspect", tmp_path / "a.tif", "--json"))
    assert [told["voxel"][key] for key in ("z_nm", "y_nm", "x_nm")] == pytest.approx([50, 4, 4])
    assert "--voxel-nm" not in told["next"]
    tifffile.imwrite(
        tmp_path / "a.tif", image[:1], imagej=True, resolution=(250, 250), metadata={"axes": "ZYX", "unit": "um"}
    )
    assert "--voxel-nm Z,4,4" in json.loads(shell(capsys, "inspect", tmp_path / "a.tif", "--json"))["next"]


def test_labels_without_the_value_named_are_refused_as_by_ingest(source):
    labels = InspectedLabels(source=source.with_name("truth.tif"), membrane=9)
    with pytest.raises(InputError, match="no voxel of the labels has the value 9 that means membrane"):
        look(source, labels=labels)


def test_what_is_not_known_stays_to_be_filled_in(source, capsys):
    told = json.loads(shell(capsys, "inspect", source, "--labels", source.with_name("truth.tif"), "--json"))
    words = shlex.split(told["next"])
    assert words[words.index("--voxel-nm") + 1] == "Z,Y,X"
    assert words[words.index("--membrane") + 1] == "VALUE"
    said = shell(capsys, "inspect", source, "--labels", source.with_name("truth.tif"), "--membrane", "0", "--json")
    words = shlex.split(json.loads(said)["next"])
    assert words[words.index("--membrane") + 1] == "0"


def test_how_to_name_membrane_is_said_by_the_labels(source, tmp_path, capsys):
    said = shell(capsys, "inspect", source, "--labels", source.with_name("truth.tif"))
    assert "not said: give --membrane and the value" in said
    cells = np.kron(np.arange(20 * 6).reshape(6, 4, 5), np.ones((1, 20, 24))).astype(np.uint16)
    tifffile.imwrite(tmp_path / "cells.tif", cells, photometric="minisblack")
    said = shell(capsys, "inspect", source, "--labels", tmp_path / "cells.tif")
    assert "not said: give --membrane borders" in said


def test_the_side_that_is_membrane_is_seen(source, tmp_path):
    truth = tifffile.imread(source.with_name("truth.tif"))[0]
    pictures = []
    for value in (0, 7):
        labels = InspectedLabels(source=source.with_name("truth.tif"), membrane=value)
        look(source, labels=labels, picture=tmp_path / f"{value}.png")
        drawn = np.asarray(Image.open(tmp_path / f"{value}.png")).astype(int)
        teal = (drawn[..., 2] - drawn[..., 0] > 20).sum()
        pictures.append(teal / (truth == value).sum())
    # As many times enlarged, whichever value it is.
    assert pictures[0] == pytest.approx(pictures[1], rel=0.35)
    assert min(pictures) > 1


def test_of_two_sections_none_can_stand_out(tmp_path, capsys):
    # The same tissue in each section, with grain of its own.
    image = tissue((1, 80, 120))[0].astype(float) + np.random.default_rng(0).normal(0, 5, (6, 80, 120))
    tifffile.imwrite(tmp_path / "still.tif", np.clip(image, 0, 255).astype(np.uint8), photometric="minisblack")
    assert "too few sections to compare" in shell(capsys, "inspect", tmp_path / "still.tif", "--box", "0:2,:,:")
    assert "no section stands out (all sections looked at)" in shell(capsys, "inspect", tmp_path / "still.tif")


def test_one_screen_of_80_columns(source, capsys, monkeypatch):
    monkeypatch.chdir(source.parent)
    out = shell(capsys, "inspect", source.name, "--labels", "truth.tif", "--workspace", source.parent / "w")
    lines = out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines[1:])) <= 80
    for fact in (
        "6 sections of 80 x 120 px, uint8",
        "not stated: give --voxel-nm Z,Y,X",
        "2 values: 0 ",
        "estimated: ",
    ):
        assert fact in " ".join(out.split())


def test_black_sections_and_those_put_in_are_told(tmp_path):
    image, _ = tissue((5, 64, 64))
    image[1] = 0
    for z in (0, 1, 2, 4):
        tifffile.imwrite(tmp_path / f"s{z}.tif", image[z], photometric="minisblack")
    found = look(tmp_path, missing="mask")
    assert found.gaps == ("2 and 4",)
    # The one that was put in is black as well.
    assert "2 of the 5 sections that were looked at hold one intensity only" in found.warnings


def write_undecided(folder, kind):
    """Write a source of which ingest wants to know more, and return it with what ingest says."""
    image, _ = tissue((5, 64, 64))
    folder.mkdir()
    source = folder / "a.tif"
    if kind == "channels":
        tifffile.imwrite(source, np.stack([image, 255 - image], 1), metadata={"axes": "ZCYX"})
    elif kind == "colour":
        tifffile.imwrite(source, np.stack([image[0], image[1], image[2]], -1), photometric="rgb")
    else:
        source = folder
        for z in (0, 1, 2, 4):
            if kind == "gap":
                Image.fromarray(image[z]).save(folder / f"s{z}.png")
            else:
                both = np.stack([image[z], 255 - image[z]])
                tifffile.imwrite(folder / f"s{z}.tif", both, metadata={"axes": "CYX"})
    with pytest.raises(InputError) as refused:
        ingest(IngestConfig(name="v", source=source, voxel_nm=(50, 4, 4)), Workspace(folder.parent / "w"))
    return source, str(refused.value)


@pytest.mark.parametrize(
    ("kind", "chosen", "sections"),
    [
        ("channels", {"channel": 0}, 5),
        ("colour", {"channel": 0}, 1),
        ("gap", {"missing": "copy"}, 5),
        ("gap, channels", {"channel": 0, "missing": "copy"}, 5),
    ],
)
def test_what_wants_a_choice_is_shown_with_the_refusal_of_ingest(tmp_path, capsys, kind, chosen, sections):
    source, refusal = write_undecided(tmp_path / "s", kind)
    found = look(source)
    assert (found.refusal, found.tentative, found.shape[0]) == (refusal, chosen, sections)
    assert not any(flag.kind == "copy" for flag in found.flags)
    capsys.readouterr()
    assert exit_code_of(lambda: app(["inspect", str(source)], standalone_mode=False)) == 1
    out, told = capsys.readouterr()
    assert told == f"error: {refusal}\n"
    assert " ".join(f"--{key} {value}" for key, value in chosen.items()) + ", for this look only" in out
    words = shlex.split(out.partition("next:")[2].replace("\\\n", ""))
    assert all(words[words.index(f"--{key}") + 1] == "VALUE" for key in chosen)


def test_a_source_that_is_whole_is_refused_nothing(source):
    found = look(source)
    assert (found.refusal, found.tentative) == (None, {})


def test_a_mask_in_place_of_the_image_is_told(source, tmp_path, capsys):
    truth = source.with_name("truth.tif")
    warnings = [*look(truth).warnings]
    result = ingest(IngestConfig(name="v", source=truth, voxel_nm=(50, 4, 4)), Workspace(tmp_path / "w"))
    for told in (warnings, result.warnings):
        assert any("holds only two values (0 and 7), which looks like labels" in one for one in told)
    assert not any("looks like labels" in one for one in look(source).warnings)
    # What is said of tissue would mislead, and so would the command that takes it for an image.
    out = shell(capsys, "inspect", truth)
    assert "--labels" in out.split("next:")[1]
    assert "segem inspect IMAGE" in out
    assert not any(word in out for word in ("ingest", "quality", "outside", "estimated"))


def test_cells_in_place_of_the_image_are_told(tmp_path):
    source = tmp_path / "ids.tif"
    cells = np.kron(np.arange(1, 5 * 36 + 1).reshape(5, 6, 6), np.ones((1, 16, 16))).astype(np.uint16)
    tifffile.imwrite(source, cells, photometric="minisblack")
    found = look(source)
    result = ingest(IngestConfig(name="v", source=source, voxel_nm=(50, 4, 4)), Workspace(tmp_path / "w"))
    for told in (found.warnings, result.warnings):
        assert any("is made of areas of one value each, which looks like labels" in one for one in told)


@pytest.mark.parametrize("number", ["\u00b2", "one", "1.5"])
def test_what_is_no_channel_is_said_plainly(source, capsys, number):
    assert exit_code_of(lambda: app(["inspect", str(source), "--channel", number], standalone_mode=False)) == 2
    assert "'--channel': must be a whole number. See" in capsys.readouterr().err
