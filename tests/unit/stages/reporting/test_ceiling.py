"""Two people label the same sections: how well they agree is the ceiling of every score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from segem.config import IngestConfig, load_manifest
from segem.errors import ConfigError
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.metrics.iou import Confusion
from segem.kernels.truth import UNKNOWN
from segem.records.intervals import Interval
from segem.records.scores import VolumeScores
from segem.stages.reporting.evaluate import evaluate
from segem.stages.reporting.read import read_report
from segem.stages.reporting.write import report
from segem.stages.volumes.ingest import ingest
from tests.fabricate import add_model, guess, new_workspace, tissue

IMAGE, TRUTH = tissue((6, 144, 144))
# The second person draws every line two pixels further down.
SECOND = np.roll(TRUTH, 2, axis=1)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labels")
    painted = SECOND.copy()
    painted[:, :72] = 9
    for name, voxels in {"image": IMAGE, "anna": TRUTH, "bert": SECOND, "half": painted}.items():
        tifffile.imwrite(folder / f"{name}.tif", voxels, photometric="minisblack")
    return folder


def configure(files: Path, second: str | None = "bert", **more: Any) -> IngestConfig:
    given = {"source": files / f"{second}.tif", "membrane": 1} | more
    return IngestConfig.model_validate(
        {"name": "em", "source": files / "image.tif", "voxel_nm": (50, 16, 16)}
        | {"labels": {"source": files / "anna.tif", "membrane": 1}}
        | ({} if second is None else {"second_labels": given})
    )


def score(space: Workspace) -> VolumeScores:
    add_model(space, "r", "em", guess(TRUTH))
    (volume,) = evaluate("r", space).volumes
    return volume


def label(space: Workspace, name: str) -> NDArray[np.uint8]:
    return np.asarray(Volume.open(space.volume("em")).label(name)[:])


def test_the_ceiling_is_what_the_second_labels_would_score_as_a_mask(files: Path, tmp_path: Path) -> None:
    space = new_workspace(tmp_path / "w")
    ingest(configure(files), space)
    assert np.array_equal(label(space, "truth"), TRUTH)
    assert np.array_equal(label(space, "truth-second"), SECOND)
    add_model(space, "r", "em", guess(TRUTH))
    written = report("r", space)
    (volume,) = read_report(written.json.parent).volumes
    ceiling = volume.ceiling
    assert ceiling is not None
    assert (ceiling.source, ceiling.known_fraction) == ("second labels bert.tif", 1.0)
    agreed = Confusion.count(TRUTH, SECOND)
    assert ceiling.scores["iou"] == agreed.iou < 1
    assert {"precision", "v_rand", "v_info", "cl_dice", "merges"} <= ceiling.scores.keys()
    for name in ("iou", "precision", "recall", "v_rand", "v_info"):
        interval = ceiling.intervals[name]
        assert isinstance(interval, Interval)
        assert interval.low <= ceiling.scores[name] <= interval.high
        assert volume.bands[name].ceiling == ceiling.scores[name]
    page = written.index.read_text()
    assert "on the 100.0 % of the voxels that both have labelled, second labels bert.tif reach IoU" in page
    assert ">second person</text>" in page
    assert f"em,all,second,second labels bert.tif,iou,{agreed.iou:.6f}," in written.csv.read_text()


def test_people_are_compared_only_where_both_have_labelled(files: Path, tmp_path: Path) -> None:
    space = new_workspace(tmp_path / "w")
    ingest(configure(files, "half", ignore=9), space)
    assert (label(space, "truth-second")[:, :72] == UNKNOWN).all()
    volume = score(space)
    assert volume.ceiling is not None
    assert volume.ceiling.known_fraction == 0.5
    assert volume.ceiling.scores["iou"] == Confusion.count(TRUTH[:, 72:], SECOND[:, 72:]).iou
    assert volume.known_fraction == 1.0, "the scores themselves are of all that the first has labelled"


def test_one_who_agrees_throughout_is_a_ceiling_of_one(files: Path, tmp_path: Path) -> None:
    space = new_workspace(tmp_path / "w")
    ingest(configure(files, "anna"), space)
    ceiling = score(space).ceiling
    assert ceiling is not None
    assert [ceiling.scores[name] for name in ("iou", "v_rand", "cl_dice", "adapted_rand_error")] == [1, 1, 1, 0]


def test_second_labels_are_added_to_a_volume_and_not_taken_away(files: Path, tmp_path: Path) -> None:
    space = new_workspace(tmp_path / "w")
    ingest(configure(files, None), space)
    assert score(space).ceiling is None
    assert not ingest(configure(files), space).skipped
    assert ingest(configure(files), space).skipped
    with pytest.raises(ConfigError, match="there is another volume of this name"):
        ingest(configure(files, "half"), space)
    assert np.array_equal(label(space, "truth-second"), SECOND)


def test_what_a_manifest_says_of_second_labels(files: Path) -> None:
    lines = "name: m\nvolumes:\n- name: em\n  source: image.tif\n  voxel_nm: [50, 16, 16]\n"
    second = "  second_labels: {source: bert.tif, membrane: 1}\n"
    path = files / "manifest.yaml"
    path.write_text(lines + "  labels: {source: anna.tif, membrane: 1}\n" + second)
    (entry,) = load_manifest(path).volumes
    assert entry.second_labels is not None
    assert entry.second_labels.source == files / "bert.tif"
    path.write_text(lines + second)
    with pytest.raises(ConfigError, match="second_labels are compared with labels, and there are none"):
        load_manifest(path)


def test_volumes_without_second_labels_keep_their_hash(files: Path) -> None:
    """Else every volume would be ingested again, and no run be resumed, after an update of segem."""
    alone = configure(files, None)
    assert "second_labels" not in alone.model_dump()
    assert alone.config_hash() != configure(files).config_hash()
