"""Models go to others as packages of bioimage.io and come back the same; what strangers send runs no code."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load, load_file, save, save_file

from segem.cli import main
from segem.errors import ConfigError, ModelError, SegemError
from segem.io.workspace import Workspace
from segem.learn.artefact import Artefact, find_model, load_net, save_artefact
from segem.learn.exchange import write_torchscript
from segem.learn.models.registry import ZOO, build
from segem.learn.predict import predict_section
from segem.records.card import ModelCard
from segem.stages.models.export_model import export_model
from segem.stages.models.import_model import Foreign, import_model
from tests.nets import UNKNOWN_HALO

OPTIONS = {"features": 2, "depth": 2}
TOLD = Foreign("unet", OPTIONS)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a workspace of two models, the second of which sees three sections, and their packages."""
    folder = tmp_path_factory.mktemp("made")
    workspace = Workspace(folder / "workspace")
    workspace.prepare()
    for name, sections, licence in (("tiny", 1, ""), ("wide", 3, "CC BY 4.0: mine")):
        torch.manual_seed(sections)
        options = {"context_sections": sections, **OPTIONS}
        card = ModelCard(name=name, architecture="unet", options=options, threshold=0.4, licence=licence)
        save_artefact(workspace.models / name / "1", card, build("unet", options))
        export_model(name, folder / f"{name}.zip", workspace, licence="CC-BY-4.0")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of that folder, which is also the working directory."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(made, tmp_path / "made"))


@pytest.fixture
def workspace(folder: Path) -> Workspace:
    return Workspace(folder / "workspace")


@pytest.fixture
def package(folder: Path) -> Path:
    return folder / "wide.zip"


@pytest.fixture
def artefact(workspace: Workspace) -> Artefact:
    return find_model("tiny", workspace)


