"""segem finds neural membranes in electron-microscopy image stacks.

The steps of the command line are functions here: `segem.ingest_volume`, `segem.segment_volume`, `segem.write_report`.
Each name is imported at its first use, so that ``import segem`` costs nothing. Type checkers and editors read the same
names in `segem/__init__.pyi`.
"""

from __future__ import annotations

from pkgutil import resolve_name  # noqa: TID251 - offers what lies above, and is no part of any layer

__version__ = "0.1.0"

_PUBLIC = {
    "BaselineConfig": "segem.config:BaselineConfig",
    "CrfConfig": "segem.config:CrfConfig",
    "ExecutionConfig": "segem.config:ExecutionConfig",
    "GateConfig": "segem.config:GateConfig",
    "IngestConfig": "segem.config:IngestConfig",
    "LabelSource": "segem.config:LabelSource",
    "Manifest": "segem.config:Manifest",
    "RefineConfig": "segem.config:RefineConfig",
    "RetrainConfig": "segem.config.retrain:RetrainConfig",
    "SegemError": "segem.errors:SegemError",
    "SegmentConfig": "segem.config:SegmentConfig",
    "SynthConfig": "segem.config:SynthConfig",
    "Terms": "segem.stages.training.job:Terms",
    "TrainConfig": "segem.config:TrainConfig",
    "Upsampling": "segem.learn.models.upsampling:Upsampling",
    "Volume": "segem.io.volume:Volume",
    "Workspace": "segem.io.workspace:Workspace",
    "build_net": "segem.learn.models.registry:build",
    "calibrate_model": "segem.stages.training.calibrate:calibrate_model",
    "evaluate_run": "segem.stages.reporting.evaluate:evaluate",
    "export_layer": "segem.stages.segmentation.export:export",
    "export_model": "segem.stages.models.export_model:export_model",
    "find_baseline": "segem.stages.segmentation.baseline:baseline",
    "find_model": "segem.learn.artefact:find_model",
    "import_model": "segem.stages.models.import_model:import_model",
    "ingest_volume": "segem.stages.volumes.ingest:ingest",
    "list_architectures": "segem.stages.models.catalogue:list_architectures",
    "list_runs": "segem.io.runs:list_runs",
    "load_manifest": "segem.config:load_manifest",
    "open_workspace": "segem.io.workspace:open_workspace",
    "promote_model": "segem.stages.training.gate.promote:promote",
    "read_section": "segem.io.layers:read_section",
    "refine_volume": "segem.stages.segmentation.crf:refine_volume",
    "repair_run": "segem.stages.segmentation.repair:repair",
    "retrain_model": "segem.stages.training.retrain:retrain",
    "segment_volume": "segem.stages.segmentation.segment:segment",
    "synthesise_volume": "segem.stages.volumes.synth:synth",
    "train_model": "segem.stages.training.train:train",
    "verify_run": "segem.stages.segmentation.verify:verify",
    "write_report": "segem.stages.reporting.write:report",
}
"""Public name: module and name there."""

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> object:
    """Import a public name at its first use."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = resolve_name(_PUBLIC[name])
    return value


def __dir__() -> list[str]:
    """Return what `dir(segem)` lists: the public names too, imported or not."""
    return sorted({*globals(), *_PUBLIC})
