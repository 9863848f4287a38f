"""The command line: what it prints, what it refuses, and its exit codes, which scripts rely on."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from segem.cli import main
from segem.errors import WorkspaceError
from segem.io.volume import Volume
from segem.io.workspace import Workspace, default_run
from segem.learn.artefact import find_model
from segem.records.scores import Report
from segem.stages.training.job import Terms

SHAPE = (3, 64, 64)


# "verify v: done in 0.2 s, 12 blocks/s", "segment v: 12%, 1.2 Mpx/s, 12 s left"
PROGRESS = re.compile(r"\w[\w -]*: (done in [\d.]+ (s|min)|\d+%)(, .*)?\n")


class Shell:
    """Runs commands in this process and returns exit code, stdout and stderr; `told` keeps the lines of progress."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
        self.told: list[str] = []
        self.monkeypatch, self.capsys, self.workspace = monkeypatch, capsys, workspace
        monkeypatch.setenv("SEGEM_WORKSPACE", str(workspace))
        monkeypatch.delenv("SEGEM_DEBUG", raising=False)

    def __call__(self, *words: object) -> tuple[int, str, str]:
        self.monkeypatch.setattr(sys, "argv", ["segem", *map(str, words)])
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = self.capsys.readouterr()
        lines = err.splitlines(keepends=True)
        self.told = [line for line in lines if PROGRESS.fullmatch(line)]
        return int(caught.value.code or 0), out, "".join(line for line in lines if line not in self.told)

    def refused(self, *words: object) -> str:
        """Run a command that must fail by the rules, and return its one line."""
        code, out, err = self(*words)
        lines = [line for line in err.splitlines() if line]
        assert code == 1, err
        assert len(lines) == 1, err
        assert lines[0].startswith("error: ")
        assert "Fix: " in lines[0], "every error says what to do"
        assert out == ""
        space = Workspace(self.workspace)
        assert space.volumes() == [], "nothing half-written may pass for a volume"
        assert not list(self.workspace.rglob("*.partial"))
        return lines[0]


@pytest.fixture
def segem(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Shell:
    return Shell(monkeypatch, capsys, tmp_path / "workspace")


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, noise(), photometric="minisblack")
    return path


