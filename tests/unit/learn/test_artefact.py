"""Artefacts come back as they were saved; damaged or foreign ones are refused before anything is computed."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from segem.config import RuntimeName
from segem.errors import ModelError
from segem.io.workspace import Workspace
from segem.learn.artefact import (
    CARD,
    WEIGHTS,
    Artefact,
    find_model,
    geometry_of,
    load_artefact,
    load_net,
    save_artefact,
    save_version,
)
from segem.learn.engine import Engine
from segem.learn.halo import measure_halo
from segem.learn.memory import activation_bytes
from segem.learn.models.registry import ZOO, build
from segem.learn.models.spec import Geometry
from segem.records.card import Calibration, MeasuredHalo, ModelCard
from tests.nets import UNKNOWN_HALO, vouch_for_weights

OPTIONS = {"features": 2, "depth": 2}


@pytest.fixture
def artefact(tmp_path: Path) -> Artefact:
    torch.manual_seed(0)
    card = ModelCard(name="tiny", architecture="unet", options=OPTIONS, threshold=0.5)
    return save_artefact(tmp_path / "tiny", card, build("unet", OPTIONS))


def test_round_trip(artefact: Artefact) -> None:
    torch.manual_seed(0)
    expected = build("unet", OPTIONS).state_dict()
    found = load_net(load_artefact(artefact.path)).state_dict()
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert load_artefact(artefact.path).card == artefact.card


def test_models_of_one_name_that_are_finished_at_once_all_stay(tmp_path: Path, artefact: Artefact) -> None:
    home, net = tmp_path / "home", load_net(artefact)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: save_version(home, artefact.card, net).path, range(4)))
    assert len({*made}) == len([path for path in home.iterdir() if path.is_dir()]) == 4


def test_digest_follows_weights_and_architecture_but_not_scores(artefact: Artefact) -> None:
    state = load_file(artefact.path / WEIGHTS)
    first = next(iter(state))
    state[first] = state[first] + 1e-3
    save_file(state, artefact.path / WEIGHTS)
    with pytest.raises(ModelError, match="weights are damaged, or not those of the card; expected sha256"):
        load_artefact(artefact.path)
    vouch_for_weights(artefact.path)
    changed = load_artefact(artefact.path)
    assert changed.digest != artefact.digest
    card = json.loads((artefact.path / CARD).read_text())
    (artefact.path / CARD).write_text(json.dumps(card | {"licence": "other", "threshold": 0.4}))
    assert load_artefact(artefact.path).digest == changed.digest


def test_a_measured_halo_counts_where_the_architecture_gives_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ZOO, "dilated", UNKNOWN_HALO["dilated"])
    halo = MeasuredHalo(px=6, tolerance=1e-5)
    card = ModelCard(name="strange", architecture="dilated", threshold=0.5, halo=halo)
    assert geometry_of(card) == Geometry(2, 6, 1)
    assert geometry_of(card.model_copy(update={"halo": None})) == Geometry(2, None, 1)
    assert load_artefact(save_artefact(tmp_path / "strange", card, build("dilated")).path).card.halo == halo
    unet = ModelCard(name="tiny", architecture="unet", options=OPTIONS, threshold=0.5, halo=halo)
    assert geometry_of(unet).halo_px == 24


def test_a_card_without_a_measured_halo_is_read(artefact: Artefact) -> None:
    card = json.loads((artefact.path / CARD).read_text())
    assert card.pop("halo") is None
    (artefact.path / CARD).write_text(json.dumps(card))
    assert load_artefact(artefact.path).card.halo is None


def test_a_card_that_does_not_vouch_for_its_weights_is_refused(artefact: Artefact) -> None:
    card = json.loads((artefact.path / CARD).read_text())
    assert card.pop("weights_sha256") == sha256((artefact.path / WEIGHTS).read_bytes()).hexdigest()
    (artefact.path / CARD).write_text(json.dumps(card))
    with pytest.raises(ModelError, match="the weights are damaged, or not those of the card"):
        load_artefact(artefact.path)


def test_a_card_of_another_schema_is_refused_by_its_number(artefact: Artefact) -> None:
    card = json.loads((artefact.path / CARD).read_text())
    (artefact.path / CARD).write_text(json.dumps(card | {"schema_version": 1}))
    with pytest.raises(ModelError, match=r"card cannot be read; found schema_version: Input should be 2\. Fix: "):
        load_artefact(artefact.path)


def test_truncated_weights_are_refused(artefact: Artefact) -> None:
    data = (artefact.path / WEIGHTS).read_bytes()
    (artefact.path / WEIGHTS).write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match="damaged"):
        load_artefact(artefact.path)
    vouch_for_weights(artefact.path)
    with pytest.raises(ModelError, match="cannot be read"):
        load_net(load_artefact(artefact.path))


def test_a_pickle_in_disguise_is_never_run(artefact: Artefact, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    payload = f"cposix\nsystem\n(S'touch {canary}'\ntR.".encode()
    (artefact.path / WEIGHTS).write_bytes(payload)
    vouch_for_weights(artefact.path)
    with pytest.raises(ModelError, match="cannot be read"):
        load_net(load_artefact(artefact.path))
    assert not canary.exists()


def test_weights_of_another_architecture_are_refused(artefact: Artefact) -> None:
    save_file(build("unet", {"features": 4, "depth": 2}).state_dict(), artefact.path / WEIGHTS)
    vouch_for_weights(artefact.path)
    with pytest.raises(ModelError, match="do not fit"):
        load_net(load_artefact(artefact.path))


def test_nan_weights_are_refused_by_name(artefact: Artefact) -> None:
    state = load_file(artefact.path / WEIGHTS)
    state["head.bias"] = torch.full_like(state["head.bias"], float("nan"))
    save_file(state, artefact.path / WEIGHTS)
    vouch_for_weights(artefact.path)
    with pytest.raises(ModelError, match=r"NaN or infinity in head\.bias"):
        load_net(load_artefact(artefact.path))


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"threshold": 2}, "cannot be read"), ({"speed": 1}, "cannot be read"), ({"options": {"x": 1}}, "does not fit")],
)
def test_bad_cards_are_refused(artefact: Artefact, change: dict[str, object], reason: str) -> None:
    card = json.loads((artefact.path / CARD).read_text())
    (artefact.path / CARD).write_text(json.dumps(card | change))
    with pytest.raises(ModelError, match=reason):
        load_artefact(artefact.path)


def test_models_are_found_by_path_by_name_and_newest_first(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    card = ModelCard(name="mine", architecture="unet", options=OPTIONS, threshold=0.5)
    for version in ("2026-01-01", "2026-02-01"):
        save_artefact(workspace.models / "mine" / version, card, build("unet", OPTIONS))
    assert find_model("mine", workspace).path.name == "2026-02-01"
    assert find_model(str(workspace.models / "mine" / "2026-01-01")).path.name == "2026-01-01"
    with pytest.raises(ModelError, match="known: mine"):
        find_model("yours", workspace)
    with pytest.raises(ModelError, match=r"model\.json is missing"):
        find_model(str(tmp_path / "nowhere"))


def test_a_file_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("name: mine")
    for name in ("mine.yaml", "./mine.yaml"):
        with pytest.raises(ModelError, match=r"^mine\.yaml: this is a file, and a model is a folder\. Fix: .*import"):
            find_model(name)


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    net: Any = build("unet", OPTIONS)
    torch.nn.init.constant_(net.head.bias, float("inf"))
    card = ModelCard(name="tiny", architecture="unet", options=OPTIONS, threshold=0.5)
    with pytest.raises(ModelError, match=r"NaN or infinity in head\.bias\. Fix: "):
        save_artefact(tmp_path / "models" / "tiny", card, net)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", ["read_text", "read_bytes", "is_file"])
def test_a_model_that_cannot_be_read_is_one_clear_error(
    artefact: Artefact, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, method, refuse)
    with pytest.raises(ModelError, match=r"cannot be read.*Permission denied"):
        load_artefact(artefact.path)


def test_a_folder_of_models_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    Workspace(tmp_path).prepare()
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ModelError, match="models: a model cannot be read"):
        find_model("mine", Workspace(tmp_path))


BENT = Calibration(scale=0.5, bias=-0.75)


def test_a_calibrated_model_gives_calibrated_logits_on_every_runtime(tmp_path: Path) -> None:
    net = build("unet", {"features": 2, "depth": 2}).eval()
    card = ModelCard(name="m", architecture="unet", options={"features": 2, "depth": 2}, threshold=0.5)
    plain = save_artefact(tmp_path / "plain", card, net)
    bent = save_artefact(tmp_path / "bent", card.model_copy(update={"calibration": BENT}), net)
    assert bent.digest != plain.digest
    channels = np.random.default_rng(0).normal(size=(1, 40, 52)).astype(np.float32)
    x = torch.from_numpy(channels)[None]
    with torch.inference_mode():
        expected = 0.5 * net(x) - 0.75
        assert torch.equal(load_net(plain)(x), net(x))
        assert torch.equal(load_net(bent)(x), expected)
        assert torch.equal(load_net(bent, calibrate=False)(x), net(x)), "training goes on from what was trained"
    runtimes: tuple[RuntimeName, ...] = ("torch", "openvino")
    for runtime in runtimes:
        with Engine(load_net(bent), torch.device("cpu"), threads=1, runtime=runtime) as engine:
            assert np.allclose(engine.probability(channels), expected.sigmoid()[0, 0].numpy(), atol=1e-5)
    halo = measure_halo(load_net(bent), 4, limit_px=32)
    assert halo is not None
    assert halo <= (geometry_of(card).halo_px or 0)
    assert activation_bytes(load_net(bent), (1, 64, 64)) >= activation_bytes(load_net(plain), (1, 64, 64))


def test_a_card_without_a_calibration_has_the_digest_of_the_plain_net(tmp_path: Path) -> None:
    bundled = find_model("unet-em")
    old = tmp_path / "old"
    old.mkdir()
    (old / WEIGHTS).write_bytes((bundled.path / WEIGHTS).read_bytes())
    card = json.loads((bundled.path / CARD).read_text())
    del card["calibration"]
    (old / CARD).write_text(json.dumps(card))
    found = load_artefact(old)
    assert found.card.calibration == Calibration()
    made_of = {
        "weights": sha256((old / WEIGHTS).read_bytes()).hexdigest(),
        **{key: getattr(found.card, key) for key in ("architecture", "options", "normalisation")},
    }
    assert found.digest == sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
    assert found.digest != bundled.digest
    assert type(load_net(found)) is type(build("unet", bundled.card.options))


def test_how_well_a_calibration_fits_is_no_part_of_the_digest(tmp_path: Path) -> None:
    net, options = build("unet", {"features": 2, "depth": 1}), {"features": 2, "depth": 1}
    card = ModelCard(name="m", architecture="unet", options=options, threshold=0.5, calibration=BENT)
    judged = BENT.model_copy(update={"ece_validation": 0.01})
    other = card.model_copy(update={"calibration": judged})
    digests = {save_artefact(tmp_path / str(k), one, net).digest for k, one in enumerate((card, other))}
    assert len(digests) == 1


@pytest.mark.parametrize("wrong", [{"scale": 0}, {"scale": -1}, {"bias": float("nan")}])
def test_a_calibration_that_turns_membrane_round_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Calibration(**wrong)
