"""From a volume without labels to a model: what is proposed, what is painted, and what a manifest makes of it."""

from __future__ import annotations

import json
import signal
import sys
import uuid
from pathlib import Path

import httpx
import numpy as np
import pytest
import tifffile

from segem.cli import main
from segem.config import IngestConfig, load_manifest
from segem.config.retrain import RetrainConfig
from segem.config.review import LabelConfig
from segem.config.train import TrainConfig
from segem.errors import ConfigError
from segem.io.files import write_text
from segem.io.learning_curve import RANKING, locate_learning_curve
from segem.io.reviewed import open_log, open_mask
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.records.label_next import LabelNext, RankedSection, Spot
from segem.records.review import Draft, Place
from segem.review.labelling import list_patches, open_labelling
from segem.review.labels import check_manifest, write_labels
from segem.stages.training.retrain import retrain
from segem.stages.volumes.ingest import ingest
from tests.fabricate import add_model, add_volume, guess, new_workspace, tissue
from tests.processes import clean_environment, started, wait_for

SHAPE = (6, 512, 512)
LABELLED = (1, 3, 5)


@pytest.fixture
def stack(tmp_path: Path) -> tuple[Path, np.ndarray]:
    image, truth = tissue(SHAPE)
    tifffile.imwrite(tmp_path / "stack.tif", image)
    return tmp_path, truth


def decide(workspace: Workspace, run: str, place: Place, decision: str = "accept") -> None:
    with open_log(workspace, run) as log:
        draft = Draft(id=uuid.uuid4().hex, kind="decision", place=place, detail={"decision": decision, "note": ""})
        log.append(draft, "Ana", log.head().entries, lambda _: np.zeros((1, 1), bool))


@pytest.mark.slow
def test_two_regions_that_were_painted_on_the_page_train_a_model(stack):
    """Through the program: propose, paint, decide, end, retrain on the manifest that is left."""
    folder, truth = stack
    space = Workspace(folder / "w")
    ingest(IngestConfig(name="cortex", source=folder / "stack.tif", voxel_nm=(50, 4, 4)), space)
    words = ["--label", "cortex", "--sections", "1,3,5", "--manifest", "mine.yaml", "--as", "Ana"]
    command = [sys.executable, "-m", "segem", "review", *words, "--workspace", "w", "--port", "0", "--json"]
    log = folder / "log"
    with started(command, log, clean_environment(PYTHONPATH=str(Path.cwd())), folder) as process:
        wait_for(lambda: b'"review"' in log.read_bytes() and b"}" in log.read_bytes(), 60, log)
        printed = json.loads(log.read_text()[log.read_text().index("{") :])
        address, _, token = printed["review"].partition("/?token=")
        bearer = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=address, headers=bearer, trust_env=False, timeout=30) as ana:
            described = ana.get("/api/review").json()
            assert described["labelling"]
            queue = [one["place"] for one in ana.get("/api/queue/cortex").json()]
            assert [(one["z"], one["y"], one["x"]) for one in queue[:4]] == [
                (1, 0, 0),
                (3, 0, 0),
                (5, 0, 0),
                (1, 0, 256),
            ]
            # One patch of the first two sections, and of the last one enough to judge a model by.
            painted = [one for one in queue if one["z"] == 5 or (one["y"], one["x"]) == (0, 0)]
            for seen, place in enumerate(painted):
                window = np.s_[place["z"], place["y"] : place["y"] + 256, place["x"] : place["x"] + 256]
                path = f"/api/mask/cortex/0/{place['z']}/0/0"
                shown = np.unpackbits(np.frombuffer(ana.get(path).content, np.uint8)).reshape(512, 512)
                runs = _runs_of(shown[window[1:]] != truth[window])
                sent = {"place": place, "active_seconds": 1.0}
                for more, to in (({"runs": runs, "tool": "line"}, "corrections"), ({"decision": "fix"}, "decisions")):
                    body = {"id": str(uuid.uuid4()), **sent, **more}
                    told = ana.post(
                        f"/api/{to}", json=body, headers={"If-Match": f'"{2 * seen + (to == "decisions")}"'}
                    )
                    assert told.status_code == 201, told.text
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    assert json.loads(log.read_text()[log.read_text().rindex("{\n") :])["sections"] == [1, 3, 5]
    labels = tifffile.imread(folder / "mine-cortex.tif")
    expected = np.full(SHAPE, 128, np.uint8)
    for place in painted:
        window = np.s_[place["z"], place["y"] : place["y"] + 256, place["x"] : place["x"] + 256]
        expected[window] = truth[window] * 255
    assert np.array_equal(labels, expected)
    config = RetrainConfig(out="mine", train=TrainConfig(steps=4, model="unet", batch=2), device="cpu")
    decided = retrain(folder / "mine.yaml", config, space.root)
    assert [(one.volume, one.sections) for one in decided.judged] == [("cortex", (5, 6))]


