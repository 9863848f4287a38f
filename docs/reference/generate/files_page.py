"""The page of what lies on disk, from the records that write it."""

from __future__ import annotations

from schemas import Schemas

from segem.records.card import ModelCard
from segem.records.comparison import Comparison
from segem.records.marks import Marks
from segem.records.promotion import Promotion
from segem.records.run import RunRecord
from segem.records.scores import Report

INTRODUCTION = """\
# Files on disk

*The tables below are written by `python docs/reference/generate/pages.py` from the models in `segem/records`.*

A workspace is one folder and holds everything of a project. `--workspace DIR` or `SEGEM_WORKSPACE` names it; without
them it is `./workspace`.

```
workspace/
  volumes/<name>.ome.zarr        an ingested volume: raw intensities, labels/truth when it came with labels
      quality.csv                measures of each section, and its flags
      elsewhere.json             in place of an array: where its shards lie, if not here (`segem storage use`)
  models/<name>/<version>/       a trained model: weights.safetensors and model.json
      promotion.json             what was decided about it; `unjudged` marks a candidate that nobody has decided about
      training.png, .json        how its training went
  models/<name>/current          the version in use; without it the newest that was not kept aside
  models/<name>/training.png     a training that is running: loss, validation IoU, a section, its truth, the net
  models/<name>/learning-curve/  a learning curve, its chart, its nets (not models in use), and what to label next
  models/<name>/.training-*/     checkpoint of a training that is running, or was killed and can be resumed
  runs/<run>/
    run.json                     the record of the run: every volume, each step's state, settings, model and findings
    ledger.sqlite                one row for each finished block
    receipts/<volume>/           of array jobs: what tasks compute, and a file for each block that is not collected yet
    slurm/                       logs of the jobs of --cluster slurm
    reviews.sqlite               what reviewers did, only ever added to; labels/reviewed of a volume is replayed from it
    <volume>.ome.zarr            image: probability (uint8, value / 255); labels/membrane and labels/baseline (0 or 1)
    report/                      index.html, iou.csv, report.json; pictures, sections, pages of volumes
      errors/<volume>.json       where errors are expected, region by region
    marks.json                   what readers have marked on the page
  comparisons/<run>+<run>/       index.html, comparison.json and pictures of several runs side by side
  inbox/<name>-<digest>/         stacks.json: what was found in an inbox; manifests of what was taken
  notices.toml, told.json        who is told of failures; what was told and nothing has mended since
  storage.json                   the object store that its arrays lie in, if not here
  .prefect/                      the history of the private Prefect server
  .service/                      what `segem serve` keeps: settings.env (its password), schedules, history, logs, leases
```

Volumes are OME-Zarr 0.5 on Zarr v3, so other viewers read them. Axes are z, y, x with a scale in nanometres; the
pyramid shrinks y and x, and z only where voxels are nearly isotropic. `truth` is 0, 1 for membrane, or 2 for unknown.
What ingest found (source, digest of all voxels, intensity statistics, share of membrane, warnings) is kept in the
volume's attributes under `segem`.

`quality.csv` has a row for each section of the volume: `sharpness`, `contrast_grey`, `brightness_grey`, `noise_grey`,
`darkest_grey`, `brightest_grey`, `outside_share`, `shift_y_px`, `shift_x_px`, `similarity` and `flags`, kinds of flags
with a space between them. The reasons are in the attributes, under `quality`.
[What they mean](../explanation/quality.md).

`iou.csv` is tidy: a row is one score of one mask (`model`, `closed` or `baseline`) of a volume (`section` is `all`) or
of one of its sections, with the ends of its interval where it has one. What was not measured or is not defined has no
row. `expected_iou` is an estimate.

`report.json` follows [a JSON schema](report.schema.json); `schema` in it is the version, which rises when an older
script could misread a newer file.
"""
HEADINGS = {
    "RunRecord": "run.json",
    "Report": "report.json",
    "Comparison": "comparison.json",
    "Marks": "marks.json",
    "ModelCard": "model.json",
    "Promotion": "promotion.json",
}


def files_page() -> str:
    """Return the page."""
    tables, parts = Schemas(HEADINGS, nulls=True), [INTRODUCTION]
    for kind in (Report, Comparison, Marks, RunRecord, ModelCard, Promotion):
        parts += tables.sections(kind, "serialization")
    return "\n".join(parts).rstrip() + "\n"
