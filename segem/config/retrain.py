"""Settings of a retraining: what is learned, what is rehearsed meanwhile, and what the new model has to pass."""

from __future__ import annotations

from pathlib import Path

from segem.config.base import Config
from segem.config.execution import Device
from segem.config.gate import GateConfig
from segem.config.manifest import Manifest, Split
from segem.config.names import Name
from segem.config.parsing import parse
from segem.config.train import TrainConfig
from segem.errors import ConfigError

SHARE = 0.3
"""Share of the crops that is rehearsed where none is given."""
REMEMBER: float = TrainConfig.model_fields["remember"].default
"""How much it counts there that the net gives what it gave before, where nothing is said."""


class RetrainConfig(Config):
    """How a better model is made, and what it has to pass before it is used."""

    out: Name
    """Name of the model; a new version of it is made."""
    train: TrainConfig = TrainConfig(minutes=30)
    start: str | None = None
    """Model to go on from, by name or folder."""
    rehearse: Path | None = None
    """A manifest of what that model learned from; its volumes are learned again beside the new ones, and judged."""
    share: float = SHARE
    """Share of the crops that is drawn from rehearsed volumes."""
    against: str | None = None
    """Model to beat; when absent, what the name `out` means now, else the model that is gone on from, else K-means."""
    replace: bool = False
    """Whether volumes of these names that have another source, voxel size or labels are lost, and made anew."""
    force: bool = False
    """Whether the new model is put in use whatever is found; the record says so."""
    gate: GateConfig = GateConfig()
    device: Device = "auto"
    licence: str = ""
    citation: str = ""


def with_rehearsal(manifest: Manifest, old: Manifest, share: float) -> Manifest:
    """Return a manifest of new and old labelled volumes, whose weights make the old ones a share of what is drawn.

    Parameters
    ----------
    manifest : Manifest
        What is to be learned.
    old : Manifest
        What is not to be forgotten. Each of its labelled volumes counts relative to the others as it did.
    share : float
        Between 0 and 1.

    Returns
    -------
    Manifest
        Named as the new one.

    Raises
    ------
    ConfigError
        When a labelled volume has no split, one of the two has no labels, or both name the same volume.

    Examples
    --------
    >>> def one(name):
    ...     labels = {"source": "truth.tif", "membrane": "nonzero"}
    ...     split = {"train": [0, 2], "validation": [2, 3], "test": [3, 4]}
    ...     volume = {"name": name, "source": "raw.tif", "voxel_nm": [50, 4, 4], "labels": labels, "split": split}
    ...     return Manifest.model_validate({"name": name, "volumes": [volume]})
    >>> both = with_rehearsal(one("new"), one("old"), 0.25)
    >>> [(volume.name, round(volume.split.weight, 4)) for volume in both.volumes]
    [('new', 1.0), ('old', 0.3333)]
    """
    if not 0 < share < 1:
        raise ConfigError("--share out of range", expected="more than 0, less than 1", found=share, fix=f"try {SHARE}")
    new, rehearsed = _splits(manifest), _splits(old)
    factor = share / (1 - share) * _weight(new) / _weight(rehearsed)
    volumes = [entry for entry in manifest.volumes if entry.name in new]
    for entry in old.volumes:
        split = rehearsed.get(entry.name)
        if split is not None:
            lighter = split.model_copy(update={"weight": split.weight * factor, "rehearsed": True})
            volumes.append(entry.model_copy(update={"split": lighter}))
    values = manifest.model_dump() | {"volumes": [entry.model_dump() for entry in volumes]}
    return parse(Manifest, values, where=f"{manifest.name} with --rehearse {old.name}")


def nothing_to_rehearse() -> ConfigError:
    """Return what to raise where there is no model to go on from that could have learned anything."""
    return ConfigError(
        "--rehearse needs a model to go on from",
        fix="name by --from the model that has learned it, or list these volumes in the manifest itself",
    )


def _splits(manifest: Manifest) -> dict[str, Split]:
    """Return the split of each labelled volume."""
    found = {}
    for entry in manifest.volumes:
        if entry.labels is None:
            continue
        if entry.split is None:
            raise ConfigError(
                "to learn old and new volumes together, each needs a split",
                where=f"{manifest.name}, volume {entry.name}",
                fix="add one, such as split: {train: [0, 3], validation: [3, 4], test: [4, 5]}",
            )
        found[entry.name] = entry.split
    if not found:
        raise ConfigError(
            "no volume of this manifest has labels", where=manifest.name, fix="give at least one volume labels"
        )
    return found


def _weight(splits: dict[str, Split]) -> float:
    return sum(split.weight for split in splits.values())
