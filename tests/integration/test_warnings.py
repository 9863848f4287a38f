"""What is costly, inexact or mistyped is told, with what to do about it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from segem.config import SegmentConfig
from segem.io.workspace import Workspace
from segem.learn.artefact import Artefact
from segem.stages.reporting.evaluate import evaluate
from segem.stages.segmentation.segment import segment
from tests.fabricate import add_baseline, add_volume, tissue
from tests.integration.conftest import make_volume
from tests.integration.test_cli import Shell, segem
from tests.integration.test_segment import QUIET

__all__ = ["segem"]


@pytest.mark.usefixtures("warnings_on_stderr")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tile_px": 64}, None),
        ({"halo_px": 0}, None),
        ({"tile_px": 16}, "each pixel is computed "),
        ({"tile_px": 64, "halo_px": 0}, "inexact near the borders of tiles: the halo is 0 px, and tiny needs "),
    ],
)
def test_a_costly_or_inexact_tiling_is_warned_of(
    workspace: Workspace,
    artefact: Artefact,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, int],
    said: str | None,
) -> None:
    make_volume(workspace, tmp_path / "source", (1, 128, 128))
    segment("noise", "r", SegmentConfig(model=artefact.card.name, **changes), QUIET, workspace)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    (volume,) = evaluate("r", workspace).volumes
    assert [bool(said) and line.startswith(f"warning: noise: {said}") for line in lines] == [True] * bool(said)
    assert [line for line in volume.warnings if f"warning: noise: {line}" in lines] == [
        line.removeprefix("warning: noise: ") for line in lines
    ]


def test_a_mistyped_workspace_is_told_from_a_mistyped_volume(segem: Shell, tmp_path: Path) -> None:
    commands = ("segment v", "baseline v", "crf v --of r", "verify r", "report r", "evaluate r", "export r v raw o.tif")
    for words in commands:
        assert "there is no workspace here" in segem.refused(*words.split(), "--workspace", tmp_path / "nowhere")
    Workspace(segem.workspace).prepare()
    image, _ = tissue((1, 32, 32))
    add_volume(Workspace(segem.workspace), "cortex", image)
    for words in ("segment cortx", "baseline cortx", "crf cortx --of r"):
        code, _, err = segem(*words.split())
        assert (code, "error: cortx: no such volume; found volumes in " in err) == (1, True)
        assert ": cortex. Fix: " in err


def test_an_architecture_is_no_model(segem: Shell) -> None:
    Workspace(segem.workspace).prepare()
    image, _ = tissue((1, 32, 32))
    add_volume(Workspace(segem.workspace), "cortex", image)
    err = segem("segment", "cortex", "--model", "fcn8s")[2]
    assert err.startswith("error: fcn8s: this is an architecture, which has learned nothing yet, and no trained model")
    assert "trained models: unet-em" in err
    err = segem("models", "show", "nosuch")[2]
    assert err.startswith("error: nosuch: neither a trained model nor an architecture; found trained models: unet-em")
    assert "architectures: deeplab-v1, " in err


def test_architectures_are_listed_and_measured_by_name(segem: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segem.stages.models.zoo.MEASURED_PX", 64)
    code, out, err = segem("models", "list", "fullr", "--measure", "--json")
    (net,) = json.loads(out)["architectures"]
    assert (code, net["name"]) == (0, "fullres")
    assert err == f"fullres: {net['megapixels_per_second']:.2f} Mpx/s\n"
    assert "no such architecture" in segem("models", "list", "nosuch")[2]


def test_scores_are_a_table_for_people_and_json_for_programs(segem: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(segem.workspace)
    workspace.prepare()
    image, truth = tissue((1, 48, 48))
    add_volume(workspace, "fly", image, truth)
    add_baseline(workspace, "r", "fly", truth, method="watershed")
    assert json.loads(segem("evaluate", "r")[1])["volumes"][0]["iou"]["baseline"] == 1.0
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    out = segem("evaluate", "r")[1]
    assert "membrane IoU, run r" in out
    assert "watershed" in out
    assert json.loads(segem("evaluate", "r", "--json")[1])["run"] == "r"
