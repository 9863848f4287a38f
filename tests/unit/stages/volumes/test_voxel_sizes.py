"""The voxel size of a volume: from the user or the source, noted, shown, and compared with what a model learned at."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mrcfile
import numpy as np
import pytest

from segem.cli import main
from segem.config import IngestConfig, LabelSource, TrainConfig, parse
from segem.errors import ConfigError, InputError
from segem.geometry import VoxelSize
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.learn.artefact import find_model
from segem.records.card import LearnedAt, ModelCard
from segem.stages.segmentation.segment import warn_of_pixel_size
from segem.stages.training.provenance import record_voxel_sizes
from segem.stages.volumes.ingest import ingest

DATA = np.random.default_rng(0).integers(0, 255, (3, 20, 30)).astype(np.uint16)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "w")


def mrc(path: Path, size: tuple[float, float, float] = (40, 40, 500), data: np.ndarray = DATA) -> Path:
    """Write a volume; the size is in Angstrom along (x, y, z)."""
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(data)
        file.set_volume()
        file.voxel_size = size
    return path


def test_a_source_that_states_its_size_needs_no_other(workspace: Workspace, tmp_path: Path) -> None:
    config = IngestConfig(name="v", source=mrc(tmp_path / "a.mrc"))
    made = ingest(config, workspace)
    assert (made.voxel_nm, made.voxel_from) == (pytest.approx((50, 4, 4)), "the header of the MRC file")
    volume = Volume.open(workspace.volume("v"))
    assert volume.voxel_size.zyx == pytest.approx((50, 4, 4))
    noted = volume.attributes["voxel"]
    assert (noted["origin"], noted["trusted"]) == ("the header of the MRC file", False)
    assert noted["stated"]["zyx_nm"] == pytest.approx([50, 4, 4])
    again = ingest(config, workspace)
    assert again.skipped
    assert (again.voxel_nm, again.voxel_from) == (made.voxel_nm, made.voxel_from)


def test_a_size_that_the_source_contradicts_needs_to_be_insisted_on(workspace: Workspace, tmp_path: Path) -> None:
    source = mrc(tmp_path / "a.mrc")
    with pytest.raises(
        InputError, match=r"a\.mrc: the voxel size is not the one that the source states, along y and x"
    ):
        ingest(IngestConfig(name="v", source=source, voxel_nm=(50, 8, 8)), workspace)
    assert workspace.volumes() == []
    made = ingest(IngestConfig(name="v", source=source, voxel_nm=(50, 8, 8), trust_voxel=True), workspace)
    assert (made.voxel_nm, made.voxel_from) == ((50, 8, 8), "given")
    noted = Volume.open(workspace.volume("v")).attributes["voxel"]
    assert noted["trusted"]
    assert noted["stated"]["zyx_nm"] == pytest.approx([50, 4, 4]), "what was overruled stays on record"


def test_one_size_does_not_silently_become_another(workspace: Workspace, tmp_path: Path) -> None:
    source = mrc(tmp_path / "a.mrc")
    ingest(IngestConfig(name="v", source=source, voxel_nm=(50, 8, 8), trust_voxel=True), workspace)
    with pytest.raises(ConfigError, match="another volume of this name"):
        ingest(IngestConfig(name="v", source=source), workspace)


def test_labels_of_another_size_are_warned_of(workspace: Workspace, tmp_path: Path) -> None:
    labels = mrc(tmp_path / "t.mrc", (80, 80, 500), (DATA > 200).astype(np.uint16))
    truth = LabelSource(source=labels, membrane="nonzero")
    made = ingest(IngestConfig(name="v", source=mrc(tmp_path / "a.mrc"), labels=truth), workspace)
    assert any("states voxels of 50,8,8 nm" in warning for warning in made.warnings)
    mrc(labels, (40, 40, 500), (DATA > 200).astype(np.uint16))
    made = ingest(IngestConfig(name="v", source=tmp_path / "a.mrc", labels=truth), workspace, again=True)
    assert made.warnings == ()


def test_a_manifest_may_leave_the_size_to_the_source() -> None:
    parsed = parse(IngestConfig, {"name": "v", "source": "a.mrc", "trust_voxel": True}, where="m.yaml")
    assert (parsed.voxel_nm, parsed.trust_voxel) == (None, True)


def segem(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["segem", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        main()
    out, err = capsys.readouterr()
    return int(stopped.value.code or 0), out, err


def test_the_command_line_shows_where_the_size_is_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEGEM_WORKSPACE", str(tmp_path / "w"))
    source = mrc(tmp_path / "a.mrc")
    code, out, err = segem(monkeypatch, capsys, "ingest", source, "--name", "v")
    assert code == 0, err
    assert "voxel_from: the header of the MRC file" in out
    code, _, err = segem(monkeypatch, capsys, "ingest", source, "--name", "u", "--voxel-nm", "4,4,50")
    assert code == 1
    assert "Fix: leave --voxel-nm out" in err
    code, out, err = segem(
        monkeypatch, capsys, "ingest", source, "--name", "u", "--voxel-nm", "4,4,50", "--trust-voxel", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["voxel_nm"] == [4, 4, 50]


CARD = ModelCard(name="m", architecture="unet", threshold=0.5)
LEARNED = CARD.model_copy(update={"learned_at": LearnedAt(pixel_nm=(4, 6), section_nm=(30, 50))})


@pytest.mark.parametrize("pixel", [2.7, 4, 5, 6, 8.9])
def test_pixels_near_those_that_were_learned_at_need_no_warning(pixel: float) -> None:
    assert list(warn_of_pixel_size(VoxelSize(200, pixel, pixel), LEARNED)) == []


@pytest.mark.parametrize(("y", "x"), [(2.6, 2.6), (9.1, 9.1), (4, 9.1), (2.6, 4), (4000, 4000)])
def test_pixels_far_from_those_are_warned_of_with_both_numbers(y: float, x: float) -> None:
    (warning,) = warn_of_pixel_size(VoxelSize(50, y, x), LEARNED)
    assert f"pixels of {y:g} x {x:g} nm, and m learned at 4 to 6 nm" in warning
    assert list(warn_of_pixel_size(VoxelSize(50, y, x), CARD)) == [], "of other cards nothing is known"


def test_the_bundled_model_says_what_it_learned_at() -> None:
    model = find_model("unet-em")
    assert model.card.learned_at == LearnedAt(pixel_nm=(4.0, 6.0), section_nm=(30.0, 50.0))


def test_a_card_says_which_pixel_sizes_crops_were_resampled_to() -> None:
    volume: Any = SimpleNamespace(voxel_size=VoxelSize(50, 4, 4), shape=(3, 512, 600))
    one: Any = SimpleNamespace(name="v", volume=volume)

    def learned(**settings: Any) -> LearnedAt:
        return record_voxel_sizes([one], ["v"], TrainConfig(steps=1, **settings))

    assert learned() == LearnedAt(pixel_nm=(4, 4), section_nm=(50, 50))
    assert learned(pixel_nm=(3, 6)).pixel_nm == (3, 6)
    # A crop of 256 pixels shows at most the whole section of 512, which is 8 nm a pixel.
    assert learned(pixel_nm=(3, 12)).pixel_nm == (3, 8)
