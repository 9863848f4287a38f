"""Which sections of labelled volumes a model learns from, chooses its threshold on and is scored on."""

from __future__ import annotations

from segem.config import Manifest, Split, VolumeEntry
from segem.errors import ConfigError
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.learn.artefact import TrainedOn
from segem.stages.ingest import ingest


def lessons(manifest: Manifest, workspace: Workspace, progress: bool) -> tuple[dict[str, Volume], dict[str, Split]]:
    """Ingest the labelled volumes of a manifest; return them, and which of their sections are for what.

    Raises
    ------
    ConfigError
        When no volume has labels, or a split does not fit its volume.
    InputError
        When sources or labels are bad.
    """
    labelled = [entry for entry in manifest.volumes if entry.labels is not None]
    if not labelled:
        raise ConfigError(
            "no volume of this manifest has labels", where=manifest.name, fix="give at least one volume labels"
        )
    for entry in labelled:
        ingest(entry.ingest_config(), workspace, progress=progress)
    volumes = {entry.name: Volume.open(workspace.volume(entry.name)) for entry in labelled}
    return volumes, {entry.name: split_of(entry, volumes[entry.name]) for entry in labelled}


def trained_on(volumes: dict[str, Volume], splits: dict[str, Split]) -> tuple[TrainedOn, ...]:
    """Return what the card of a model says of the sections that make it."""
    total = sum(split.weight for split in splits.values())
    return tuple(
        TrainedOn(
            volume=volume,
            source_digest=volumes[volume].attributes["source_digest"],
            train=(split.train.start, split.train.stop),
            validation=(split.validation.start, split.validation.stop),
            share=round(split.weight / total, 4),
        )
        for volume, split in splits.items()
    )


def split_of(entry: VolumeEntry, volume: Volume) -> Split:
    """Return which sections of a labelled volume train, validate and test; without a split the last fifth validates.

    Raises
    ------
    ConfigError
        When the volume has no truth, or not the sections.
    """
    sections = volume.shape[0]
    if not volume.has_label("truth"):
        raise ConfigError("the volume has no truth", where=entry.name, fix="ingest it with labels")
    if entry.split is None:
        cut = sections - max(1, sections // 5)
        if cut < 1:
            raise ConfigError(
                "too few sections to train and validate",
                where=entry.name,
                expected="2 or more",
                found=sections,
                fix="give more sections, or leave this volume out",
            )
        return Split.model_validate({"train": [0, cut], "validation": [cut, sections]})
    for part in (entry.split.train, entry.split.validation, entry.split.test):
        if part is not None and part.stop > sections:
            raise ConfigError(
                "the split names sections that do not exist",
                where=entry.name,
                expected=f"0 to {sections}",
                found=f"{part.start} to {part.stop}",
                fix="correct the split in the manifest",
            )
    return entry.split