def members(package: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(package) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def repacked(package: Path, **changed: bytes | None) -> Path:
    """Write the package again with other members, whose names are given with _ for the dot; None leaves one out."""
    content = members(package) | {name.replace("_", "."): data for name, data in changed.items()}
    with zipfile.ZipFile(package, "w") as archive:
        for name, data in content.items():
            if data is not None:
                archive.writestr(name, data)
    return package


def described(package: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Write the package again with another description."""
    said = yaml.safe_load(members(package)["rdf.yaml"])
    change(said)
    return repacked(package, rdf_yaml=yaml.safe_dump(said).encode())


def refused(package: Path, workspace: Workspace, match: str, foreign: Foreign | None = None) -> None:
    before = sorted(workspace.root.rglob("*"))
    with pytest.raises(SegemError, match=match) as caught:
        import_model(package, "new", workspace, foreign)
    assert str(package) in str(caught.value)
    assert ".partial" not in str(caught.value)
    assert caught.value.fix
    assert sorted(workspace.root.rglob("*")) == before, "nothing may be left behind"


@pytest.mark.slow
@pytest.mark.skipif(find_spec("bioimageio") is None, reason="needs the extra bioimageio")
def test_bioimageio_runs_the_package(workspace: Workspace, tmp_path: Path) -> None:
    made = export_model("unet-em", tmp_path / "m.zip", workspace, authors=("Ada Lovelace",)).path
    command = [str(Path(sys.executable).with_name("bioimageio")), "test", str(made)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Reproduce test outputs" in done.stdout
    # 2 batches of 3 sizes.
    assert done.stdout.count("Run torchscript inference") == 6, done.stdout


@pytest.mark.parametrize("name", ["unet-em", "wide"])
def test_a_model_comes_back_as_it_was(name: str, workspace: Workspace, tmp_path: Path) -> None:
    sent = find_model(name, workspace)
    export_model(name, tmp_path / "m.zip", workspace)
    made = import_model(tmp_path / "m.zip", "back", workspace)
    back = find_model("back", workspace)
    assert made.digest == back.digest == sent.digest
    assert back.card == sent.card.model_copy(update={"name": "back"})
    assert (back.path / "weights.safetensors").read_bytes() == (sent.path / "weights.safetensors").read_bytes()
    assert not list(workspace.root.rglob("*.partial"))
    assert not list(workspace.root.rglob("*.lock"))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_record_gives_what_the_net_gives(package: Path, workspace: Workspace) -> None:
    found = members(package)
    image, expected = (np.load(io.BytesIO(found[name])) for name in ("input.npy", "output.npy"))
    assert image.shape == (1, 3, 256, 256)
    assert image.min() >= 0
    assert image.max() <= 255
    assert np.array_equal(image, np.rint(image)), "grey levels as they come from the microscope"
    scaled = (image - image.mean()) / image.std()
    with torch.inference_mode():
        recorded = torch.jit.load(io.BytesIO(found["weights.torchscript.pt"]))(torch.from_numpy(scaled)).sigmoid()
    np.testing.assert_allclose(recorded.numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(
        predict_section(load_net(find_model("wide", workspace)), scaled[0]), expected[0, 0], atol=1e-5
    )


def test_the_description_says_how_tiles_are_cut(package: Path) -> None:
    said = yaml.safe_load(members(package)["rdf.yaml"])
    # A U-Net of depth 2 reaches 24 px on a lattice of 4.
    _, channel, y, x = said["inputs"][0]["axes"]
    assert channel["channel_names"] == ["section-1", "section", "section+1"]
    assert y["size"] == x["size"] == {"min": 52, "step": 4}
    assert y["concatenable"]
    assert [axis.get("halo") for axis in said["outputs"][0]["axes"]] == [None, None, 24, 24]
    assert said["license"] == "CC-BY-4.0"
    assert said["cite"] == [{"text": "Ronneberger et al. 2015", "doi": "10.1007/978-3-319-24574-4_28"}]
    assert said["config"]["segem"]["threshold"] == 0.4
    content = members(package)
    for file in [*said["attachments"], *said["covers"], said["weights"]["torchscript"], said["documentation"]]:
        assert hashlib.sha256(content[file["source"]]).hexdigest() == file["sha256"]
    assert Image.open(io.BytesIO(content["cover.png"])).size == (512, 256)
    readme = content["README.md"].decode()
    assert "3 adjacent sections" in readme
    assert "**0.4**" in readme


def test_a_net_that_sees_all_is_not_to_be_tiled(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ZOO, "pooled", UNKNOWN_HALO["pooled"])
    card = ModelCard(name="all", architecture="pooled", threshold=0.5, licence="MIT")
    save_artefact(workspace.models / "all" / "1", card, build("pooled"))
    said = yaml.safe_load(members(export_model("all", tmp_path / "m.zip", workspace).path)["rdf.yaml"])
    y = said["inputs"][0]["axes"][2]
    assert (y["concatenable"], y["size"]) == (False, {"min": 2, "step": 2})
    assert "halo" not in said["outputs"][0]["axes"][2]
    assert "whole sections, not tiles" in members(tmp_path / "m.zip")["README.md"].decode()


def test_export_refuses(package: Path, workspace: Workspace) -> None:
    before = package.read_bytes()
    with pytest.raises(ConfigError, match="--force"):
        export_model("wide", package, workspace)
    with pytest.raises(ModelError, match=r"SPDX.*--licence"):
        export_model("tiny", package, workspace, force=True)
    assert package.read_bytes() == before
    export_model("tiny", package, workspace, licence="MIT", force=True)
    assert yaml.safe_load(members(package)["rdf.yaml"])["license"] == "MIT"
    assert sorted(path.name for path in package.parent.iterdir()) == ["tiny.zip", "wide.zip", "workspace"]


def test_the_licence_on_a_card_is_not_replaced(package: Path, workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match=r"names another licence; expected CC BY 4.0: mine, found MIT.*--licence out"):
        export_model("wide", package, workspace, licence="MIT", force=True)
    export_model("wide", package, workspace, licence="CC-BY-4.0", force=True)
    assert yaml.safe_load(members(package)["rdf.yaml"])["license"] == "CC-BY-4.0"


def test_a_name_that_is_taken(package: Path, workspace: Workspace) -> None:
    taken = {"wide": "there is a model of this name", "unet-em": "this name is taken", "unet": "this name is taken"}
    for name, why in taken.items():
        with pytest.raises(ConfigError, match=rf"{why}.*--out"):
            import_model(package, name, workspace)
    with pytest.raises(ConfigError, match="not a model name"):
        import_model(package, "../up", workspace)
    (workspace.models / "curve" / "learning-curve").mkdir(parents=True)
    with pytest.raises(ConfigError, match="in use by a learning curve, or by a training that did not end"):
        import_model(package, "curve", workspace)


def test_segems_own_package_must_be_whole(package: Path, workspace: Workspace) -> None:
    whole, weights = package.read_bytes(), members(package)["weights.safetensors"]

    def again() -> Path:
        package.write_bytes(whole)
        return package

    refused(repacked(again(), weights_safetensors=None), workspace, "missing; expected weights.safetensors")
    refused(repacked(again(), weights_safetensors=weights[:-1] + b"?"), workspace, "not the one it describes")
    refused(repacked(again(), model_json=b"{}"), workspace, "not the one it describes")
    refused(again(), workspace, "says itself", TOLD)

    def with_card(text: bytes) -> Path:
        digest = hashlib.sha256(text).hexdigest()
        return described(repacked(again(), model_json=text), lambda said: said["attachments"][1].update(sha256=digest))

    refused(with_card(b"{}"), workspace, "card cannot be read")
    card = members(again())["model.json"]
    huge = card.replace(b'"features": 2', b'"features": 256').replace(b'"depth": 2', b'"depth": 7')
    refused(with_card(huge), workspace, "weights do not fit the architecture")
    refused(described(again(), lambda said: said["attachments"][0].pop("sha256")), workspace, "no sha256")

    nan = save({key: value * float("nan") for key, value in load(weights).items()})
    digest = hashlib.sha256(nan).hexdigest()
    vouched = card.replace(hashlib.sha256(weights).hexdigest().encode(), digest.encode())
    bad = repacked(with_card(vouched), weights_safetensors=nan)
    refused(described(bad, lambda said: said["attachments"][0].update(sha256=digest)), workspace, "not finite")
    import_model(again(), "new", workspace)


class Marker:
    """Would leave a trace if it were unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("unpickled"),))