def noise(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def ingest(source: Path, *more: object) -> tuple[object, ...]:
    return ("ingest", source, "--name", "v", "--voxel-nm", "50,4,4", *more)


def test_a_missing_path_is_named(segem: Shell, tmp_path: Path) -> None:
    assert "nowhere.tif" in segem.refused(*ingest(tmp_path / "nowhere.tif"))


def test_an_empty_folder_is_named(segem: Shell, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    line = segem.refused(*ingest(tmp_path / "empty"))
    assert "empty" in line
    assert "found" in line


@pytest.mark.parametrize("odd", [np.zeros((64, 65), np.uint8), np.zeros((64, 64), np.uint16)])
def test_sections_of_different_shape_or_type_are_named(segem: Shell, tmp_path: Path, odd: np.ndarray) -> None:
    folder = tmp_path / "sections"
    folder.mkdir()
    for z in range(3):
        tifffile.imwrite(folder / f"{z}.tif", odd if z == 2 else noise((64, 64)), photometric="minisblack")
    line = segem.refused(*ingest(folder))
    assert "2.tif" in line
    assert "expected" in line
    assert "found" in line


def test_a_truncated_tiff_is_refused(segem: Shell, tmp_path: Path) -> None:
    whole = tmp_path / "whole.tif"
    tifffile.imwrite(whole, noise((8, 64, 64)), compression="zlib", photometric="minisblack")
    cut = tmp_path / "cut.tif"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert "cut.tif" in segem.refused(*ingest(cut))


def test_labels_of_another_shape_are_refused(segem: Shell, stack: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.tif"
    tifffile.imwrite(labels, noise((3, 64, 60)), photometric="minisblack")
    line = segem.refused(*ingest(stack, "--labels", labels, "--membrane", "zero"))
    assert "labels.tif" in line
    assert "64" in line
    assert "60" in line


def test_labels_without_polarity_are_refused(segem: Shell, stack: Path) -> None:
    line = segem.refused(*ingest(stack, "--labels", stack))
    assert "--membrane is missing; found --labels. Fix: add --membrane (Which values mean membrane: zero, " in line


def test_a_dataset_of_labels_without_labels_is_refused(segem: Shell, stack: Path) -> None:
    line = segem.refused(*ingest(stack, "--labels-dataset", "truth"))
    assert "--labels is missing; found --labels-dataset. Fix: add --labels" in line


def test_a_png_that_is_text_is_refused(segem: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "sections"
    folder.mkdir()
    Image.fromarray(noise((64, 64))).save(folder / "0.png")
    (folder / "1.png").write_text("<html>not found</html>")
    assert "1.png" in segem.refused(*ingest(folder))


def test_an_unwritable_workspace_is_named(segem: Shell, stack: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file, not a folder")
    line = segem.refused(*ingest(stack, "--workspace", tmp_path / "file" / "workspace"))
    assert "file" in line
    assert "workspace" in line


@pytest.mark.parametrize("words", [("--voxel-nm", "50,4"), ("--voxel-nm", "0,4,4")])
def test_bad_voxel_sizes_are_refused(segem: Shell, stack: Path, words: tuple[str, str]) -> None:
    line = segem.refused("ingest", stack, "--name", "v", *words)
    assert "voxel" in line


def test_wrong_usage_is_one_line_with_code_2(segem: Shell) -> None:
    code, _, err = segem("segmentt")
    assert code == 2
    assert err.startswith("error: No such command 'segmentt'")
    assert err.endswith("See `segem --help`.\n")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "helping"),
    [(("inspect", "stack.tif", "--voxel", "4"), "segem inspect"), (("models", "show"), "segem models show")],
)
def test_wrong_options_lead_to_the_help_of_their_command(segem: Shell, words: tuple[str, ...], helping: str) -> None:
    code, _, err = segem(*words)
    assert code == 2
    assert err.endswith(f"See `{helping} --help`.\n")


def test_a_bad_manifest_is_refused_before_anything_starts(segem: Shell, tmp_path: Path) -> None:
    manifest = tmp_path / "m.yaml"
    manifest.write_text("name: m\nvolumes: {}\n")
    assert "m.yaml" in segem.refused("run", manifest)


def test_an_unknown_model_is_refused_before_anything_starts(segem: Shell, stack: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "m.yaml"
    manifest.write_text(f"name: m\nmodel: nothing\nvolumes:\n  - {{name: v, source: {stack}, voxel_nm: [50, 4, 4]}}\n")
    assert "no such model" in segem.refused("run", manifest)


def test_a_loop_has_no_workers(segem: Shell, tmp_path: Path) -> None:
    line = segem.refused("segment", "v", "--engine", "loop", "--workers", 4)
    assert "--engine dask --workers 4" in line
    assert "less than or equal to 1024" in segem.refused("segment", "v", "--workers", 2000)


@pytest.mark.parametrize(
    ("words", "engine"), [((), "loop"), (("--workers", 3), "dask"), (("--engine", "dask"), "dask")]
)
def test_workers_choose_the_engine(
    segem: Shell, stack: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[object, ...], engine: str
) -> None:
    assert segem(*ingest(stack))[0] == 0
    seen: list[Any] = []

    def stage(volume: str, run: str, config: object, execution: object, *_: object, **__: object) -> dict[str, str]:
        seen.append(execution)
        return {}

    monkeypatch.setattr("segem.stages.segmentation.segment.segment", stage)
    assert segem("segment", "v", *words)[0] == 0
    assert [found.engine for found in seen] == [engine]


def test_doubtful_labels_are_a_warning_in_a_line_of_its_own(segem: Shell, stack: Path) -> None:
    code, _, err = segem(*ingest(stack, "--labels", stack, "--membrane", "nonzero"))
    assert code == 0
    polarity, values = err.splitlines()
    assert polarity == "warning: v: 100% of the labels is membrane: check the polarity (now: nonzero)"
    assert values.startswith("warning: v: the labels hold 256 values (0, 1, 2, 3, 4, ...), where nonzero expects two")


def test_labels_come_from_a_dataset(segem: Shell, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "both.h5", "w") as file:
        file["raw"] = noise()
        file["truth"] = noise() // 224
    words = ingest(tmp_path / "both.h5", "--dataset", "raw", "--labels", tmp_path / "both.h5", "--membrane", 1)
    code, _, err = segem(*words, "--labels-dataset", "truth")
    assert (code, err) == (0, "")
    stored = Volume.open(segem.workspace / "volumes" / "v.ome.zarr").label("truth")
    np.testing.assert_array_equal(np.asarray(stored[:]), noise() // 224)


def test_ingest_again_reads_again(segem: Shell, stack: Path) -> None:
    skipped = [json.loads(segem(*ingest(stack, "--json", *more))[1])["skipped"] for more in ((), (), ("--again",))]
    assert skipped == [False, True, False]


def test_a_model_is_trained_with_what_its_card_shall_say(
    segem: Shell, stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {}

    def stage(*_: object, **given: object) -> dict[str, str]:
        seen.update(given)
        return {}

    monkeypatch.setattr("segem.stages.training.train.train", stage)
    manifest = tmp_path / "m.yaml"
    manifest.write_text(f"name: m\nvolumes:\n  - {{name: v, source: {stack}, voxel_nm: [50, 4, 4]}}\n")
    assert segem("train", manifest, "--out", "mine", "--licence", "CC-BY-4.0", "--citation", "Us 2026")[0] == 0
    assert seen["terms"] == Terms("CC-BY-4.0", "Us 2026")


def test_what_a_training_is_told_reaches_it(segem: Shell, stack: Path, tmp_path: Path) -> None:
    manifest, labels = tmp_path / "m.yaml", f"{{source: {stack}, membrane: zero}}"
    manifest.write_text(
        f"name: m\nvolumes:\n  - {{name: v, source: {stack}, voxel_nm: [50, 4, 4], labels: {labels}}}\n"
    )
    given = (manifest, "--out", "mine", "--steps", "1")
    refused = segem.refused("train", *given, "--model", "segnet", "--deep-supervision")
    assert "segnet: this net has no coarser outputs" in refused
    assert "--teach needs --teacher" in segem.refused("train", *given, "--teach", "2")
    assert "nobody: no such model" in segem.refused("train", *given, "--teacher", "nobody")
    for command in ("train", "retrain"):
        refused = segem.refused(command, *given, "--defects", "1.5")
        assert "--defects: must be less than or equal to 1; found 1.5" in refused
        for option in ("--share", "--remember"):
            assert f"{option} needs --rehearse" in segem.refused(command, *given, option, "2")
        refused = segem.refused(command, *given, "--rehearse", manifest)
        assert "--rehearse needs a base model. Fix: name with --from" in refused


def test_weights_to_start_from_are_given_once(segem: Shell, stack: Path, tmp_path: Path) -> None:
    manifest, labels = tmp_path / "m.yaml", f"{{source: {stack}, membrane: zero}}"
    manifest.write_text(
        f"name: m\nvolumes:\n  - {{name: v, source: {stack}, voxel_nm: [50, 4, 4], labels: {labels}}}\n"
    )
    given = ("train", manifest, "--out", "mine", "--from", "unet-em", "--pretrained", "imagenet")
    assert "give either --from or --pretrained" in segem.refused(*given)
    assert "found --model segnet" in segem.refused(*given[:-2], "--model", "segnet")
    assert "this name is taken" in segem.refused("train", manifest, "--out", "unet-em")


def test_what_is_there_is_replaced_only_when_told_to(segem: Shell, stack: Path, tmp_path: Path) -> None:
    other, out = tmp_path / "other.tif", tmp_path / "out.tif"
    tifffile.imwrite(other, 255 - noise(), photometric="minisblack")
    lines = []
    for words, option in (
        (ingest(stack), None),
        (ingest(other), "--replace"),
        (("baseline", "v", "--run", "r"), None),
        (("baseline", "v", "--run", "r", "--method", "watershed"), "--replace"),
        (("export", "r", "v", "baseline", out), None),
        (("export", "r", "v", "raw", out), "--force"),
    ):
        if option is not None:
            code, _, err = segem(*words)
            assert (code, option in err) == (1, True)
            lines.append(err)
        assert segem(*words, *filter(None, [option]))[0] == 0
    assert [line.count("\n") for line in lines] == [1, 1, 1], "an error is one line"
    assert np.array_equal(tifffile.imread(out), 255 - noise())


def test_an_old_report_is_not_shown_for_a_run_that_made_none(
    segem: Shell, stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = segem.workspace / "runs" / "r" / "report"
    folder.mkdir(parents=True)
    empty = Report(run="r", model=None, created="", segem_version="", environment={}, volumes=())
    old = empty.model_dump(mode="json")
    (folder / "report.json").write_text(json.dumps(old))
    manifest = tmp_path / "m.yaml"
    manifest.write_text(f"name: m\nvolumes:\n  - {{name: v, source: {stack}, voxel_nm: [50, 4, 4]}}\n")

    def refuse(*_: object, **__: object) -> None:
        raise WorkspaceError("no space left", fix="free some")

    def report_and_refuse(*_: object, **__: object) -> None:
        (folder / "new").write_text(json.dumps(old))
        (folder / "new").rename(folder / "report.json")
        refuse()

    monkeypatch.setattr("flows.launch.local.run_campaign", refuse)
    assert "no space left" in segem.refused("run", manifest, "--run", "r")
    monkeypatch.setattr("flows.launch.local.run_campaign", report_and_refuse)
    code, out, err = segem("run", manifest, "--run", "r", "--json")
    assert (code, json.loads(out), err) == (1, old, "error: no space left. Fix: free some\n")


def test_steps_of_a_volume_share_a_run_that_nobody_named(segem: Shell, stack: Path) -> None:
    name = "v" * 95
    assert segem("ingest", stack, "--name", name, "--voxel-nm", "50,4,4")[0] == 0
    run = default_run(name)
    assert f"run: {run}\n" in segem("baseline", name)[1]
    assert json.loads(segem("segment", name, "--json")[1])["run"] == run
    assert segem("verify", run) == (0, f"{run}: whole\n", "")
    assert "not a volume name" in segem("baseline", "../v")[2]


def test_single_steps_from_stack_to_report(segem: Shell, tmp_path: Path) -> None:
    code, out, _ = segem("synth", tmp_path / "s", "--shape", "2,128,128", "--seed", 3, "--json")
    assert code == 0
    assert json.loads(out)["raw"] == str(tmp_path / "s" / "raw.tif")
    labels = ("--labels", tmp_path / "s" / "truth.tif", "--membrane", "nonzero")
    code, out, _ = segem(*ingest(tmp_path / "s" / "raw.tif", *labels, "--json"))
    assert code == 0
    assert json.loads(out)["shape"] == [2, 128, 128]
    assert segem("baseline", "v", "--run", "r")[0] == 0
    assert segem("segment", "v", "--run", "r")[0] == 0
    assert segem("verify", "r") == (0, "r: whole\n", "")
    assert any(re.match("verify segment of v: done in ", line) for line in segem.told), "even a short stage says so"
    scores = json.loads(segem("evaluate", "r", "--json")[1])
    assert 0 < scores["volumes"][0]["iou"]["baseline"] < 1
    report = json.loads(segem("report", "r", "--json")[1])
    assert report["run"] == "r"
    assert Path(report["index"]).is_file()
    exported = json.loads(segem("export", "r", "v", "membrane", tmp_path / "m.tif", "--json")[1])
    assert exported == {"run": "r", "volume": "v", "layer": "membrane", "path": str(tmp_path / "m.tif")}
    assert tifffile.imread(tmp_path / "m.tif").shape == (2, 128, 128)

    next((segem.workspace / "runs" / "r" / "v.ome.zarr" / "labels" / "membrane").rglob("c/0/0/0")).unlink()
    code, _, err = segem("verify", "r")
    assert code == 1
    assert err.startswith("error: v: segment block (0, 0, 0)")
    for command in ("report", "evaluate"):
        code, out, err = segem(command, "r")
        assert code == 1, "a result that lacks a volume is no success"
        assert (len(err.splitlines()), err[:10]) == (1, "error: v: ")
        assert "run" in out


def test_models_are_listed_and_shown(segem: Shell) -> None:
    code, out, _ = segem("models", "list")
    assert code == 0
    assert "1,942,289" in out
    assert "unet-em" in out
    assert f"{find_model('unet-em').card.scores[0].iou:.3f}" in out
    listed = json.loads(segem("models", "list", "--json")[1])
    assert "unet" in {net["name"] for net in listed["architectures"]}
    assert "unet-em" in {model["name"] for model in listed["models"]}
    code, out, _ = segem("models", "show", "unet")
    assert code == 0
    assert "Ronneberger" in out
    assert "context_sections" in out
    assert json.loads(segem("models", "show", "unet", "--json")[1])["architecture"]["stride_px"] == 16
    card = json.loads(segem("models", "show", "unet-em", "--json")[1])
    assert card["architecture"] == "unet"
    assert "NC" in card["licence"]
    assert card["scores"]


def test_a_baseline_by_another_method(segem: Shell, tmp_path: Path) -> None:
    assert segem("synth", str(tmp_path / "s"), "--shape", "1,96,96")[0] == 0
    source = next((tmp_path / "s").glob("*.tif"))
    assert segem("ingest", str(source), "--name", "v", "--voxel-nm", "50,4,4")[0] == 0
    code, out, _ = segem("baseline", "v", "--run", "r", "--method", "watershed", "--json")
    assert code == 0
    assert 0 < json.loads(out)["membrane_fraction"] < 1
    assert "no such layer" in segem("export", "r", "v", "kmeans", tmp_path / "b.tif")[2]
    assert segem("export", "r", "v", "baseline", tmp_path / "b.tif")[0] == 0
    assert set(np.unique(tifffile.imread(tmp_path / "b.tif"))) == {0, 255}
    assert "sigma_px smooths for kmeans" in segem("baseline", "v", "--method", "ncut", "--sigma-px", "1")[2]


def test_doctor_finds_what_is_needed(segem: Shell) -> None:
    code, out, _ = segem("doctor", "--json")
    findings = {finding["topic"]: finding for finding in json.loads(out)}
    assert code == 0
    assert findings["torch"]["state"] == "ok"
    # On a nearly full disk this is a note.
    assert findings["workspace"]["state"] in {"ok", "note"}
    assert findings["workspace"]["text"].startswith(f"{segem.workspace} can be made, ")
    assert not segem.workspace.exists(), "nothing is made of a question"
    segem.workspace.mkdir()
    assert f"{segem.workspace} is writable, " in segem("doctor")[1]
    assert list(segem.workspace.iterdir()) == []


COMMANDS = "demo run ingest baseline segment evaluate report verify export train synth doctor bench models"


@pytest.mark.parametrize("command", COMMANDS.split())
def test_every_command_teaches_by_an_example(segem: Shell, command: str) -> None:
    words = (command, "list") if command == "models" else (command,)
    code, out, _ = segem(*words, "--help")
    assert code == 0
    assert "Example:" in out


def test_help_needs_no_heavy_library() -> None:
    code = "import sys\nimport segem.cli\nprint([m for m in ('torch', 'prefect', 'monai', 'zarr') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "[]"
