"""Describes architectures of the zoo, their costs and speed on this machine; says which names models may have."""

from __future__ import annotations

import inspect
import json
import logging
import re
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from segem.config import check_name
from segem.errors import ConfigError, ModelError, SegemError
from segem.io.files import write_text
from segem.io.versions import find_promoted
from segem.io.workspace import Workspace
from segem.learn.artefact import Artefact, find_model, list_models
from segem.learn.cost import bare_net, bytes_needed, gflop_per_megapixel, megapixels_per_second, parameter_count
from segem.learn.models.registry import ZOO, spec_of
from segem.progress import is_shown, tell, track
from segem.stages.models.catalogue import CATALOGUE, Architecture
from segem.stages.segmentation.budget import RESIDENT, half_of_the_machine

logger = logging.getLogger(__name__)

MEASURED_PX = 512
"""Edge of the tile whose evaluation is timed."""


@dataclass(frozen=True)
class Option:
    """One option of an architecture; `allowed` and `meaning` are empty where it does not say."""

    name: str
    default: Any
    allowed: str
    meaning: str


@dataclass(frozen=True)
class Explanation:
    """An architecture, the description in its net's docstring, and its options."""

    architecture: Architecture
    about: str
    options: tuple[Option, ...]


def measure_architectures(nets: Collection[Architecture]) -> tuple[Architecture, ...]:
    """Return architectures with how fast they are here, by evaluating a tile with each, one after the other.

    The runtime is the one that ``auto`` takes here.
    """
    found = []
    with track("measure", len(nets), "net") as advance:
        for net in nets:
            found.append(_measured(net))
            rate = found[-1].megapixels_per_second
            if is_shown():
                tell(f"{net.name}: {f'{rate:.2f} Mpx/s' if rate else found[-1].not_measured}")
            advance(1, net.name)
    return tuple(found)


def describe_architecture(name: str) -> Architecture:
    """Return what an architecture costs and sees with its default options; its net is built, without weights.

    Raises
    ------
    ModelError
        When there is none of this name.

    Examples
    --------
    >>> describe_architecture("unet").output_stride
    1
    """
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


def write_catalogue() -> None:
    """Write what is listed of every architecture, after a net was added or changed."""
    nets = [asdict(describe_architecture(name)) for name in sorted(ZOO)]
    kept = [
        {key: value for key, value in net.items() if key not in ("megapixels_per_second", "not_measured")}
        for net in nets
    ]
    write_text(CATALOGUE, json.dumps(kept, indent=2, ensure_ascii=False) + "\n")


def explain(name: str) -> Explanation:
    """Return the description, costs and options of an architecture.

    Raises
    ------
    ModelError
        When there is none of this name.

    Examples
    --------
    >>> [option.name for option in explain("unet").options]
    ['context_sections', 'features', 'depth', 'shuffle_px']
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
    return Explanation(describe_architecture(name), _about(type(bare_net(spec, spec.options()))), options)


def is_architecture(name: str, workspace: Workspace) -> bool:
    """Return whether a name refers to an architecture; a trained model of the same name takes precedence."""
    return name in ZOO and name not in {known for known, _ in list_models(workspace)}


def find_shown_model(name: str, workspace: Workspace) -> Artefact:
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
    """Raise unless a new model may have this name: it must not hide a bundled model or an architecture.

    Raises
    ------
    ConfigError
        When it is not a valid name, or that of a bundled model or an architecture.

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
    """Warn where the name of a new version still refers to another version, because that was promoted.

    Raises
    ------
    ModelError
        When the file that names it is damaged.
    """
    promoted = find_promoted(version.parent)
    if promoted is not None and promoted != version:
        logger.warning(
            "%s still refers to version %s, which was promoted; `segem models promote %s MANIFEST` judges the new "
            "version and puts it in use",
            version.parent.name,
            promoted.name,
            version,
        )


def _measured(net: Architecture) -> Architecture:
    spec = spec_of(net.name)
    options = spec.options()
    # Counted first, so that a large net is not measured by running out of memory.
    needed, allowed = RESIDENT + bytes_needed(spec, options, MEASURED_PX), half_of_the_machine()
    if needed > allowed:
        short = f"needs {needed / 1e9:.1f} GB, half of the memory here is {allowed / 1e9:.1f} GB"
        return replace(net, not_measured=short)
    try:
        return replace(net, megapixels_per_second=megapixels_per_second(spec, options, MEASURED_PX))
    except SegemError as error:
        return replace(net, not_measured=str(error))


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
    """Return a type as it is written in a help text.

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
