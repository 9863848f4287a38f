"""A dataset: its volumes, what each section is for, and how they are segmented."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from segem.config.accept import Rule
from segem.config.base import Config, hash_of
from segem.config.baseline import BaselineConfig
from segem.config.ingest import IngestConfig
from segem.config.names import Name
from segem.config.parsing import parse
from segem.config.resources import ResourceConfig
from segem.config.review_goal import ReviewGoal
from segem.config.segment import BUNDLED_MODEL, SegmentConfig, SweepConfig
from segem.config.source import place_source
from segem.config.yaml_text import read_yaml
from segem.errors import ConfigError


class SectionRange(Config):
    """Contiguous sections ``start <= z < stop``."""

    start: int = Field(ge=0)
    stop: int

    @model_validator(mode="before")
    @classmethod
    def _from_pair(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)) and len(value) == 2:
            return {"start": value[0], "stop": value[1]}
        if not isinstance(value, (dict, SectionRange)):
            raise ValueError("sections must be given as [first, one past the last]")  # noqa: TRY004 - pydantic catches these
        return value

    @model_validator(mode="after")
    def _ordered(self) -> SectionRange:
        if self.stop <= self.start:
            raise ValueError(f"sections must be given as [first, one past the last], found [{self.start}, {self.stop}]")
        return self


class Split(Config):
    """Training, validation and test sections of a labelled volume, each a contiguous range in z."""

    train: SectionRange
    """Sections the model is trained on."""
    validation: SectionRange
    """Sections that its calibration and threshold are chosen on."""
    test: SectionRange | None = None
    """Held-out sections it is scored on."""
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """How often the volume is drawn in training, relative to the others."""
    rehearsed: bool = False
    """Whether the base model was trained on the volume and must not forget it."""

    @model_validator(mode="after")
    def _disjoint(self) -> Split:
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        ranges = sorted((r.start, r.stop, n) for n, r in named.items() if r is not None)
        for (_, stop, first), (start, _, second) in pairwise(ranges):
            if start < stop:
                raise ValueError(f"{first} and {second} sections overlap at section {start}")
        return self


class VolumeEntry(IngestConfig):
    """One volume of a manifest."""

    split: Split | None = None
    """What its labelled sections are for."""
    priority: int = 0
    """A campaign takes volumes with a higher one first; others in the order of the manifest."""

    def ingest_config(self) -> IngestConfig:
        """Return the part of the entry that decides what is ingested."""
        return IngestConfig(**self.model_dump(exclude={"split", "priority"}))


class Manifest(Config):
    """A dataset: its volumes and how they are to be segmented."""

    name: Name
    """Name of the dataset."""
    model: str = BUNDLED_MODEL
    """Model that segments it: its name, or the path of its folder."""
    volumes: tuple[VolumeEntry, ...] = Field(min_length=1)
    """Its volumes."""
    baseline: BaselineConfig = BaselineConfig()
    """How membrane is found without labels, for comparison with the model."""
    segment: SweepConfig | None = None
    """How the model is swept over each volume."""
    accept: tuple[Rule, ...] = ()
    """Rules that each volume must meet to be accepted, such as ``iou >= .65``."""
    resources: ResourceConfig = ResourceConfig()
    """How many volumes a campaign works on at a time."""
    review: ReviewGoal | None = None
    """How much of it people are to review: a run then ends in the state AwaitingReview."""

    @field_validator("segment", mode="before")
    @classmethod
    def _one_model(cls, value: Any) -> Any:
        if isinstance(value, SegmentConfig) or (isinstance(value, dict) and "model" in value):
            raise ValueError("a manifest names its model once, at the top (model: NAME), not in segment")
        return value

    @field_validator("volumes")
    @classmethod
    def _unique_names(cls, volumes: tuple[VolumeEntry, ...]) -> tuple[VolumeEntry, ...]:
        # Volumes are folders, and some file systems do not tell upper from lower case.
        names = [volume.name.lower() for volume in volumes]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"volume names must differ (upper and lower case alike): {', '.join(twice)}")
        return volumes

    def config_hash(self) -> str:
        """Return the hash of all that decides the results, which rules, reviews, resources and priorities do not."""
        unimportant = {"resources": True, "volumes": {"__all__": {"priority"}}}
        return hash_of(self.model_copy(update={"accept": (), "review": None}), unimportant)

    def segment_config(self) -> SegmentConfig:
        """Return the segmentation settings with the manifest's model filled in."""
        return SegmentConfig(model=self.model, **(self.segment or SweepConfig()).model_dump())


def load_manifest(path: Path, data_root: Path | None = None) -> Manifest:
    """Read a manifest; relative sources count from `data_root`, or else from the manifest's own folder.

    Parameters
    ----------
    path : Path
        The YAML file.
    data_root : Path, optional
        Folder that relative sources count from.

    Returns
    -------
    Manifest
        With every source an absolute path.

    Raises
    ------
    ConfigError
        When the file is missing, is not YAML or does not describe a manifest.
    """
    # Loaded by those who read a manifest alone: `segem --help` does not wait for it.

    try:
        if not path.is_file():
            found = "a folder" if path.is_dir() else None
            raise ConfigError(
                "no such manifest", where=path, found=found, fix="give the path of a YAML file; data/ has examples"
            )
        values = read_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            "the manifest cannot be read", where=path, found=error.strerror, fix="check the rights of the file"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(
            "not a manifest",
            where=path,
            expected="a YAML file that names volumes",
            found="a file that is no text",
            fix="name the stack in a manifest, or begin with `segem ingest`",
        ) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"not readable as YAML ({error})", where=path, fix="check the file") from None
    if not isinstance(values, dict):
        raise ConfigError(
            "not a manifest",
            where=path,
            expected="a mapping with name and volumes",
            found=type(values).__name__,
            fix="start from an example in data/manifests",
        )
    manifest = parse(Manifest, values, where=path)
    root = (data_root or path.parent).resolve()
    return manifest.model_copy(update={"volumes": tuple(_rooted(volume, root) for volume in manifest.volumes)})


def _rooted(volume: VolumeEntry, root: Path) -> VolumeEntry:
    update: dict[str, Any] = {"source": place_source(volume.source, root)}
    for name in ("labels", "second_labels"):
        labels = getattr(volume, name)
        if labels is not None:
            update[name] = labels.model_copy(update={"source": place_source(labels.source, root)})
    return volume.model_copy(update=update)
