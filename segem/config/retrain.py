"""Settings of a retraining: what is trained, what is rehearsed, and the gate that the new model has to pass."""

from __future__ import annotations

from segem.config.gate import GateConfig
from segem.config.manifest import Manifest, Split
from segem.config.names import Name
from segem.config.parsing import parse
from segem.config.train import SHARE, TrainJobConfig
from segem.errors import ConfigError


class RetrainConfig(TrainJobConfig):
    """How a better model is trained, and the gate it has to pass before it is used."""

    from_reviews: Name | None = None
    """Train on the regions of a run that people have accepted or fixed in `segem review`; everything else is unknown.
    Its last sections judge the new model, unless the manifest has test sections of the same volume. What is fine-tuned
    is the model of the run, where --from names no other."""
    only_train: bool = False
    """Do not segment the volumes of the reviewed run again when the new model is put in use."""
    against: str | None = None
    """Incumbent, by name or folder. When absent, the version that the name of the new model refers to; else the base
    model; else K-means."""
    force: bool = False
    """Promote the new model even if the gate refuses it; its record says that it was forced."""
    gate: GateConfig = GateConfig()
    """Gate that the new model has to pass."""


def with_rehearsal(manifest: Manifest | None, old: Manifest, share: float, reviewed: int = 0) -> Manifest:
    """Return a manifest of new and old labelled volumes, weighted so that a share of the crops is from the old ones.

    Parameters
    ----------
    manifest : Manifest or None
        What the model is trained on; None where that is what people have reviewed alone.
    old : Manifest
        What it must not forget. Its labelled volumes keep their weights relative to each other.
    share : float
        Between 0 and 1.
    reviewed : int
        Volumes whose reviewed regions are trained on too, each of weight 1.

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
    new, rehearsed = {} if manifest is None else _splits(manifest), _splits(old)
    # Old weights w and new weights v: f w / (f w + v) is the share.
    factor = share / (1 - share) * (_weight(new) + reviewed) / _weight(rehearsed)
    volumes = [] if manifest is None else [entry for entry in manifest.volumes if entry.name in new]
    for entry in old.volumes:
        split = rehearsed.get(entry.name)
        if split is not None:
            lighter = split.model_copy(update={"weight": split.weight * factor, "rehearsed": True})
            volumes.append(entry.model_copy(update={"split": lighter}))
    named = old if manifest is None else manifest
    values = named.model_dump() | {"volumes": [entry.model_dump() for entry in volumes]}
    return parse(Manifest, values, where=f"{named.name} with --rehearse {old.name}")


def nothing_to_rehearse() -> ConfigError:
    """Return the error for a rehearsal without a base model."""
    return ConfigError(
        "--rehearse needs a base model",
        fix="name with --from the model that was trained on it, or list these volumes in the manifest itself",
    )


def _splits(manifest: Manifest) -> dict[str, Split]:
    """Return the split of each labelled volume."""
    found = {}
    for entry in manifest.volumes:
        if entry.labels is None:
            continue
        if entry.split is None:
            raise ConfigError(
                "to train on old and new volumes together, each needs a split",
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
