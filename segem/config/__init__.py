"""The settings of every stage: one frozen model each, unknown keys refused."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, field_validator, model_validator

from segem.config.amounts import parse_bytes
from segem.config.base import Config as Config
from segem.config.baseline import BaselineConfig as BaselineConfig
from segem.config.gate import GateConfig as GateConfig
from segem.config.learning_curve import LearningCurveConfig as LearningCurveConfig
from segem.config.parsing import NAME_RULE
from segem.config.parsing import parse as parse
from segem.errors import ConfigError
from segem.geometry import VoxelSize

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
Name = Annotated[str, Field(pattern=rf"^{NAME_PATTERN}$")]  # pydantic: $ is the very end; \z is no JSON schema
Device = Literal["auto", "cpu", "cuda", "mps"]
EngineName = Literal["loop", "dask"]
RuntimeName = Literal["auto", "torch", "openvino", "openvino-int8"]
Window = Literal["gaussian", "hann"]
Precision = Literal["auto", "float32", "bfloat16"]
Polarity = Literal["zero", "nonzero"] | int
Extent = Annotated[int, Field(ge=1)]
SectionNm = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PixelNm = Annotated[float, Field(ge=1, le=32, allow_inf_nan=False)]

BUNDLED_MODEL = "unet-em"


class LabelSource(Config):
    """Where ground truth comes from, and which of its values mean membrane."""

    source: Path
    membrane: Polarity
    """``zero``, ``nonzero`` or the one pixel value that means membrane; never guessed."""
    dataset: str | None = None
    """Path of the array inside an HDF5 file."""
    ignore: int | None = None
    """The pixel value of what nobody has painted: neither membrane nor not, it counts for nothing."""

    @model_validator(mode="after")
    def _ignored_is_another(self) -> LabelSource:
        if self.ignore is None:
            return self
        if self.ignore == {"zero": 0}.get(str(self.membrane), self.membrane):
            raise ValueError(f"the value to ignore, {self.ignore}, is the one that means membrane; give two values")
        if self.membrane == "nonzero" and self.ignore == 0:
            raise ValueError("to ignore 0 where nonzero means membrane leaves nothing that is not membrane")
        return self


class IngestConfig(Config):
    """How one source becomes one OME-Zarr volume."""

    name: Name
    source: Path
    voxel_nm: tuple[float, float, float]
    """Voxel size in nanometres along (z, y, x)."""
    labels: LabelSource | None = None
    dataset: str | None = None
    """Path of the array inside an HDF5 file."""

    @field_validator("voxel_nm")
    @classmethod
    def _positive(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        try:
            VoxelSize(*value)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return value

    @property
    def voxel_size(self) -> VoxelSize:
        """The voxel size as a value."""
        return VoxelSize(*self.voxel_nm)


class SweepConfig(Config):
    """How any model is swept over a volume."""

    stitch: Literal["auto", "crop"] | Window = "auto"
    """``crop`` equals whole-section output, ``gaussian`` and ``hann`` blend tiles; ``auto`` crops where the halo is
    finite."""
    tile_px: int | None = Field(default=None, ge=16)
    """Edge of a tile's core (crop) or of the whole tile (blended); chosen by the planner when absent."""
    halo_px: int | None = Field(default=None, ge=0)
    """Context around a core; taken from the model when absent."""
    overlap: float = Field(default=0.5, ge=0, lt=1)
    """Share of a tile that its neighbour covers too (blended only)."""
    threshold: float | None = Field(default=None, gt=0, lt=1)
    """Probability from which a voxel is membrane; the model's own when absent."""
    views: Literal[1, 2, 4, 8] = 1
    """Flips (2, 4) and quarter turns (8) of each tile whose probabilities are averaged: so many times the work."""
    runtime: RuntimeName = "auto"
    """``openvino-int8`` computes in 8 bits; ``auto`` takes OpenVINO on a CPU where it is installed, torch elsewhere."""
    int8_tolerance: float = Field(default=0.005, ge=0, le=1)
    """Largest share of sampled voxels whose mask 8 bits may change; beyond it the volume is computed in float32."""