def foreign_package(package: Path, artefact: Artefact, weights: object = None) -> Path:
    """Turn an export into what others publish: a state dict, code for the net, and nothing of segem."""
    saved = io.BytesIO()
    torch.save(load_file(artefact.path / "weights.safetensors") if weights is None else weights, saved)

    def change(said: dict[str, Any]) -> None:
        said.update(attachments=[], config={}, license="MIT")
        said["weights"]["pytorch_state_dict"] = {
            "source": "w.pt",
            "sha256": hashlib.sha256(saved.getvalue()).hexdigest(),
            "architecture": {"source": "net.py", "callable": "Net"},
        }

    code = b"from pathlib import Path\nPath('ran').touch()\n"
    return described(repacked(package, w_pt=saved.getvalue(), net_py=code), change)


@pytest.fixture
def foreign(folder: Path, artefact: Artefact) -> Path:
    return foreign_package(folder / "tiny.zip", artefact)


def test_a_foreign_package_whose_net_is_named(foreign: Path, artefact: Artefact, workspace: Workspace) -> None:
    import_model(foreign, "theirs", workspace, Foreign("unet", {"features": "2", "depth": "2"}, threshold=0.3))
    theirs = find_model("theirs", workspace)
    assert theirs.card.options == {"context_sections": 1, "features": 2, "depth": 2, "shuffle_px": 1}
    assert (theirs.card.threshold, theirs.card.licence) == (0.3, "MIT")
    assert "doi:10.1007/978-3-319-24574-4_28" in theirs.card.citation
    mine, other = (load_net(model).state_dict() for model in (artefact, theirs))
    assert all(torch.equal(mine[key], other[key]) for key in mine)
    assert not Path("ran").exists()


