"""What a shell proposes for the names of volumes, runs and models, read from the workspace.

A shell asks at every press of Tab, so nothing heavy is loaded here, and what cannot be read proposes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from segem.errors import SegemError

if TYPE_CHECKING:
    from segem.io.workspace import Workspace


def complete_volume(context: typer.Context, incomplete: str) -> list[str]:
    """Return the ingested volumes whose names begin like this."""
    return _beginning(context, incomplete, lambda space: space.volumes())


def complete_run(context: typer.Context, incomplete: str) -> list[str]:
    """Return the runs whose names begin like this."""
    return _beginning(context, incomplete, lambda space: space.runs())


def complete_model(context: typer.Context, incomplete: str) -> list[str]:
    """Return the models of the workspace, and the bundled ones, whose names begin like this."""
    from segem.io.models import list_models

    return _beginning(context, incomplete, lambda space: (name for name, _ in list_models(space)))


def complete_set(_context: typer.Context, incomplete: str) -> list[str]:
    """Return the public data sets whose names begin like this."""
    from segem.stages.volumes.public_sets import PUBLIC_SETS

    return [each.name for each in PUBLIC_SETS if each.name.startswith(incomplete)]


def complete_architecture_or_model(context: typer.Context, incomplete: str) -> list[str]:
    """Return the architectures and models whose names begin so."""
    from segem.stages.models.catalogue import list_architectures

    nets = [net.name for net in list_architectures([incomplete])]
    return sorted({*nets, *complete_model(context, incomplete)})


def _beginning(context: typer.Context, incomplete: str, names_in: Callable[[Workspace], Iterable[str]]) -> list[str]:
    from segem.io.workspace import Workspace

    try:
        names = sorted(set(names_in(Workspace(Path(context.params["workspace"]).resolve()))))
    except (SegemError, OSError, KeyError):
        return []
    return [name for name in names if name.startswith(incomplete)]
