"""The models that come with segem: small files, with a card that says what a user must know."""

from __future__ import annotations

import pytest

from segem.io.models import BUNDLED
from segem.learn.artefact import WEIGHTS, find_model, load_net
from segem.learn.cost import gflop_per_megapixel
from segem.learn.models.registry import spec_of

NAMES = sorted(folder.name for folder in BUNDLED.iterdir() if folder.is_dir())
LARGEST = 10_000_000


def test_the_bundled_models_are_these() -> None:
    assert NAMES == ["unet-em", "unet-em-fast", "unet-em-open"]


@pytest.mark.parametrize("name", NAMES)
def test_a_card_says_what_a_user_must_know(name: str) -> None:
    card = find_model(name).card
    assert card.name == name
    assert card.licence.startswith("CC BY")
    assert "doi:10." in card.citation
    assert card.learned_at is not None
    assert card.trained_on
    assert card.reference is not None, "what it expects of volumes without labels"
    assert card.scores
    assert {score.volume.rstrip("0123456789") for score in card.scores} == {
        part.volume.partition("-")[0].rstrip("0123456789") for part in card.trained_on
    }, "scores on every tissue that it knows, and on no other"


def test_only_the_open_one_may_be_used_in_industry() -> None:
    for name in ("unet-em", "unet-em-fast"):
        assert "NC" in find_model(name).card.licence
    assert "NC" not in find_model("unet-em-open").card.licence
    assert {part.volume.partition("-")[0] for part in find_model("unet-em-open").card.trained_on} == {"ac4"}


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_small_and_fit_their_net(name: str) -> None:
    artefact = find_model(name)
    assert (artefact.path / WEIGHTS).stat().st_size <= LARGEST
    assert sum(parameter.numel() for parameter in load_net(artefact).parameters()) < 2_000_000


def test_the_fast_one_does_a_quarter_of_the_work_and_is_nearly_as_good() -> None:
    usual, fast = (find_model(name).card for name in ("unet-em", "unet-em-fast"))
    spec = spec_of("unet")
    work = [gflop_per_megapixel(spec, spec.options.model_validate(card.options)) for card in (usual, fast)]
    assert 4 * work[1] < work[0]
    reached = [{score.volume: score for score in card.scores} for card in (usual, fast)]
    assert reached[0].keys() == reached[1].keys()
    for volume, score in reached[0].items():
        assert reached[1][volume].iou >= score.iou - 0.01, volume
        assert (reached[1][volume].v_rand or 0.0) >= (score.v_rand or 0.0) - 0.015, volume
