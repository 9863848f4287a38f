"""The settings of every stage: one frozen model each, unknown keys refused."""

from __future__ import annotations

from segem.config.accept import Rule as Rule
from segem.config.accept import parse_rules as parse_rules
from segem.config.base import Config as Config
from segem.config.baseline import BaselineConfig as BaselineConfig
from segem.config.bench import BenchConfig as BenchConfig
from segem.config.cells import CellsConfig as CellsConfig
from segem.config.crf import CrfConfig as CrfConfig
from segem.config.crf import RefineConfig as RefineConfig
from segem.config.data import DataConfig as DataConfig
from segem.config.execution import Device as Device
from segem.config.execution import EngineName as EngineName
from segem.config.execution import ExecutionConfig as ExecutionConfig
from segem.config.execution import SlurmConfig as SlurmConfig
from segem.config.gate import GateConfig as GateConfig
from segem.config.ingest import IngestConfig as IngestConfig
from segem.config.ingest import LabelSource as LabelSource
from segem.config.ingest import Polarity as Polarity
from segem.config.learning_curve import LearningCurveConfig as LearningCurveConfig
from segem.config.manifest import (
    Manifest as Manifest,
)
from segem.config.manifest import (
    SectionRange as SectionRange,
)
from segem.config.manifest import (
    Split as Split,
)
from segem.config.manifest import (
    VolumeEntry as VolumeEntry,
)
from segem.config.manifest import (
    load_manifest as load_manifest,
)
from segem.config.names import NAME_PATTERN as NAME_PATTERN
from segem.config.names import Name as Name
from segem.config.names import check_name as check_name
from segem.config.parsing import NAME_RULE as NAME_RULE
from segem.config.parsing import parse as parse
from segem.config.review_goal import ReviewGoal as ReviewGoal
from segem.config.segment import (
    BUNDLED_MODEL as BUNDLED_MODEL,
)
from segem.config.segment import (
    Resampling as Resampling,
)
from segem.config.segment import (
    RuntimeName as RuntimeName,
)
from segem.config.segment import (
    SegmentConfig as SegmentConfig,
)
from segem.config.segment import (
    SweepConfig as SweepConfig,
)
from segem.config.segment import (
    Window as Window,
)
from segem.config.source import Selection as Selection
from segem.config.source import Source as Source
from segem.config.source import Url as Url
from segem.config.source import place_source as place_source
from segem.config.source import read_source as read_source
from segem.config.synth import SynthConfig as SynthConfig
from segem.config.train import Precision as Precision
from segem.config.train import TrainConfig as TrainConfig