def _runs_of(flips: np.ndarray) -> list[int]:
    flat = np.concatenate([[False], flips.ravel(), [False]])
    edges = np.flatnonzero(np.diff(flat))
    return np.diff(np.concatenate([[0], edges])).tolist()


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    space = new_workspace(tmp_path / "w")
    image, truth = tissue((8, 300, 300))
    add_volume(space, "cortex", image)
    add_model(space, "monday", "cortex", guess(truth))
    return space


def test_what_is_proposed_is_the_newest_mask_of_a_model_and_stays_when_that_is_lost(space):
    opened = open_labelling(LabelConfig(label="cortex"), space)
    assert [one.z for one in opened.patches] == [0, 2, 4, 5, 7]
    assert np.array_equal(open_mask(space, opened.run, "cortex")[:], open_mask(space, "monday", "cortex")[:])
    assert open_labelling(LabelConfig(label="cortex", sections="7,1"), space).patches[0].z == 7
    with pytest.raises(ConfigError, match="has begun"):
        open_labelling(LabelConfig(label="cortex", proposal="kmeans"), space)


@pytest.mark.parametrize("proposal", ["watershed", "kmeans", "empty"])
def test_nothing_but_the_image_is_needed(space, proposal):
    opened = open_labelling(LabelConfig(label="cortex", proposal=proposal), space)
    mask = open_mask(space, opened.run, "cortex")[:]
    assert mask.any() == (proposal != "empty")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"sections": "3,8"}, "no such section"),
        ({"proposal": "tuesday"}, "no such mask to paint from"),
        ({"following": "mine"}, "no such list"),
    ],
)
def test_what_cannot_be_labelled_is_refused_before_anything_is_made(space, more, said):
    with pytest.raises(ConfigError, match=said):
        open_labelling(LabelConfig(label="cortex", **more), space)
    assert space.runs() == ["monday"]


def test_sections_are_numbers():
    for wrong in ("3-5", "", "3,,4", "a"):
        with pytest.raises(ValueError, match="numbers with commas"):
            LabelConfig(label="cortex", sections=wrong)
    assert LabelConfig(label="cortex", sections="9,2,9").chosen == (9, 2)


def test_the_list_of_label_next_is_opened_where_models_disagree_most(space):
    def ranked(z: int, top: int) -> RankedSection:
        hottest = Spot(start=(z, top, 600), stop=(z + 1, top + 256, 856), disagreement=0.25)
        return RankedSection(volume="cortex", section=z, disagreement=0.1, membrane=0.2, hottest=hottest)

    found = LabelNext(
        name="mine", manifest="m", start="scratch", digests=(), sections=tuple(ranked(z, 0) for z in (4, 5, 0, 7))
    )
    home = locate_learning_curve("mine", space)
    home.mkdir(parents=True)
    write_text(home / RANKING, found.model_dump_json())
    opened = open_labelling(LabelConfig(label="cortex", following="mine"), space)
    assert [one.z for one in opened.patches] == [4, 0, 7], "of two neighbours, one"
    assert opened.patches[0].reason.endswith("the models disagree most here, 0.25 bits")
    patches = list_patches("cortex", (8, 1024, 1024), [4, 2], {4: ranked(4, 700), 2: ranked(2, 10)})
    assert [(one.z, one.y, one.x) for one in patches[:2]] == [(4, 768, 512), (2, 0, 512)]
    assert len({(one.z, one.y, one.x) for one in patches}) == len(patches) == 32