def test_foreign_packages_that_are_refused(foreign: Path, artefact: Artefact, workspace: Workspace) -> None:
    whole = foreign.read_bytes()

    def again() -> Path:
        foreign.write_bytes(whole)
        return foreign

    refused(again(), workspace, "runs no code of others.*--model")
    refused(again(), workspace, "do not fit the architecture", Foreign("unet", {"features": 4, "depth": 2}))
    refused(described(again(), lambda said: said["weights"].pop("pytorch_state_dict")), workspace, "torchscript", TOLD)
    refused(repacked(again(), w_pt=b"noise"), workspace, "not the one it describes", TOLD)
    refused(foreign_package(again(), artefact, Marker()), workspace, "not a file of weights", TOLD)
    refused(foreign_package(again(), artefact, {"a": Marker()}), workspace, "not a file of weights", TOLD)
    # One number that claims to be a petabyte.
    vast = {"head.bias": torch.zeros(1).expand(2**50)}
    refused(foreign_package(again(), artefact, vast), workspace, "do not fit", TOLD)
    other = build("unet", OPTIONS).state_dict()
    refused(foreign_package(again(), artefact, other), workspace, "does not give what the package says", TOLD)
    scaled = [{"id": "scale_range"}]
    refused(
        described(again(), lambda said: said["inputs"][0].update(preprocessing=scaled)), workspace, "scale_range", TOLD
    )
    refused(described(again(), lambda said: said["inputs"][0].pop("test_tensor")), workspace, "nothing shows", TOLD)
    pickled = io.BytesIO()
    np.save(pickled, np.array([Marker()]), allow_pickle=True)

    def its_own(said: dict[str, Any]) -> None:
        said["inputs"][0]["test_tensor"] = {"source": "input.npy"}

    for noise in (pickled.getvalue(), b"PK\x03\x04noise", b"\x93NUMPY\x01\x00\x10\x00{'descr': ((((((\n"):
        refused(described(repacked(again(), input_npy=noise), its_own), workspace, "test tensor cannot", TOLD)
    assert not Path("unpickled").exists()
    assert not Path("ran").exists()
    import_model(again(), "new", workspace, TOLD)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_a_file_of_weights(suffix: str, artefact: Artefact, workspace: Workspace, tmp_path: Path) -> None:
    file, state = tmp_path / f"w{suffix}", load_file(artefact.path / "weights.safetensors")
    save_file(state, file) if suffix == ".safetensors" else torch.save(state, file)
    refused(file, workspace, "--model")
    refused(file, workspace, "do not fit", Foreign("unet", {"features": 2, "depth": 3}))
    made = import_model(file, "theirs", workspace, Foreign("unet", OPTIONS, citation="Them 2020"))
    assert find_model("theirs", workspace).card.citation == "Them 2020"
    assert made.path.parent == workspace.models / "theirs"
    file.write_bytes(file.read_bytes()[:-100])
    refused(file, workspace, "not a file of weights|cannot be read", TOLD)


def test_the_commands(
    folder: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEGEM_WORKSPACE", str(workspace.root))

    def segem(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["segem", "models", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            main()
        return int(caught.value.code or 0), *capsys.readouterr()

    code, out, _ = segem("export", "tiny", folder / "sent.zip", "--licence", "MIT", "--author", "Ada", "--json")
    assert (code, json.loads(out)["name"]) == (0, "tiny")
    assert yaml.safe_load(members(folder / "sent.zip")["rdf.yaml"])["authors"] == [{"name": "Ada"}]
    code, out, _ = segem("import", folder / "sent.zip", "--out", "back", "--json")
    assert (code, json.loads(out)["digest"]) == (0, find_model("tiny", workspace).digest)
    weights = find_model("tiny", workspace).path / "weights.safetensors"
    untold = segem("import", weights, "--out", "mine", "--threshold", "0.3")[2]
    assert "--model is missing; found --threshold. Fix: add --model" in untold
    chosen = ("--model", "unet", "--option", "features=2", "--option", "depth=2", "--threshold", "0.3")
    assert segem("import", weights, "--out", "mine", *chosen)[0] == 0
    assert find_model("mine", workspace).card.threshold == 0.3
    code, _, said = segem("import", weights, "--out", "bad", *chosen[:-1], "1.3")
    assert (code, said.count("\n")) == (1, 1), said
    assert "threshold" in said
    assert "unexpected" not in said


NARROW = {"fullres": {"features": 4, "layers": 3}, "segnet": {"features": 4, "depth": 2}, "unet2015": {"features": 4}}


WHOLE = ("deeplab-v2-resnet101", "deeplab-v3-resnet50", "deeplab-v3-resnet101")
"""Nets that cannot be narrowed."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in WHOLE else ()) for name in ZOO])
def test_every_architecture_can_be_recorded(name: str, tmp_path: Path) -> None:
    options = NARROW.get(name, {"width": 2} if "width" in ZOO[name].options.model_fields else {})
    torch.manual_seed(0)
    net = build(name, {**options, "context_sections": 3}).eval()
    write_torchscript(tmp_path / "w.pt", net, 3)  # raises where the record differs
    assert (tmp_path / "w.pt").stat().st_size > 0


def test_a_record_that_froze_its_size_is_refused(tmp_path: Path) -> None:
    class Frozen(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :1] * float(x.shape[-1])

    with pytest.raises(ModelError, match="does not give what the net gives"):
        write_torchscript(tmp_path / "w.pt", Frozen(), 1)
