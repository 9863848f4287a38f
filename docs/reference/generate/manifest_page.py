"""The page of the keys of a manifest, from the models that read it."""

from __future__ import annotations

from schemas import Schemas

from segem.config import ExecutionConfig, Manifest
from segem.config.retrain import RetrainConfig

INTRODUCTION = """\
# Keys of a manifest

*Written by `python docs/reference/generate/pages.py` from the models that read manifests.*

A manifest is a YAML file that lists volumes and says how they are segmented. Relative sources count from the folder of
the manifest, or from `--data-root`. A key that is not listed here is refused.

```yaml
name: mine
model: unet-em
volumes:
  - name: cortex
    source: cortex/raw.tif
    voxel_nm: [50, 4, 4]
    labels: {source: cortex/membranes.tif, membrane: nonzero}
    split: {train: [0, 6], validation: [6, 7], test: [7, 10]}
  - name: cortex-rest
    source: cortex/rest
    voxel_nm: [50, 4, 4]
baseline: {method: watershed}
segment: {views: 4}
```
"""
DEPLOYMENTS = """\
# Settings of deployments

What the [deployments](../how-to/schedule.md) take as `execution` and, for `retrain`, as `config`. `config` of the other
deployments has the keys above.
"""
HEADINGS = {
    "Manifest": "The manifest",
    "VolumeEntry": "volumes",
    "LabelSource": "volumes: labels",
    "Split": "volumes: split",
    "BaselineConfig": "baseline",
    "FeatureOptions": "baseline: features",
    "WatershedOptions": "baseline: watershed",
    "NcutOptions": "baseline: ncut",
    "SweepConfig": "segment",
    "ResourceConfig": "resources",
    "ExecutionConfig": "execution",
    "RetrainConfig": "config of retrain",
    "TrainConfig": "config of retrain: train",
    "GateConfig": "config of retrain: gate",
}
"""Where a model stands in a file, by its name."""


def manifest_page() -> str:
    """Return the page."""
    tables = Schemas(HEADINGS)
    parts = [INTRODUCTION, *tables.sections(Manifest), DEPLOYMENTS]
    for kind in (ExecutionConfig, RetrainConfig):
        parts += tables.sections(kind)
    return "\n".join(parts).rstrip() + "\n"
