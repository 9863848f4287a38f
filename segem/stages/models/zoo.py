"""Which nets there are: the architectures of the zoo with what they cost, and the models trained from them."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from segem.config import check_name
from segem.errors import ConfigError, ModelError, SegemError
from segem.io.versions import promoted_version, standing
from segem.io.workspace import Workspace
from segem.learn.artefact import Artefact, find_model, list_models, load_artefact
from segem.learn.cost import bare_net, bytes_needed, gflop_per_megapixel, megapixels_per_second, parameter_count
from segem.learn.models.registry import ZOO, spec_of
from segem.progress import is_shown, tell, track
from segem.records.card import Score
from segem.stages.segmentation.budget import RESIDENT, half_of_the_machine

logger = logging.getLogger(__name__)

MEASURED_PX = 512
"""Edge of the tile that is evaluated for a rate."""


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
        On one tile of `MEASURED_PX`, by one thread; None where it was not measured.
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
class Option:
    """One thing that can be chosen of an architecture; `allowed` and `meaning` are empty where nothing is said."""

    name: str
    default: Any
    allowed: str
    meaning: str


@dataclass(frozen=True)
class Explanation:
    """An architecture, what its net says of itself, and its options."""

    architecture: Architecture
    about: str
    options: tuple[Option, ...]


@dataclass(frozen=True)
class TrainedModel:
    """A model on disk; without architecture and scores where its card cannot be read, and then why.

    `standing` is what `segem.io.versions.standing` says of it.
    """

    name: str
    path: Path
    architecture: str = ""
    scores: tuple[Score, ...] = ()
    unreadable: str = ""
    standing: str = ""


def architectures(names: Collection[str] = (), *, measure: bool = False) -> tuple[Architecture, ...]:
    """Return architectures of the zoo, by name, and on request how fast they are here.

    Parameters
    ----------
    names : collection of str
        Which ones; all when empty.
    measure : bool
        Evaluate a tile with each of them, one after the other, on the runtime that this machine takes.

    Raises
    ------
    ModelError
        When there is none of a name.

    Examples
    --------
    >>> next(net.output_stride for net in architectures() if net.name == "unet")
    1
    """
    found = tuple(_architecture(name) for name in sorted(set(names) or ZOO))
    if not measure:
        return found
    measured = []
    with track("measure", len(found), "net") as advance:
        for net in found:
            measured.append(_measured(net))
            rate = measured[-1].megapixels_per_second
            if is_shown():
                tell(f"{net.name}: {f'{rate:.2f} Mpx/s' if rate else measured[-1].not_measured}")
            advance(1, net.name)
    return tuple(measured)


def explain(name: str) -> Explanation:
    """Return what there is to know of an architecture before it is trained.

    Raises
    ------
    ModelError
        When there is none of this name.

    Examples
    --------
    >>> [option.name for option in explain("unet").options]
    ['context_sections', 'features', 'depth']
    """
    spec = spec_of(name)
    options = tuple(
        Option(
            key,
            None if field.default is PydanticUndefined else field.default,
            ", ".join(_bound(limit) for limit in field.metadata) or _plain_type(field.annotation),
            field.description or "",
        )
        for key, field in spec.options.model_fields.items()
    )
    return Explanation(_architecture(name), _about(type(bare_net(spec, spec.options()))), options)


def trained(workspace: Workspace) -> tuple[TrainedModel, ...]:
    """Return every model of the workspace and every bundled one, with the scores on its card.

    Raises
    ------
    ModelError
        When a folder of models cannot be read; a single damaged model is listed with the reason.
    """
    return tuple(_trained(name, path) for name, path in list_models(workspace))


def is_architecture(name: str, workspace: Workspace) -> bool:
    """Tell whether a name means an architecture; a trained model of the same name comes first."""
    return name in ZOO and name not in {known for known, _ in list_models(workspace)}


def shown_model(name: str, workspace: Workspace) -> Artefact:
    """Return a trained model to be shown.

    Raises
    ------
    ModelError
        When there is none; the message lists what else can be shown.
    """
    try:
        return find_model(name, workspace)
    except ModelError as error:
        if "/" in name or name in {known for known, _ in list_models(workspace)}:
            raise
        known = ", ".join(sorted({known for known, _ in list_models(workspace)}))
        raise ModelError(
            "neither a trained model nor an architecture",
            where=name,
            found=f"trained models: {known}; architectures: {', '.join(sorted(ZOO))}",
            fix="choose one of these, or give the path of a model's folder",
        ) from error


def check_new_name(name: str) -> None:
    """Raise unless a new model may be called by this name: it must not hide what came with segem.

    Raises
    ------
    ConfigError
        When the name is none, or that of a bundled model or an architecture.

    Examples
    --------
    >>> check_new_name("unet")
    Traceback (most recent call last):
    segem.errors.ConfigError: unet: this name is taken; found an architecture. Fix: give --out another name
    """
    check_name(name, "model")
    bundled = name in {known for known, _ in list_models()}
    if bundled or name in ZOO:
        raise ConfigError(
            "this name is taken",
            where=name,
            found="a model that comes with segem" if bundled else "an architecture",
            fix="give --out another name",
        )


def tell_if_not_in_use(version: Path) -> None:
    """Warn where the name of a new version still means another one, because that was promoted.

    Raises
    ------
    ModelError
        When the file that names it is damaged.
    """
    promoted = promoted_version(version.parent)
    if promoted is not None and promoted != version:
        logger.warning(
            "%s still means %s, which was promoted; `segem models promote %s MANIFEST` judges the new version and puts "
            "it in use",
            version.parent.name,
            promoted.name,
            version,
        )


def _architecture(name: str) -> Architecture:
    spec = spec_of(name)
    options = spec.options()
    geometry = spec.geometry(options)
    return Architecture(
        name=name,
        summary=spec.summary,
        source=spec.source,
        parameters=parameter_count(spec, options),
        gflop_per_megapixel=gflop_per_megapixel(spec, options),
        output_stride=spec.output_stride,
        receptive_field_px=spec.receptive_field_px(options),
        stride_px=geometry.stride_px,
        halo_px=geometry.halo_px,
    )


def _measured(net: Architecture) -> Architecture:
    spec = spec_of(net.name)
    options = spec.options()
    needed, allowed = RESIDENT + bytes_needed(spec, options, MEASURED_PX), half_of_the_machine()
    if needed > allowed:
        short = f"needs {needed / 1e9:.1f} GB, half of the memory here is {allowed / 1e9:.1f} GB"
        return replace(net, not_measured=short)
    try:
        return replace(net, megapixels_per_second=megapixels_per_second(spec, options, MEASURED_PX))
    except SegemError as error:
        return replace(net, not_measured=str(error))


def _trained(name: str, path: Path) -> TrainedModel:
    try:
        card, stands = load_artefact(path).card, standing(path)
    except ModelError as error:
        return TrainedModel(name, path, unreadable=str(error))
    return TrainedModel(name, path, card.architecture, card.scores, standing=stands)


def _about(net: type) -> str:
    r"""Return the first paragraph of a docstring and its notes.

    Examples
    --------
    >>> class Net:
    ...     '''Sees.
    ...
    ...     Parameters
    ...     ----------
    ...     a : int
    ...
    ...     Notes
    ...     -----
    ...     Somebody (1999).
    ...     '''
    >>> _about(Net)
    'Sees.\n\nSomebody (1999).'
    """
    sections = re.split(r"^(\w[\w ]*)\n-{3,}\n", inspect.getdoc(net) or "", flags=re.MULTILINE)
    named = dict(zip(sections[1::2], sections[2::2], strict=True))
    return "\n\n".join(text for text in (sections[0].strip(), named.get("Notes", "").strip()) if text)


def _bound(limit: Any) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    return next((f"{sign} {getattr(limit, key)}" for key, sign in signs.items() if hasattr(limit, key)), str(limit))


def _plain_type(annotation: Any) -> str:
    """Return a type as a person writes it.

    Examples
    --------
    >>> from typing import Literal
    >>> _plain_type(bool), _plain_type(Literal["a", 2])
    ('bool', "'a' or 2")
    """
    choices = getattr(annotation, "__args__", ())
    if choices and not any(isinstance(choice, type) for choice in choices):
        return " or ".join(map(repr, choices))
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
