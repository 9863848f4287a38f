"""Whether labelling more is worth it, and which sections: on synthetic tissue, also when killed in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import yaml
from scipy import ndimage

from segem.cli import main
from segem.cli.show import show_label_next, show_learning_curve
from segem.config import LearningCurveConfig, Manifest, SynthConfig, TrainConfig, VolumeEntry, load_manifest
from segem.errors import ConfigError, WorkspaceError
from segem.io.learning_curve import CHART, CURVE, POINTS, RANKING, locate_learning_curve
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.normalize import zscore
from segem.kernels.synth import synthesize
from segem.learn.artefact import list_models, load_artefact, save_artefact
from segem.learn.models.registry import ZOO
from segem.records.card import ModelCard
from segem.records.label_next import LabelNext
from segem.records.learning_curve import Arm, Estimate, LearningCurveResult, Trial
from segem.stages.training import learning_curve as stage
from segem.stages.training.label_next import label_next
from segem.stages.training.learning_curve import choose_windows, learning_curve, list_counts
from segem.stages.training.train import run_training, train
from segem.stages.volumes.ingest import ingest
from tests.nets import BAND, Band

CONFIG = LearningCurveConfig(seeds=2, more=4, resamples=1000)
TRAINING = TrainConfig(architecture={"features": 2, "depth": 2}, steps=3, batch=1, crop_px=64, defects=0.0)
STACKS = int(os.environ.get("SEGEM_STACKS", "4"))
"""In how many stacks a section is spoiled."""
SPLIT = {"train": [0, 4], "validation": [4, 5], "test": [5, 6]}


pytestmark = pytest.mark.usefixtures("one_thread")


def manifest(
    folder: Path,
    split: dict[str, Any] | None = SPLIT,
    unlabelled: Callable[[np.ndarray], np.ndarray] | None = None,
    size: int = 64,
    stacks: Sequence[int] = (2,),
) -> Path:
    """Write six labelled sections of tissue, and stacks of five without labels: `unlabelled` changes the middle one.

    Volumes are called after the folder too: one name is one source.
    """
    folder.mkdir(exist_ok=True)
    em = synthesize(SynthConfig(shape=(6, size, size), seed=1))
    tifffile.imwrite(folder / "t.tif", em.image, photometric="minisblack")
    tifffile.imwrite(folder / "l.tif", em.truth * 255, photometric="minisblack")
    tissue: dict[str, Any] = {"name": f"{folder.name}-t", "source": "t.tif", "voxel_nm": [50, 4, 4]}
    tissue["labels"] = {"source": "l.tif", "membrane": "nonzero"}
    volumes = [tissue | ({"split": split} if split else {})]
    for stack in stacks if unlabelled is not None else ():
        image = synthesize(SynthConfig(shape=(5, size, size), seed=stack)).image
        image[2] = np.clip(unlabelled(image[2].astype(float)), 0, 255).astype(np.uint8)
        tifffile.imwrite(folder / f"u{stack}.tif", image, photometric="minisblack")
        volumes.append({"name": f"{folder.name}-u{stack}", "source": f"u{stack}.tif", "voxel_nm": [50, 4, 4]})
    (folder / "m.yaml").write_text(yaml.safe_dump({"name": "m", "volumes": volumes}))
    return folder / "m.yaml"


def curve(source: Manifest, space: Workspace, name: str = "c", **changes: Any) -> LearningCurveResult:
    options: dict[str, Any] = {"starts": ("scratch",), "config": CONFIG, "training": TRAINING} | changes
    config, training = options.pop("config"), options.pop("training")
    return learning_curve(source, name, config, training, space, device="cpu", **options)


def test_numbers_double_up_to_all_there_are() -> None:
    assert [list_counts(n) for n in (1, 2, 3, 16, 20)] == [
        [1],
        [1, 2],
        [1, 2, 3],
        [1, 2, 4, 8, 16],
        [1, 2, 4, 8, 16, 20],
    ]


@pytest.mark.parametrize("parts", [{"a": (3, 10)}, {"a": (0, 5), "b": (4, 6), "c": (1, 8)}])
def test_windows_are_contiguous_within_the_part_and_as_many_as_asked_for(parts: dict[str, tuple[int, int]]) -> None:
    total = sum(stop - start for start, stop in parts.values())
    for count in range(1, total + 1):
        for turn in range(3):
            taught = choose_windows(parts, count, turn, 3)
            assert sum(stop - start for start, stop in taught.values()) == count
            assert all(parts[v][0] <= start < stop <= parts[v][1] for v, (start, stop) in taught.items())
    assert choose_windows(parts, total, 1, 3) == parts


def test_a_curve_is_made_of_trainings_like_any_other(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = load_manifest(manifest(tmp_path / "d"))
    found = curve(source, workspace)
    home = locate_learning_curve("c", workspace)
    assert LearningCurveResult.model_validate_json((home / CURVE).read_text()) == found
    assert (found.sections, found.test, found.left_out) == (4, {"d-t": (5, 6)}, "")
    (arm,) = found.arms
    assert [(p.sections, p.seed, p.train["d-t"]) for p in arm.points] == [
        *((1, 0, (0, 1)), (1, 1, (3, 4))),
        *((2, 0, (0, 2)), (2, 1, (2, 4))),
        *((4, 0, (0, 4)), (4, 1, (0, 4))),
    ]
    # With all sections it is what `segem train` makes; no two numbers of sections share a seed.
    seeded = TRAINING.model_copy(update={"seed": 2 * 4 + 1})
    alike = train(source, "alike", seeded, workspace, device="cpu")
    assert arm.points[-1].iou == alike.scores[0].iou
    # The nets of all sections stay, and none of them is a model of the workspace.
    assert arm.members == ("scratch-4-0", "scratch-4-1")
    assert sorted(p.name for p in home.iterdir() if p.is_dir()) == sorted(arm.members)
    assert load_artefact(home / arm.members[1]).digest == load_artefact(alike.path).digest
    assert [name for name, folder in list_models(workspace) if workspace.models in folder.parents] == ["alike"]
    # Three steps teach nothing, so whatever is said comes with its interval or its reason.
    assert arm.why
    assert (arm.gain is None) == (arm.curve is None)
    assert (home / CHART).read_text().count("<circle") == 6
    sure = arm.model_copy(update={"gain": Estimate(value=0.02, low=0.01, high=0.03), "verdict": "worth it"})
    show_learning_curve(found.model_copy(update={"arms": (sure,)}), "chart.svg")
    said = " ".join(capsys.readouterr().out.split())
    assert "from scratch: 4 more sections should give +0.020 IoU (95% interval +0.010 to +0.030)" in said
    assert f"from scratch: worth it: {arm.why}" in said


def test_a_curve_that_was_stopped_trains_only_what_is_left(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = load_manifest(manifest(tmp_path / "d"))
    whole, done = curve(source, workspace, "whole"), list[str]()

    def stops(*args: Any, **options: Any) -> Any:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(options["version"])
        return run_training(*args, **options)

    monkeypatch.setattr(stage, "run_training", stops)
    with pytest.raises(KeyboardInterrupt):
        curve(source, workspace)
    assert not (locate_learning_curve("c", workspace) / CURVE).exists()

    def goes_on(*args: Any, **options: Any) -> Any:
        done.append(options["version"])
        return run_training(*args, **options)

    monkeypatch.setattr(stage, "run_training", goes_on)
    again = curve(source, workspace)
    assert done == ["scratch-1-0", "scratch-1-1", "scratch-2-0", "scratch-2-1", "scratch-4-0", "scratch-4-1"]
    assert again.arms == whole.arms
    # What is asked of the same trainings may change without any of them done anew.
    assert curve(source, workspace, config=CONFIG.model_copy(update={"more": 2})).arms[0].points == again.arms[0].points
    assert len(done) == 6


def test_other_settings_or_labels_do_not_mix_with_what_is_kept(workspace: Workspace, tmp_path: Path) -> None:
    source = load_manifest(manifest(tmp_path / "d"))
    curve(source, workspace)
    with pytest.raises(ConfigError, match="of other settings"):
        curve(source, workspace, training=TRAINING.model_copy(update={"steps": 4}))
    moved = load_manifest(manifest(tmp_path / "d", SPLIT | {"train": [0, 3]}))
    with pytest.raises(ConfigError, match="of other settings"):
        curve(moved, workspace)
    points = locate_learning_curve("c", workspace) / POINTS
    points.write_text(points.read_text()[:-20])
    with pytest.raises(WorkspaceError, match=r"points\.json: the file cannot be read"):
        curve(source, workspace)


def test_a_model_that_knows_the_sections_gets_no_curve(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = load_manifest(manifest(tmp_path / "d"))
    train(source, "knows", TRAINING, workspace, device="cpu")
    with pytest.raises(ConfigError, match=r"knows: .*would mean nothing; found sections 0 to 3 of d-t on its card"):
        curve(source, workspace, starts=("scratch", "knows"))
    # Left to segem, the bundled model is left out for that, and it is said.
    monkeypatch.setattr(stage, "BUNDLED_MODEL", "knows")
    found = curve(source, workspace, starts=())
    assert [arm.start for arm in found.arms] == ["scratch"]
    assert found.left_out.startswith("no curve from knows: ")
    assert found.left_out in capsys.readouterr().err


@pytest.mark.usefixtures("warnings_on_stderr")
def test_a_model_that_never_saw_the_sections_gets_its_own_curve(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = load_manifest(manifest(tmp_path / "d"))
    early = load_manifest(manifest(tmp_path / "e", {"train": [0, 1], "validation": [1, 2]}))
    train(early, "early", TRAINING, workspace, device="cpu")
    later = load_manifest(manifest(tmp_path / "d", {"train": [2, 4], "validation": [4, 5], "test": [5, 6]}))
    found = curve(later, workspace, starts=("early", "scratch"))
    assert [(arm.start, len(arm.points), arm.digest is None) for arm in found.arms] == [
        ("early", 4, False),
        ("scratch", 4, True),
    ]
    # One and two sections are no curve.
    assert [(arm.verdict, arm.gain) for arm in found.arms] == [("cannot say", None)] * 2
    assert "three different numbers" in found.arms[0].why
    # Known before hours of training.
    told = capsys.readouterr().err
    assert "will not say what more sections bring: three different numbers of sections are needed" in told
    with pytest.raises(ConfigError, match="two curves would have one name"):
        curve(source, workspace, "d", starts=("scratch", "scratch"))


def test_a_setting_that_is_out_of_range_is_told_by_its_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for option, value in (("--seeds", "1"), ("--checkpoint-seconds", "-1")):
        words = ["segem", "learning-curve", str(manifest(tmp_path / "d")), "--out", "c", option, value]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit):
            main()
        assert f"segem learning-curve: {option}: " in capsys.readouterr().err


def test_without_test_sections_there_is_nothing_to_judge_by(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="names test sections"):
        curve(load_manifest(manifest(tmp_path / "d", None)), workspace)


def ranked(
    folder: Path,
    space: Workspace,
    change: Callable[[np.ndarray], np.ndarray],
    size: int,
    stacks: Sequence[int] = (2,),
) -> LabelNext:
    source = load_manifest(manifest(folder, SPLIT | {"train": [2, 4]}, change, size, stacks))
    return label_next(source, "c", space, device="cpu", tile_px=32)


def rougher(section: np.ndarray) -> np.ndarray:
    return section + np.random.default_rng(0).normal(0, 60, section.shape)


def starker(section: np.ndarray) -> np.ndarray:
    return 128 + (section - 128) * 2.5


def paler(section: np.ndarray) -> np.ndarray:
    return 128 + (section - 128) * 0.35


def blurred(section: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(section, 3)


def darker(section: np.ndarray) -> np.ndarray:
    return section - 60


def order(found: LabelNext, volume: str = "u2") -> Sequence[int]:
    return [one.section for one in found.sections if one.volume.endswith(f"-{volume}")]


def member(workspace: Workspace, name: str, greys: tuple[int, int], known: Volume) -> str:
    """Write a net that calls membrane what lies between two greys, as one of a learning curve; return its name."""
    net, ends = Band(), zscore(np.array(greys, np.uint8), known.statistics).tolist()
    for parameter, value in zip((net.low, net.high, net.gain), (*ends, 1000.0), strict=True):
        torch.nn.init.constant_(parameter, value)
    card = ModelCard(name="c", architecture="band", threshold=0.5)
    return save_artefact(locate_learning_curve("c", workspace) / name, card, net).path.name


def test_sections_are_ranked_by_the_share_of_pixels_that_models_disagree_about(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ZOO, "band", BAND)
    # Both members call the middle grey membrane, one of them the dark one too, the other the pale one: about these
    # pixels they disagree by one bit, and half of them are membrane.
    image = np.full((4, 64, 64), 150, np.uint8)
    shares = {0: 8 / 64, 1: 24 / 64, 3: 16 / 64}
    for z, share in shares.items():
        image[z, -round(64 * share) :] = 50 if z != 3 else 250
    # A section of one value would be no tissue.
    image[2, 0, 0] = 151
    tifffile.imwrite(tmp_path / "u.tif", image, photometric="minisblack")
    source = Manifest(name="m", volumes=(VolumeEntry(name="u", source=tmp_path / "u.tif", voxel_nm=(50, 4, 4)),))
    ingest(source.volumes[0].ingest_config(), workspace)
    known = Volume.open(workspace.volume("u"))
    members = tuple(member(workspace, *each, known) for each in (("dark", (20, 200)), ("pale", (100, 255))))
    trial = Trial(start="scratch", sections=1, seed=0, train={}, volumes={}, iou=0.5)
    arm = Arm(
        start="scratch",
        digest=None,
        points=(trial,),
        curve=None,
        line=(),
        gain=None,
        verdict="cannot say",
        why="",
        members=members,
    )
    made = LearningCurveResult(
        name="c",
        manifest="m",
        sections=1,
        test={},
        arms=(arm,),
        left_out="",
        config=CONFIG,
        training=TRAINING,
        segem_version="",
    )
    (locate_learning_curve("c", workspace) / CURVE).write_text(made.model_dump_json())
    found = label_next(source, "c", workspace, device="cpu", tile_px=32)
    assert [one.section for one in found.sections] == [1, 3, 0, 2]
    for one in found.sections:
        share = shares.get(one.section, 0.0)
        assert one.disagreement == pytest.approx(share, abs=1e-3)
        assert one.membrane == pytest.approx(1 - share / 2, abs=1e-3)
        # The lower half holds all of them.
        assert one.hottest.disagreement == pytest.approx(min(1, 2 * share), abs=1e-3)
        assert one.hottest.start[1] == (32 if share else 0)


def test_a_ranking_covers_what_no_training_used_and_is_shown_as_it_is_kept(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = load_manifest(manifest(tmp_path / "d", SPLIT | {"train": [1, 4]}, size=96))
    training = TRAINING.model_copy(update={"architecture": {"features": 4, "depth": 2}, "steps": 40, "batch": 2})
    with pytest.raises(ConfigError, match="no finished learning curve"):
        label_next(source, "c", workspace)
    curve(source, workspace, training=training)
    found = ranked(tmp_path / "u", workspace, rougher, 96)
    assert LabelNext.model_validate_json((locate_learning_curve("c", workspace) / RANKING).read_text()) == found
    assert len(found.digests) == 2
    show_label_next(found, "label-next.json")
    rows = [line for line in capsys.readouterr().out.splitlines() if "-u2 " in line and "│" in line]
    assert [row.split("│")[2].strip() for row in rows] == [str(z) for z in order(found)]
    # Sections that are in no part of the split may be chosen too, and no others of a labelled volume: the models
    # learned from section 1 when it was in the split.
    assert order(found, "t") == [0]
    assert sorted(order(found)) == [0, 1, 2, 3, 4]
    values = [one.disagreement for one in found.sections]
    assert values == sorted(values, reverse=True)
    for one in found.sections:
        assert one.hottest.start[0] == one.section == one.hottest.stop[0] - 1
        assert [b - a for a, b in zip(one.hottest.start, one.hottest.stop, strict=True)] == [1, 32, 32]
        assert one.hottest.disagreement >= one.disagreement
    with pytest.raises(ConfigError, match="no section to choose from"):
        label_next(load_manifest(manifest(tmp_path / "all", size=96)), "c", workspace)
    # The stack that the labelled sections were cut from, of which sections 1 to 5 are labelled: the last one for tests.
    image = tifffile.imread(tmp_path / "d" / "t.tif")
    whole = VolumeEntry(name="whole", source=tmp_path / "whole.tif", voxel_nm=(50, 4, 4))
    tifffile.imwrite(whole.source, np.concatenate([image[::-1, ::-1], image]), photometric="minisblack")
    both = source.model_copy(update={"volumes": (whole, *source.volumes)})
    found = label_next(both, "c", workspace, device="cpu", tile_px=32)
    assert sorted(one.section for one in found.sections if one.volume == "whole") == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_how_often_a_spoiled_section_ranks_first(workspace: Workspace, tmp_path: Path) -> None:
    source = load_manifest(manifest(tmp_path / "d", size=96))
    training = TRAINING.model_copy(update={"architecture": {"features": 4, "depth": 2}, "steps": 150, "batch": 2})
    curve(source, workspace, training=training, config=CONFIG.model_copy(update={"seeds": 3}))
    stacks, first = range(2, 2 + STACKS), {}
    for change in (rougher, starker, blurred, darker, paler):
        found = ranked(tmp_path / change.__name__, workspace, change, 96, stacks)
        first[change.__name__] = sum(order(found, f"u{stack}")[0] == 2 for stack in stacks)
    print(first)  # docs/explanation/training.md has these numbers
    assert first["rougher"] == first["starker"] == len(stacks)
    # No more often than by chance: all nets miss its membranes alike.
    assert first["paler"] <= 1 + STACKS // 5


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_at_the_same_curve(tmp_path: Path) -> None:
    source = manifest(tmp_path / "d")

    def run(space: str, kill_after: int | None) -> bytes:
        words = f"learning-curve {source} --out c --from scratch --seeds 2 --steps 8 --batch 1 --device cpu"
        words += f" --option features=2 --option depth=2 --checkpoint-seconds 0.001 --workspace {tmp_path / space}"
        process = subprocess.Popen(
            [sys.executable, "-c", "from segem.cli import main; main()", *words.split()],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        home = locate_learning_curve("c", Workspace(tmp_path / space))
        if kill_after is not None:
            # In the training that follows so many finished ones, after its first checkpoint.
            def reached() -> bool:
                points = home / POINTS
                finished = points.read_text().count('"train"') if points.exists() else 0
                return finished >= kill_after and bool(list(home.glob(".training-*[0-9a-f]")))

            while process.poll() is None and not reached():
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
        errors = process.communicate()[1].decode()
        assert process.returncode == (0 if kill_after is None else -signal.SIGKILL), errors
        assert (home / CURVE).exists() == (kill_after is None)
        return (home / CURVE).read_bytes() if kill_after is None else b""

    undisturbed = run("undisturbed", None)
    run("killed", 0)
    run("killed", 3)
    assert run("killed", None) == undisturbed
    assert [p.name for p in locate_learning_curve("c", Workspace(tmp_path / "killed")).glob(".*")] == []
