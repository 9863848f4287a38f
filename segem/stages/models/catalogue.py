"""Lists the nets there are: architectures with their costs, and trained models with their scores.

Nothing here loads torch, so that `segem models list` answers at once. The costs of an architecture follow from its code
alone, so they are kept in ``architectures.json``, and a test compares that file with the nets. To write it anew::

    python -c "from segem.stages.models.zoo import write_catalogue; write_catalogue()"
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from segem.errors import ModelError
from segem.io.models import list_models, read_card
from segem.io.versions import describe_standing
from segem.io.workspace import Workspace
from segem.records.card import HeldOutScore

CATALOGUE = Path(__file__).with_name("architectures.json")


@dataclass(frozen=True)
class Architecture:
    """One architecture of the zoo, with its default options.

    Parameters
    ----------
    name, summary, source : str
        How it is asked for, what it is, and the paper.
    parameters : int
        Numbers it learns.
    gflop_per_megapixel : float
        Operations for a million pixels, in 10^9; a multiplication with an addition counts two.
    output_stride : int
        Input pixels to one pixel of the coarsest map that scores are computed on.
    receptive_field_px : int or None
        Edge of what one output pixel sees; None where that is the whole section.
    stride_px : int
        Tiles start on multiples of this.
    halo_px : int or None
        Context for exact output; None where there is none short of the whole section.
    megapixels_per_second : float or None
        On one tile, by one thread; None where it was not measured.
    not_measured : str
        Why it could not be measured, if that was wanted.
    """

    name: str
    summary: str
    source: str
    parameters: int
    gflop_per_megapixel: float
    output_stride: int
    receptive_field_px: int | None
    stride_px: int
    halo_px: int | None
    megapixels_per_second: float | None = None
    not_measured: str = ""


@dataclass(frozen=True)
class TrainedModel:
    """A model on disk; where its card cannot be read, the reason instead of architecture and scores.

    `standing` is what `segem.io.versions.describe_standing` says of it.
    """

    name: str
    path: Path
    architecture: str = ""
    scores: tuple[HeldOutScore, ...] = ()
    unreadable: str = ""
    standing: str = ""


def list_architectures(beginnings: Collection[str] = ()) -> tuple[Architecture, ...]:
    """Return the architectures of the zoo with their default options, by name.

    Parameters
    ----------
    beginnings : collection of str
        What the names begin with; all when empty.

    Examples
    --------
    >>> [net.name for net in list_architectures(["fcn8", "seg"])]
    ['fcn8s', 'segnet']
    """
    nets = (Architecture(**values) for values in json.loads(CATALOGUE.read_text(encoding="utf-8")))
    return tuple(net for net in nets if _begins(net.name, beginnings))


def list_trained(workspace: Workspace, beginnings: Collection[str] = ()) -> tuple[TrainedModel, ...]:
    """Return the models of the workspace and the bundled ones, with the scores on their cards.

    Parameters
    ----------
    workspace : Workspace
        Where trained models lie.
    beginnings : collection of str
        What the names begin with; all when empty.

    Raises
    ------
    ModelError
        When a folder of models cannot be read; a single damaged model is listed with the reason.
    """
    return tuple(_trained(name, path) for name, path in list_models(workspace) if _begins(name, beginnings))


def _begins(name: str, beginnings: Collection[str]) -> bool:
    return not beginnings or name.startswith(tuple(beginnings))


def _trained(name: str, path: Path) -> TrainedModel:
    try:
        (card, _), stands = read_card(path), describe_standing(path)
    except ModelError as error:
        return TrainedModel(name, path, unreadable=str(error))
    return TrainedModel(name, path, card.architecture, card.scores, standing=stands)
