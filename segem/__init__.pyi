"""What `import segem` offers, for type checkers and editors; each name is imported at its first use."""

from segem.config import BaselineConfig as BaselineConfig
from segem.config import CrfConfig as CrfConfig
from segem.config import ExecutionConfig as ExecutionConfig
from segem.config import GateConfig as GateConfig
from segem.config import IngestConfig as IngestConfig
from segem.config import LabelSource as LabelSource
from segem.config import Manifest as Manifest
from segem.config import RefineConfig as RefineConfig
from segem.config import SegmentConfig as SegmentConfig
from segem.config import SynthConfig as SynthConfig
from segem.config import TrainConfig as TrainConfig
from segem.config import load_manifest as load_manifest
from segem.config.retrain import RetrainConfig as RetrainConfig
from segem.errors import SegemError as SegemError
from segem.io.layers import read_section as read_section
from segem.io.runs import list_runs as list_runs
from segem.io.volume import Volume as Volume
from segem.io.workspace import Workspace as Workspace
from segem.io.workspace import open_workspace as open_workspace
from segem.learn.artefact import find_model as find_model
from segem.learn.models.registry import build as build_net
from segem.learn.models.upsampling import Upsampling as Upsampling
from segem.stages.models.catalogue import list_architectures as list_architectures
from segem.stages.models.export_model import export_model as export_model
from segem.stages.models.import_model import import_model as import_model
from segem.stages.reporting.evaluate import evaluate as evaluate_run
from segem.stages.reporting.write import report as write_report
from segem.stages.segmentation.baseline import baseline as find_baseline
from segem.stages.segmentation.crf import refine_volume as refine_volume
from segem.stages.segmentation.export import export as export_layer
from segem.stages.segmentation.repair import repair as repair_run
from segem.stages.segmentation.segment import segment as segment_volume
from segem.stages.segmentation.verify import verify as verify_run
from segem.stages.training.calibrate import calibrate_model as calibrate_model
from segem.stages.training.gate.promote import promote as promote_model
from segem.stages.training.job import Terms as Terms
from segem.stages.training.retrain import retrain as retrain_model
from segem.stages.training.train import train as train_model
from segem.stages.volumes.ingest import ingest as ingest_volume
from segem.stages.volumes.synth import synth as synthesise_volume

__version__: str

__all__ = [
    "BaselineConfig",
    "CrfConfig",
    "ExecutionConfig",
    "GateConfig",
    "IngestConfig",
    "LabelSource",
    "Manifest",
    "RefineConfig",
    "RetrainConfig",
    "SegemError",
    "SegmentConfig",
    "SynthConfig",
    "Terms",
    "TrainConfig",
    "Upsampling",
    "Volume",
    "Workspace",
    "build_net",
    "calibrate_model",
    "evaluate_run",
    "export_layer",
    "export_model",
    "find_baseline",
    "find_model",
    "import_model",
    "ingest_volume",
    "list_architectures",
    "list_runs",
    "load_manifest",
    "open_workspace",
    "promote_model",
    "read_section",
    "refine_volume",
    "repair_run",
    "retrain_model",
    "segment_volume",
    "synthesise_volume",
    "train_model",
    "verify_run",
    "write_report",
]
