"""Refuses to replace a finished result by a different one, unless that is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from segem.errors import ConfigError, InputError, WorkspaceError
from segem.geometry import Box
from segem.io.layers import layer_of
from segem.io.run import StepRequest, load_run
from segem.io.shards import missing_shards, shape_of, shard_keys
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.records.run import ModelRecord

_SHOWN = 4


def require_same_request(workspace: Workspace, request: StepRequest) -> None:
    """Raise if a run holds something of a volume that another request has made.

    Only what a user asks for counts: settings, and the weights that a model's name means. Where the data or the code
    have changed, the same request resumes.

    Parameters
    ----------
    workspace : Workspace
        Where the run lives.
    request : StepRequest
        What is to be made.

    Raises
    ------
    ConfigError
        Naming what differs, and the ways out.
    """
    run, volume = request.run, request.volume
    entry = load_run(workspace, run).volumes.get(volume) if run in workspace.runs() else None
    # This step or another one that writes the same layers: either would be overwritten.
    holders = [step for step in entry.steps.values() if set(step.layers) & set(request.layers)] if entry else []
    for holder in holders:
        # A record without a single block on disk has nothing to lose.
        if not _holds(workspace, run, volume, holder.layers):
            continue
        held: dict[str, Any] = {"step": holder.step, **holder.config}
        asked: dict[str, Any] = {"step": request.step, **request.config.model_dump(mode="json")}
        if request.model is not None:
            held["model"], asked["model"] = _weights(holder.model), _weights(request.model)
        refuse_others(
            held,
            asked,
            what=f"this run holds a {holder.result} made in another way",
            where=f"{run}/{volume}",
            fix="give another name with --run, or --replace to lose what is there and make it again under this name",
        )


def refuse_others(held: Mapping[str, Any], asked: Mapping[str, Any], *, what: str, where: object, fix: str) -> None:
    """Raise if a request differs from the one that made what is there, naming what differs.

    Raises
    ------
    ConfigError
        When a setting differs.

    Examples
    --------
    >>> refuse_others({"tile_px": 64, "views": 1}, {"tile_px": 48, "views": 1}, what="no", where="r", fix="stop")
    Traceback (most recent call last):
    segem.errors.ConfigError: r: no; expected tile-px 48, found tile-px 64. Fix: stop
    """
    then, now = dict(_flat(held)), dict(_flat(asked))
    # The step, the model and the refined run explain most, so they come first: only a few are shown.
    keys = dict.fromkeys(("step", "model", "of", *now, *then))
    other = [key for key in keys if then.get(key) != now.get(key)]
    if other:
        raise ConfigError(what, where=where, expected=_named(now, other), found=_named(then, other), fix=fix)


def _holds(workspace: Workspace, run: str, volume: str, layers: tuple[str, ...]) -> bool:
    """Return whether a block of a layer is on disk; a volume that cannot be read may hold some."""
    try:
        result = Volume.open(workspace.result(run, volume))
        arrays = [layer_of(result, layer) for layer in layers]
        return any(
            len(missing_shards(array)) < len(shard_keys(array, Box.of_shape(shape_of(array)))) for array in arrays
        )
    except InputError:
        # There is no result volume.
        return False
    except WorkspaceError:
        # Damaged: when in doubt, nothing is overwritten without being asked.
        return True


def _weights(model: ModelRecord | None) -> str | None:
    return None if model is None else f"{model.name} ({model.digest[:12]})"


def _flat(settings: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{within}{key}.")
        else:
            yield f"{within}{key}", value


def _named(settings: Mapping[str, Any], keys: list[str]) -> str:
    """Return settings as a user writes them, leaving out those that only the other side has."""
    known = [key for key in keys if key in settings] or keys
    names = {key: key.replace("_", "-") for key in known}
    words = [
        f"no {name} given" if settings.get(key) is None else f"{name} {settings[key]}" for key, name in names.items()
    ]
    more = [f"{len(words) - _SHOWN} more"] if len(words) > _SHOWN else []
    return ", ".join(words[:_SHOWN] + more)
