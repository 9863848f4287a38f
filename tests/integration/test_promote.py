"""The gate: what is better passes, what does harm on any volume is kept aside, and nothing is judged on what it saw."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from typer.testing import CliRunner

from segem.cli import app
from segem.config import GateConfig, LabelSource, Manifest, Split, VolumeEntry
from segem.errors import ConfigError, InputError, ModelError
from segem.io.versions import PROMOTION, describe_standing
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.normalize import zscore
from segem.learn.artefact import Artefact, find_model, save_artefact
from segem.learn.models.registry import ZOO
from segem.records.card import ModelCard, TrainedOn
from segem.records.promotion import Promotion
from segem.stages.models.catalogue import list_trained
from segem.stages.training.gate.promote import promote
from segem.stages.training.labelled import open_labelled_volumes
from segem.stages.volumes.ingest import ingest
from tests.nets import BAND, Band

CONFIG = GateConfig(block_px=32, resamples=1000)
SPLIT = Split.model_validate({"train": [0, 1], "validation": [1, 2], "test": [2, 4]})
GOOD, FAIR = (95, 165), (115, 195)


@pytest.fixture(autouse=True)
def band(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ZOO, "band", BAND)


def volume(folder: Path, name: str, grey: tuple[int, int], membrane: float = 0.2) -> VolumeEntry:
    """Write a stack with membrane of some greys on bright ground, and black spots that K-means takes for membrane."""
    random = np.random.default_rng(3)
    kind = random.random((4, 128, 128))
    truth = (kind < membrane).astype(np.uint8)
    image = np.where(truth, random.integers(*grey, kind.shape), np.where(kind > 0.9, 20, 230)).astype(np.uint8)
    folder.mkdir(exist_ok=True)
    tifffile.imwrite(folder / f"{name}.tif", image, photometric="minisblack")
    tifffile.imwrite(folder / f"{name}-truth.tif", truth * 255, photometric="minisblack")
    labels = LabelSource(source=folder / f"{name}-truth.tif", membrane="nonzero")
    return VolumeEntry(name=name, source=folder / f"{name}.tif", voxel_nm=(50, 4, 4), labels=labels, split=SPLIT)


@pytest.fixture
def manifest(workspace: Workspace, tmp_path: Path) -> Manifest:
    """Two volumes: in the second one membrane is brighter."""
    entries = volume(tmp_path / "d", "a", (100, 160)), volume(tmp_path / "d", "b", (130, 190))
    for entry in entries:
        ingest(entry.ingest_config(), workspace)
    return Manifest(name="m", volumes=entries)


def only_a(manifest: Manifest) -> Manifest:
    return manifest.model_copy(update={"volumes": manifest.volumes[:1]})


def model(
    workspace: Workspace,
    version: str,
    greys: tuple[int, int],
    gain: float = 100.0,
    name: str = "mine",
    seen: tuple[tuple[int, int], tuple[int, int]] | None = None,
) -> Artefact:
    known = Volume.open(workspace.volume("a"))
    net = Band()
    ends = zscore(np.array(greys, np.uint8), known.statistics).tolist()
    for parameter, value in zip((net.low, net.high, net.gain), (*ends, gain), strict=True):
        torch.nn.init.constant_(parameter, value)
    parts: tuple[TrainedOn, ...] = ()
    if seen is not None:
        digest = known.attributes["source_digest"]
        none: dict[str, tuple[str, ...]] = {"train_digests": (), "validation_digests": ()}
        parts = (TrainedOn(volume="x", source_digest=digest, train=seen[0], validation=seen[1], share=1.0, **none),)
    card = ModelCard(name=name, architecture="band", threshold=0.5, trained_on=parts)
    return save_artefact(workspace.models / name / version, card, net)


def judge(workspace: Workspace, manifest: Manifest, against: str | None = "mine", force: bool = False) -> Promotion:
    decided = promote("mine", manifest, CONFIG, workspace, against=against, force=force, device="cpu")
    assert decided == Promotion.model_validate_json(
        (workspace.models / "mine" / decided.version / PROMOTION).read_text(encoding="utf-8")
    )
    return decided


def test_a_better_model_is_promoted_and_stays_in_use(workspace: Workspace, manifest: Manifest) -> None:
    model(workspace, "1", FAIR)
    better = model(workspace, "2", GOOD, seen=((0, 1), (1, 2)))
    decided = judge(workspace, only_a(manifest))
    assert (decided.promoted, decided.forced, decided.reason, decided.version) == (True, False, "", "2")
    assert decided.unknown_origin == ("incumbent",), "the card of version 1 does not say what it was trained on"
    (a,) = decided.judged
    assert (a.sections, a.iou_interval.blocks, a.harm) == ((2, 4), 16, "")
    assert a.iou.candidate == 1
    assert a.iou.incumbent == pytest.approx(0.75, abs=0.03)
    assert 0 < a.iou_interval.low < a.iou_interval.lower_bound < a.iou.difference < a.iou_interval.high
    model(workspace, "3", FAIR)
    assert find_model("mine", workspace).path == better.path
    # Without --against the promoted one is to be replaced.
    assert not judge(workspace, only_a(manifest), None).promoted


@pytest.mark.parametrize(
    ("greys", "gain", "speaks"),
    [(GOOD, -100.0, ["a", "b"]), ((0, 255), 100.0, ["a", "b"]), (GOOD, 100.0, ["b"])],
    ids=["inverted", "membrane everywhere", "good on one volume only"],
)
def test_harm_on_any_volume_keeps_a_model_aside(
    workspace: Workspace,
    manifest: Manifest,
    greys: tuple[int, int],
    gain: float,
    speaks: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = model(workspace, "1", FAIR)
    aside = model(workspace, "2", greys, gain)
    decided = judge(workspace, manifest)
    assert not decided.promoted
    assert [one.volume for one in decided.judged if one.harm] == speaks
    assert all("worse than the incumbent: IoU -0." in one.harm for one in decided.judged if one.harm)
    assert find_model("mine", workspace).path == before.path
    assert "mine still refers to version 1\n" in capsys.readouterr().err
    assert describe_standing(aside.path) == f"kept aside: {decided.reason}"
    assert [one.standing for one in list_trained(workspace)][:2] == [describe_standing(aside.path), ""]


def test_force_promotes_and_is_recorded_with_what_spoke_against_it(workspace: Workspace, manifest: Manifest) -> None:
    model(workspace, "1", FAIR)
    worse = model(workspace, "2", GOOD, -100.0)
    decided = judge(workspace, manifest, force=True)
    assert (decided.promoted, decided.forced) == (True, True)
    assert "worse than the incumbent" in decided.reason
    assert decided.who
    assert find_model("mine", workspace).path == worse.path


def test_an_equal_model_does_no_harm_and_is_not_called_forced(workspace: Workspace, manifest: Manifest) -> None:
    for version in ("1", "2"):
        model(workspace, version, FAIR)
    decided = judge(workspace, manifest, force=True)
    assert (decided.promoted, decided.forced) == (True, False)
    assert {
        (one.iou.difference, interval.low, interval.high)
        for one in decided.judged
        for interval in (one.iou_interval, one.v_rand_interval)
        if interval is not None
    } == {(0, 0, 0)}


def test_the_first_model_has_to_beat_kmeans(workspace: Workspace, manifest: Manifest) -> None:
    model(workspace, "1", (0, 50))
    decided = judge(workspace, only_a(manifest), None)
    assert (decided.promoted, decided.incumbent) == (False, None)
    assert "not surely better than K-means" in decided.reason
    with pytest.raises(ModelError, match="every version of this model was kept aside"):
        find_model("mine", workspace)
    model(workspace, "2", GOOD)
    assert judge(workspace, only_a(manifest), None).promoted


def repainted(entry: VolumeEntry, *unpainted: tuple[int, slice]) -> VolumeEntry:
    """Return a volume some rows of which, in some sections, nobody has painted."""
    assert entry.labels is not None
    labels = tifffile.imread(entry.labels.source)
    for z, rows in unpainted:
        labels[z, rows] = 128
    path = entry.labels.source.with_name(f"{entry.name}-sparse.tif")
    tifffile.imwrite(path, labels, photometric="minisblack")
    source = LabelSource(source=path, membrane="nonzero", ignore=128)
    return entry.model_copy(update={"name": f"{entry.name}-sparse", "labels": source})


def test_what_nobody_painted_has_no_part_in_the_judgement(workspace: Workspace, manifest: Manifest) -> None:
    model(workspace, "1", FAIR)
    model(workspace, "2", GOOD)
    # Of 16 tiles of 32 px, the first row is painted in the second test section, and 8 px of the next row.
    sparse = repainted(manifest.volumes[0], (2, slice(None)), (3, slice(40, None)))
    part = manifest.model_copy(update={"volumes": (sparse,)})
    with pytest.raises(InputError, match=r"too little to judge.*found 8 with labels"):
        judge(workspace, part)
    decided = promote(
        "mine",
        part,
        CONFIG.model_copy(update={"fewest_blocks": 8}),
        workspace,
        against="mine",
        device="cpu",
    )
    (a,) = decided.judged
    assert (decided.promoted, a.iou_interval.blocks) == (True, 8)
    assert a.iou.candidate == 1, "it is right wherever the truth is known"
    blank = repainted(manifest.volumes[1], (2, slice(None)), (3, slice(None)))
    with pytest.raises(InputError, match="b-sparse: nothing is known of the test sections"):
        open_labelled_volumes(manifest.model_copy(update={"volumes": (blank,)}), workspace)


@pytest.mark.parametrize(
    ("seen", "told"),
    [(((0, 3), (3, 4)), "it learned from.*section 2"), (((0, 2), (3, 4)), "it chose its threshold on.*section 3")],
)
@pytest.mark.parametrize("which", ["1", "2"])
def test_sections_that_either_model_saw_are_refused(
    workspace: Workspace, manifest: Manifest, seen: tuple[tuple[int, int], tuple[int, int]], told: str, which: str
) -> None:
    for version in ("1", "2"):
        model(workspace, version, GOOD, seen=seen if version == which else None)
    with pytest.raises(ConfigError, match=f"a: a model cannot be judged on sections {told}"):
        judge(workspace, manifest, force=True)
    assert not list(workspace.models.rglob(PROMOTION))


def test_what_cannot_be_judged_is_refused(workspace: Workspace, manifest: Manifest, tmp_path: Path) -> None:
    only = model(workspace, "1", GOOD)
    with pytest.raises(ConfigError, match="compared with itself"):
        judge(workspace, manifest)
    with pytest.raises(ConfigError, match="only a model of the workspace"):
        promote("unet-em", manifest, CONFIG, workspace, device="cpu")
    with pytest.raises(InputError, match="too little to judge"):
        promote("mine", manifest, GateConfig(), workspace, device="cpu")
    bare = manifest.model_copy(update={"volumes": (manifest.volumes[0].model_copy(update={"labels": None}),)})
    with pytest.raises(ConfigError, match="no volume of this manifest has labels"):
        judge(workspace, bare, None)
    judge(workspace, only_a(manifest), None)
    with pytest.raises(ConfigError, match="in use already"):
        promote(str(only.path), manifest, CONFIG, workspace, device="cpu")


def test_the_command_says_why_and_ends_with_1(
    workspace: Workspace, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "segem.cli.options.parse",
        lambda kind, values, **_: CONFIG if kind is GateConfig else kind.model_validate(values),
    )
    model(workspace, "1", FAIR)
    model(workspace, "2", GOOD, -100.0)
    text = json.dumps(manifest.model_dump(mode="json", exclude_none=True))
    (tmp_path / "m.yaml").write_text(text, encoding="utf-8")
    call = ["models", "promote", "mine", "--against", "mine", str(tmp_path / "m.yaml"), "--device", "cpu"]
    call += ["--workspace", str(workspace.root)]
    refused = CliRunner().invoke(app, call)
    assert refused.exit_code == 1
    assert "mine is kept aside, a: worse than the incumbent" in refused.output
    forced = CliRunner().invoke(app, [*call, "--force"])
    assert forced.exit_code == 0
    assert "The card of mine does not say what it was trained on" in forced.output
    assert "promoted by force: mine now refers to version 2" in forced.output
