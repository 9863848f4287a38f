"""The tables of architectures and trained models."""

from __future__ import annotations

import pytest

from segem.errors import ModelError
from segem.io.workspace import Workspace
from segem.learn.artefact import save_artefact
from segem.learn.models.registry import ZOO, build
from segem.records.card import HeldOutScore, ModelCard
from segem.stages.models.catalogue import list_architectures, list_trained
from segem.stages.models.zoo import describe_architecture, explain, is_architecture, measure_architectures

OPTIONS = {"features": 2, "depth": 1}
SCORE = HeldOutScore(volume="v", sections=(1, 3), iou=0.5, v_rand=None, v_info=0.25, ece=None)


def save(workspace: Workspace, name: str) -> None:
    card = ModelCard(name=name, architecture="unet", options=OPTIONS, threshold=0.5, scores=(SCORE,))
    save_artefact(workspace.models / name / "1", card, build("unet", OPTIONS))


def test_the_zoo_is_listed_with_its_geometry() -> None:
    found = {net.name: net for net in list_architectures()}
    assert set(found) == set(ZOO)
    unet = found["unet"]
    assert (unet.parameters, unet.output_stride, unet.stride_px, unet.halo_px) == (1_942_289, 1, 16, 96)
    assert unet.megapixels_per_second is None
    assert unet.not_measured == ""


def test_the_catalogue_says_what_the_nets_are() -> None:
    kept = {net.name: net for net in list_architectures()}
    found = {name: describe_architecture(name) for name in ZOO}
    assert kept == found, 'write it anew: python -c "from segem.stages.models.zoo import write_catalogue as w; w()"'


def test_names_are_listed_by_what_they_begin_with(tmp_path) -> None:
    workspace = Workspace(tmp_path)
    save(workspace, "mine")
    assert [net.name for net in list_architectures(["unet", "segn"])] == ["segnet", "unet", "unet2015"]
    assert [model.name for model in list_trained(workspace, ["min"])] == ["mine"]
    assert "unet-em" in {model.name for model in list_trained(workspace, ["unet"])}


def test_what_is_measured_has_a_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segem.stages.models.zoo.MEASURED_PX", 64)
    (unet,) = measure_architectures([describe_architecture("unet")])
    assert unet.megapixels_per_second is not None
    assert 0.001 < unet.megapixels_per_second < 10_000


def test_what_does_not_fit_the_memory_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segem.stages.models.zoo.half_of_the_machine", lambda: 800_000_000)
    (unet,) = measure_architectures([describe_architecture("unet")])
    assert unet.megapixels_per_second is None
    assert unet.not_measured == "needs 0.9 GB, half of the memory here is 0.8 GB"


def test_an_architecture_is_explained() -> None:
    found = explain("unet")
    assert "Ronneberger" in found.about
    assert "Parameters" not in found.about
    options = {option.name: option for option in found.options}
    assert (options["depth"].default, options["depth"].allowed) == (4, ">= 1, <= 7")
    assert options["context_sections"].meaning.startswith("Adjacent sections seen at once")
    with pytest.raises(ModelError, match="no such architecture"):
        explain("nothing")


@pytest.mark.parametrize("name", sorted(ZOO))
def test_every_architecture_can_be_explained(name: str) -> None:
    found = explain(name)
    assert found.about
    assert {option.name for option in found.options} == set(ZOO[name].options.model_fields)


def test_trained_models_come_with_their_scores_and_damaged_ones_with_the_reason(tmp_path) -> None:
    workspace = Workspace(tmp_path)
    save(workspace, "mine")
    save(workspace, "torn")
    (workspace.models / "torn" / "1" / "model.json").write_text("{")
    mine, torn, *bundled = list_trained(workspace)
    assert (mine.name, mine.architecture, mine.scores[0].iou) == ("mine", "unet", 0.5)
    assert torn.name == "torn"
    assert "card cannot be read" in torn.unreadable
    assert "unet-em" in {model.name for model in bundled}


def test_a_trained_model_comes_before_an_architecture_of_its_name(tmp_path) -> None:
    workspace = Workspace(tmp_path)
    assert is_architecture("unet", workspace)
    save(workspace, "unet")
    assert not is_architecture("unet", workspace)
    assert not is_architecture("nothing", workspace)