class SegmentConfig(SweepConfig):
    """Which model is swept over a volume, and how. All here that changes the result is part of block identity."""

    model: str = BUNDLED_MODEL
    """Name of a bundled or trained model, or the path of an artefact directory."""


class ExecutionConfig(Config):
    """Where and how a plan is executed: nothing here changes the result, but for rounding by device and memory.

    Another device rounds otherwise, and memory decides how large tiles are; both are part of block identity.
    """

    device: Device = "auto"
    engine: EngineName = "loop"
    workers: int = Field(default=1, ge=1, le=256)
    memory: Annotated[int, BeforeValidator(parse_bytes)] | None = None
    """Bytes that one process may take at its peak, as a number or as in ``2GB``."""
    progress: bool = True

    @model_validator(mode="after")
    def _workers_need_dask(self) -> ExecutionConfig:
        if self.workers > 1 and self.engine != "dask":
            raise ValueError("several workers need the dask engine; the loop uses every core by itself")
        return self


class CrfConfig(Config):
    """The fully connected CRF of `segem.kernels.crf`; its default weights are lighter than DeepLab's, chosen on EM."""

    w1: float = Field(default=1.0, ge=0, le=1000, allow_inf_nan=False)
    """Weight of pixels that are near and look alike."""
    sa_px: float = Field(default=50.0, ge=1, le=500, allow_inf_nan=False)
    sb_grey: float = Field(default=10.0, ge=1, le=255, allow_inf_nan=False)
    """In grey levels of 0 to 255."""
    w2: float = Field(default=1.0, ge=0, le=1000, allow_inf_nan=False)
    """Weight of pixels that are near."""
    sg_px: float = Field(default=1.0, ge=0.3, le=100, allow_inf_nan=False)
    iterations: int = Field(default=10, ge=1, le=1000)


class RefineConfig(Config):
    """Which run's probability a CRF refines, and how. All here that changes the result is part of block identity."""

    of: Name
    """The run whose probability is refined."""
    crf: CrfConfig = CrfConfig()
    threshold: float = Field(default=0.5, gt=0, lt=1)
    """Refined probability from which a voxel is membrane; at 0.5 the mask is the labelling that mean field finds."""
    tile_px: int | None = Field(default=None, ge=16)
    """Edge of a tile's core; chosen by the planner when absent."""
    halo_px: int | None = Field(default=None, ge=0)
    """Context around a core; by the sigmas when absent."""


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
    """Which sections of a labelled volume train, validate and test; always contiguous in z."""

    train: SectionRange
    validation: SectionRange
    test: SectionRange | None = None
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """How often the volume is drawn in training, relative to the others."""
    rehearsed: bool = False
    """Whether the model that is gone on from has learned it, and is to be remembered in it."""

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

    def ingest_config(self) -> IngestConfig:
        """Return the part of the entry that decides what is ingested."""
        return IngestConfig(**self.model_dump(exclude={"split"}))


class Manifest(Config):
    """A dataset: its volumes and how they are to be segmented."""

    name: Name
    model: str = BUNDLED_MODEL
    volumes: tuple[VolumeEntry, ...] = Field(min_length=1)
    baseline: BaselineConfig = BaselineConfig()
    segment: SweepConfig | None = None

    @field_validator("segment", mode="before")
    @classmethod
    def _one_model(cls, value: Any) -> Any:
        if isinstance(value, SegmentConfig) or (isinstance(value, dict) and "model" in value):
            raise ValueError("a manifest names its model once, at the top (model: NAME), not in segment")
        return value

    @field_validator("volumes")
    @classmethod
    def _unique_names(cls, volumes: tuple[VolumeEntry, ...]) -> tuple[VolumeEntry, ...]:
        names = [volume.name.lower() for volume in volumes]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"volume names must differ (upper and lower case alike): {', '.join(twice)}")
        return volumes

    def segment_config(self) -> SegmentConfig:
        """Return the segmentation settings with the manifest's model filled in."""
        return SegmentConfig(model=self.model, **(self.segment or SweepConfig()).model_dump())