def test_a_manifest_grows_by_volumes_and_never_replaces_one_of_somebody_else(stack):
    folder, _ = stack
    space, mine = Workspace(folder / "w"), folder / "mine.yaml"
    tifffile.imwrite(
        folder / "two.tif", tifffile.imread(folder / "stack.tif")[:4, :256, :256], photometric="minisblack"
    )
    for name, source, box in (("one", "stack.tif", "0:4,:256,:256"), ("two", "two.tif", None)):
        config = IngestConfig(name=name, source=folder / source, voxel_nm=(50, 4, 4), box=box, window=(5, 250))
        ingest(config, space)
        opened = open_labelling(LabelConfig(label=name, proposal="kmeans"), space)
        place = Place(volume=name, z=0, y=0, x=0, height=256, width=256)
        decide(space, opened.run, place)
        assert write_labels(opened.run, name, mine, space).manifest is None, "one section trains nothing"
        decide(space, opened.run, place.model_copy(update={"z": 2}))
        decide(space, opened.run, place.model_copy(update={"z": 3}), "reject")
        written = write_labels(opened.run, name, mine, space)
        assert written.sections == (0, 2)
        assert written.next.startswith("segem train ")
    manifest = load_manifest(mine)
    assert [entry.name for entry in manifest.volumes] == ["one-labels", "two"]
    part, again = manifest.volumes
    ingest(part.ingest_config(), space)
    both = [Volume.open(space.volume(name)).attributes for name in ("one", "one-labels")]
    assert both[0]["source_digest"] == both[1]["source_digest"]
    assert both[1]["labels"]["unknown_sections"] == [1, 3]
    assert (again.window, again.voxel_nm) == ((5.0, 250.0), (50.0, 4.0, 4.0))
    assert again.split is not None
    assert (again.split.train.start, again.split.validation.stop, again.split.test) == (0, 3, None)
    # The volume itself takes the labels, also once more when there are more of them.
    digest = Volume.open(space.volume("two")).attributes["source_digest"]
    for _ in range(2):
        ingest(again.ingest_config(), space)
        held = Volume.open(space.volume("two"))
        assert held.attributes["source_digest"] == digest
        assert held.attributes["labels"]["unknown_sections"] == [1, 3]
        write_labels("label-two", "two", mine, space)
        again = load_manifest(mine).volumes[1]
        assert again.name == "two"
    mine.write_text("name: mine\n")
    with pytest.raises(ConfigError, match="not written by"):
        check_manifest(mine, "two")
    with pytest.raises(ConfigError, match="not written by"):
        write_labels("label-two", "two", mine, space)


def test_labels_replace_no_file_that_somebody_else_has_written(stack):
    folder, _ = stack
    space, raw = Workspace(folder / "w"), folder / "mine-fly.tif"
    raw.write_bytes((folder / "stack.tif").read_bytes())
    ingest(IngestConfig(name="fly", source=raw, voxel_nm=(50, 4, 4)), space)
    opened = open_labelling(LabelConfig(label="fly", proposal="empty"), space)
    for z in (0, 2, 3):
        decide(space, opened.run, Place(volume="fly", z=z, y=0, x=0, height=256, width=256))
    for act in (
        lambda: check_manifest(folder / "mine.yaml", "fly"),
        lambda: write_labels(opened.run, "fly", folder / "mine.yaml", space),
    ):
        with pytest.raises(ConfigError, match="replace a file that was not written by"):
            act()
    assert raw.read_bytes() == (folder / "stack.tif").read_bytes()
    with pytest.raises(ConfigError, match="not a manifest name"):
        check_manifest(folder / "my labels.yaml", "fly")
    for _ in range(2):
        assert write_labels(opened.run, "fly", folder / "other.yaml", space).manifest is not None


def test_a_volume_that_is_not_there_is_one_line(tmp_path, monkeypatch, capsys):
    new_workspace(tmp_path / "w")
    monkeypatch.setattr(sys, "argv", ["segem", "review", "--label", "cortex", "--workspace", str(tmp_path / "w")])
    with pytest.raises(SystemExit):
        main()
    assert "no such volume" in capsys.readouterr().err
