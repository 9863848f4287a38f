"""What was labelled as a manifest to train on: a file of labels, and an entry that says what each section is for."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from segem.config import BUNDLED_MODEL, IngestConfig, check_name, parse
from segem.config.manifest import Manifest
from segem.config.yaml_text import read_yaml
from segem.errors import ConfigError
from segem.io.files import disk_errors, write_text
from segem.io.reviewed import open_log, trusted_places
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.stages.segmentation.export import write_layer

MARK = "# Written by segem review --label, anew each time that it ends.\n"
MEMBRANE, UNKNOWN = 255, 128
"""As `segem export` writes a mask and what is not known of it."""
_OF_SOURCE = ("source", "dataset", "axes", "channel", "unwritten", "missing")


@dataclass(frozen=True)
class WrittenLabels:
    """What was written, and what to do with it."""

    patches: int
    sections: tuple[int, ...]
    manifest: str | None
    next: str


def check_manifest(path: Path, volume: str) -> None:
    """Raise where a file is there that somebody else has written, or nothing can be written at the end.

    Parameters
    ----------
    path : Path
        The YAML file.
    volume : str
        Whose labels are written beside it.

    Raises
    ------
    ConfigError
        When it is.
    WorkspaceError
        When it cannot be read, or its folder is missing.
    """
    with disk_errors(path):
        if path.is_dir() or (path.exists() and not path.read_text(encoding="utf-8").startswith(MARK)):
            raise ConfigError(
                "there is a manifest that was not written by `segem review --label`",
                where=path,
                fix="give another name, and copy the entry from there",
            )
        if not path.absolute().parent.is_dir():
            raise ConfigError("no such folder", where=path.absolute().parent, fix="make it first")
        check_name(path.stem, "manifest")
        labels = _locate_labels(path, volume)
        own = {Path(str((one.get("labels") or {}).get("source"))).name for one in _read_held(path).get("volumes", ())}
        # Perhaps the very stack that is labelled.
        if os.path.lexists(labels) and labels.name not in own:
            raise ConfigError(
                "the labels would replace a file that was not written by `segem review --label`",
                where=labels,
                fix="give the manifest another name, or move that file away",
            )


def write_labels(run: str, volume: str, path: Path, workspace: Workspace) -> WrittenLabels:
    """Write what is labelled of a volume, and the manifest that trains on it.

    Entries of other volumes in the manifest stay. Of the labelled sections, in their order, the last fifth judges the
    new model, the fifth before chooses its threshold, and the others teach it; each is at least one section.

    Parameters
    ----------
    run, volume : str
        Names of the run that keeps the labels, and of the volume.
    path : Path
        The YAML file; see `check_manifest`.
    workspace : Workspace
        Where both are.

    Returns
    -------
    WrittenLabels
        Without a manifest where fewer than two sections have labels, which nothing can be trained on.

    Raises
    ------
    SegemError
        When the log was changed, or the disk refuses.
    """
    with open_log(workspace, run) as log:
        places = trusted_places(log, volume)
    sections = tuple(sorted({place.z for place in places}))
    if len(sections) < 2:
        more = "label patches in three sections: to train on, to choose the threshold, and to judge the model by"
        return WrittenLabels(len(places), sections, None, more)
    check_manifest(path, volume)
    path, labels = path.absolute(), _locate_labels(path, volume)
    write_layer(run, volume, "reviewed-regions", labels, workspace)
    entry = make_entry(Volume.open(workspace.volume(volume)), volume, labels, sections)
    held = _read_held(path)
    others = [one for one in held.get("volumes", ()) if one["name"] != entry["name"]]
    values = {"name": path.stem} | held | {"volumes": [*others, entry]}
    parse(Manifest, values, where=path)
    write_text(path, MARK + yaml.safe_dump(values, sort_keys=False, default_flow_style=None))
    command = "retrain" if "test" in entry["split"] else "train"
    # Few labels: what the bundled model knows of other tissue is worth more than random weights.
    said = f"segem {command} {shlex.quote(str(path))} --out {volume}-model --from {BUNDLED_MODEL}"
    return WrittenLabels(len(places), sections, str(path), said if len(sections) > 2 else f"{said}, or label a third")


def make_entry(held: Volume, volume: str, labels: Path, sections: tuple[int, ...]) -> dict[str, Any]:
    """Return the entry of a manifest for a volume of the workspace with the labels of some of its sections.

    Parameters
    ----------
    held : Volume
        The volume, with the settings that it was ingested by.
    volume : str
        Its name. Where it has other labels already, or is a part of its source, which labels of the part do not fit,
        the entry is called ``VOLUME-labels``: another volume beside it.
    labels : Path
        The file.
    sections : tuple of int
        The labelled ones, ascending; two or more.

    Returns
    -------
    dict

    Raises
    ------
    ConfigError
        When the volume does not say what it was made of.
    """
    settings = held.attributes.get("settings")
    if not settings:
        raise ConfigError(
            "this volume does not say what it was made of", where=volume, fix="ingest it again with --again"
        )
    apart = settings.get("box") is not None
    known = {key: settings[key] for key in _OF_SOURCE if settings.get(key) is not None}
    config = IngestConfig(
        name=f"{volume}-labels" if apart or settings.get("labels") not in (None, str(labels)) else volume,
        **({"source": held.path} if apart else known),
        **{key: settings[key].split(",") for key in ("voxel_nm", "window") if settings.get(key) is not None},
        trust_voxel=bool(held.attributes["voxel"].get("trusted")),
    )
    entry = config.model_dump(mode="json", exclude_defaults=True)
    entry["labels"] = {"source": str(labels), "membrane": MEMBRANE, "ignore": UNKNOWN}
    return entry | {"split": split_sections(sections)}


def split_sections(sections: tuple[int, ...]) -> dict[str, list[int]]:
    """Say what labelled sections are for; what lies between them has no labels and no part in anything.

    Examples
    --------
    >>> split_sections((3, 7, 12, 15, 18))
    {'train': [3, 13], 'validation': [15, 16], 'test': [18, 19]}
    >>> split_sections((3, 7))
    {'train': [3, 4], 'validation': [7, 8]}
    """
    fifth = max(1, len(sections) // 5)
    parts = {"test": sections[-fifth:]} if len(sections) > 2 else {}
    rest = sections[: len(sections) - fifth] if parts else sections
    parts = {"train": rest[:-fifth], "validation": rest[-fifth:]} | parts
    return {name: [part[0], part[-1] + 1] for name, part in parts.items()}


def _locate_labels(path: Path, volume: str) -> Path:
    return path.absolute().with_name(f"{path.stem}-{volume}.tif")


def _read_held(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    found: dict[str, Any] = read_yaml(path.read_text(encoding="utf-8"))
    return found