class TrainConfig(Config):
    """How a model is trained. The schedule fits whichever of `steps` and `minutes` is given."""

    model: str = "unet"
    architecture: dict[str, Any] = {}
    """Options of the architecture, as its registry entry takes them."""
    pretrained: str | None = None
    """Weights of a classifier to start from: ``imagenet``, or the path of a file."""
    freeze: Literal["encoder"] | None = None
    """The part of a net with weights already that is not trained."""
    minutes: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    steps: int | None = Field(default=None, ge=1)
    """A fixed number of steps makes a run repeatable; minutes end it by the clock."""
    batch: int | None = Field(default=None, ge=1)
    """Crops, or patches, to a step; as suits the architecture where absent."""
    crop_px: int = Field(default=256, ge=32)
    learning_rate: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Highest one of the schedule; as suits the architecture where absent."""
    weight_decay: float = Field(default=1e-4, ge=0, allow_inf_nan=False)
    ema_decay: float = Field(default=0.998, ge=0, lt=1)
    """Decay of the running average of the weights; the average is what is kept."""
    border_weight: float = Field(default=5.0, ge=0, allow_inf_nan=False)
    """How much more than others a membrane pixel between two touching cells counts; 0 counts all alike."""
    border_sigma_px: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    """How fast that falls with the distance between the cells."""
    deep_supervision: bool = False
    """Whether coarser levels of the decoder have to show the membranes too, which the net then forgets."""
    remember: float = Field(default=2.0, ge=0, allow_inf_nan=False)
    """How much it counts on rehearsed volumes, beside their truth, that the net gives what it gave before."""
    defects: float = Field(default=0.05, ge=0, le=1)
    """Share of the crops in which a defect is made: dark or pale, dirty, folded or misaligned."""
    precision: Precision = "auto"
    """``bfloat16`` trains in mixed precision; ``auto`` does so where the hardware computes it."""
    checkpoint_seconds: float = Field(default=60.0, gt=0)
    checkpoint_steps: int = Field(default=500, ge=1)
    """How often what is learned so far is put aside; neither changes the result."""
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _one_budget(self) -> TrainConfig:
        if (self.minutes is None) == (self.steps is None):
            raise ValueError("give either minutes or steps")
        return self


class SynthConfig(Config):
    """One synthetic EM volume with its truth."""

    shape: tuple[Extent, Extent, Extent] = (8, 512, 512)
    """Voxels along (z, y, x)."""
    seed: int = Field(default=0, ge=0)
    voxel_nm: tuple[SectionNm, PixelNm, PixelNm] = (50.0, 4.0, 4.0)
    """Voxel size in nanometres along (z, y, x); no tissue can be drawn with pixels beyond 1 to 32 nm."""


class BenchConfig(Config):
    """How fast this machine is asked to be measured."""

    model: str = BUNDLED_MODEL
    size_px: int = Field(default=1024, ge=64, le=16384)
    """Edge of a synthetic section."""
    shape: tuple[Extent, Extent, Extent] = (100, 1024, 1024)
    """Voxels along (z, y, x) of the volume whose time is wanted."""
    device: Device = "auto"


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
    try:
        if not path.is_file():
            found = "a folder" if path.is_dir() else None
            raise ConfigError(
                "no such manifest", where=path, found=found, fix="give the path of a YAML file; data/ has examples"
            )
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            "the manifest cannot be read", where=path, found=error.strerror, fix="check the rights of the file"
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
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
    labels = volume.labels
    if labels is not None:
        labels = labels.model_copy(update={"source": root / labels.source})
    return volume.model_copy(update={"source": root / volume.source, "labels": labels})


def check_name(name: str, what: str) -> str:
    """Return `name` if it is safe as a folder name, else raise.

    Raises
    ------
    ConfigError
        When the name could leave its folder or confuse a shell.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise ConfigError(
            f"not a {what} name",
            found=repr(name),
            fix=NAME_RULE,
        )
    return name
