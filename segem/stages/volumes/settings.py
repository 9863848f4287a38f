"""What defines a volume: the settings it is made by, and the refusal to put another one in its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segem.config import IngestConfig, Url
from segem.errors import SegemError, WorkspaceError
from segem.io.replacing import refuse_others
from segem.io.volume import Volume
from segem.stages.volumes.labels import write_values

_OF_LABELS = (
    "labels",
    "membrane",
    "border_nm",
    "zero_means",
    "labels_dataset",
    "labels_unwritten",
    "ignore",
    "unpainted",
)


def describe_settings(config: IngestConfig) -> dict[str, Any]:
    """Return the settings that define a volume, named as on the command line, with resolved paths."""
    settings: dict[str, Any] = {
        "source": _name_whole(config.source),
        "dataset": config.dataset,
        "axes": config.axes,
        "channel": config.channel,
        "box": config.box,
        "window": None if config.window is None else ",".join(f"{end:g}" for end in config.window),
        "unwritten": config.unwritten,
        "missing": config.missing,
        "voxel_nm": None if config.voxel_nm is None else ",".join(f"{size:g}" for size in config.voxel_nm),
        **dict.fromkeys(_OF_LABELS),
        "second_labels": None if config.second_labels is None else _name_whole(config.second_labels.source),
    }
    if config.labels is not None:
        settings |= {
            "labels": _name_whole(config.labels.source),
            "membrane": write_values(config.labels.membrane),
            "border_nm": config.labels.border_nm,
            "zero_means": config.labels.zero_means,
            "labels_dataset": config.labels.dataset,
            "labels_unwritten": config.labels.unwritten,
            # One value as the number that earlier versions of segem noted.
            "ignore": write_values(config.labels.ignored) if len(config.labels.ignored) > 1 else config.labels.ignore,
            "unpainted": config.labels.unpainted,
        }
    return settings


def require_same_settings(path: Path, config: IngestConfig) -> None:
    """Raise if another volume would be overwritten; labels may be added to one that has none.

    Raises
    ------
    ConfigError
        When it was made by other settings; the message names them.
    WorkspaceError
        When it cannot be read.
    """
    if not path.exists() and not path.is_symlink():
        return
    fix = "give another name, or --replace to `segem ingest`, `run`, `train` or `retrain` to lose what is there"
    try:
        held = Volume(path).attributes.get("settings", {})
    except SegemError as error:
        # It may have been made of another source, which nobody could make it from again.
        raise WorkspaceError(
            "there is a volume of this name that cannot be read", where=config.name, found=error, fix=fix
        ) from error
    if held:
        # Volumes ingested by earlier versions of segem have no such settings.
        held = {"ignore": None, "unpainted": None if held.get("labels") is None else "labelled"} | held
    asked = describe_settings(config)
    new = {name for names in (_OF_LABELS, ("second_labels",)) if held.get(names[0]) is None for name in names}
    refuse_others(
        held,
        {key: value for key, value in asked.items() if key in held and key not in new},
        what="there is another volume of this name",
        where=config.name,
        fix=fix,
    )


def _name_whole(source: Path | Url) -> str:
    """Return a source so that it is the same from any folder."""
    return source if isinstance(source, Url) else str(source.resolve())
