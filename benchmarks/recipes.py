"""Trains recipes on the folds of a plan, scores each on sections none has seen, and writes what came out as a table.

    .venv/bin/python benchmarks/recipes.py --data-root DIR --plan benchmarks/plans/screening.yaml --work FOLDER

A plan is a list of trainings: recipe, tissues taught, fold, seed and minutes. Each starts from random weights, or goes
on from the model of an earlier one that it names (`after`), and has one core; its budget is processor time, so other
programs cost it nothing. What is done is skipped, and what was stopped goes on from its last checkpoint: stop with
Ctrl-C or `kill PID`, and start the same command to go on. While the file --pause exists, the training stands still. Of
each training a file stays in `results/recipes/`: settings, scores by section, learning curve, commit.
`results/recipes/account.json` counts the processor time of all of it, and `--table` writes the tables anew.

The folds are contiguous quarters of ISBI, VNC and AC4 (`folds.py`); AC3 is another volume of the tissue of AC4 and
judges only. A model is judged on the fold of every tissue, also of those it was not taught. `zoo` in place of tissues
takes the split of `data/manifests/isbi-zoo.yaml`.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from folds import CUTS, entries
from judged import seen, trained
from machine import facts
from pinned import count_processor_time, run_resumable
from recipes_table import tables

from segem.config import Manifest, TrainConfig, load_manifest
from segem.io.layers import read_section
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.bootstrap import count_tiles
from segem.kernels.metrics.centreline_dice import CentrelineSums
from segem.kernels.metrics.section import compare_section
from segem.kernels.metrics.segmentation import SegmentationSums
from segem.kernels.threshold import quantize_probability, threshold_probability
from segem.learn.artefact import Artefact
from segem.learn.engine import Engine, choose_device
from segem.learn.models.registry import ZOO, build
from segem.learn.scale import choose_scale, geometry_at, net_at
from segem.stages.training.train import HISTORY, train
from segem.stages.volumes.ingest import ingest

HERE = Path(__file__).resolve().parent
MANIFESTS = HERE.parent / "data" / "manifests"
RESULTS = HERE / "results" / "recipes"
THREE: dict[str, Any] = {"architecture": {"context_sections": 3}}
RECIPES: dict[str, dict[str, Any]] = {
    "unet-em": THREE,
    "one-section": {},
    "five-sections": {"architecture": {"context_sections": 5}},
    "wider": {"architecture": {"context_sections": 3, "features": 24}},
    "fast": {"architecture": {"context_sections": 3, "shuffle_px": 2, "depth": 3}},
    "fast-randomised": {
        "architecture": {"context_sections": 3, "shuffle_px": 2, "depth": 3},
        "appearance": 0.5,
        "pixel_nm": (3.0, 12.0),
    },
    "folded-wide": {"architecture": {"context_sections": 3, "shuffle_px": 2, "depth": 3, "features": 32}},
    "no-border-weights": THREE | {"border_weight": 0.0},
    "more-border-weight": THREE | {"border_weight": 10.0},
    "no-average": THREE | {"ema_decay": 0.0},
    "no-defects": THREE | {"defects": 0.0},
    "deep-supervision": THREE | {"deep_supervision": True},
    "appearance": THREE | {"appearance": 0.5},
    "pixel-sizes": THREE | {"pixel_nm": (3.0, 12.0)},
    "randomised": THREE | {"appearance": 0.5, "pixel_nm": (3.0, 12.0)},
    "goes-on": THREE | {"learning_rate": 0.0015},
}
"""`unet-em` is how the bundled model is trained; each of the others changes one part of it, and `goes-on` is for a
training after another. An architecture of the zoo is a recipe too, with its defaults and, where it is built on VGG16,
16 channels in the first stage."""
TAUGHT: dict[str, tuple[str, ...]] = {
    "joint": ("isbi", "stack1", "ac4"),
    "fly": ("isbi", "stack1"),
    "isbi": ("isbi",),
    "vnc": ("stack1",),
    "snemi": ("ac4",),
}
JUDGED = ("isbi", "stack1", "ac4", "ac3")
TILE_PX = 256


@dataclass(frozen=True)
class Job:
    """One training of a plan."""

    recipe: str
    taught: str
    minutes: float
    fold: int = 3
    seed: int = 0
    after: str | None = None
    """Name of the training whose model it goes on from; of the same fold, or it has seen what judges."""

    @property
    def name(self) -> str:
        """Of its model and its file of results."""
        if self.taught == "zoo":
            return f"zoo-{self.recipe}-{self.minutes:g}-{self.seed}"
        return f"{self.recipe}-{self.taught}-{self.fold}-{self.minutes:g}-{self.seed}"

    def config(self) -> TrainConfig:
        """Return how it trains."""
        changes = RECIPES.get(self.recipe)
        if changes is None:
            narrow = {"width": 16} if "width" in ZOO[self.recipe].options.model_fields else {}
            changes = {"model": self.recipe, "architecture": narrow}
        return TrainConfig.model_validate({"minutes": self.minutes, "seed": self.seed} | changes)

    def manifest(self, data_root: Path) -> Manifest:
        """Return what it learns from; every tissue is drawn equally often."""
        if self.taught == "zoo":
            (one,) = load_manifest(MANIFESTS / "isbi-zoo.yaml", data_root).volumes
            assert one.split is not None
            learned = one.model_copy(update={"split": one.split.model_copy(update={"test": None})})
            return Manifest(name=self.name, volumes=(learned,))
        found = list(entries(TAUGHT[self.taught], self.fold, data_root))
        parts = [sum(one.name.split("-")[0] == other.name.split("-")[0] for other in found) for one in found]
        volumes = tuple(
            one.model_copy(update={"split": one.split.model_copy(update={"weight": 1 / part})})
            for one, part in zip(found, parts, strict=True)
            if one.split is not None
        )
        return Manifest(name=self.name, volumes=volumes)

    def judged(self) -> dict[str, range]:
        """Return the sections that judge it."""
        if self.taught == "zoo":
            return {"isbi": range(18, 24)}
        return {name: range(*CUTS[name][self.fold : self.fold + 2]) if name in CUTS else range(8) for name in JUDGED}


def main() -> None:
    """Do what is not done of a plan, and write the tables."""
    arguments = _arguments()
    work = Workspace(arguments.work)
    work.prepare()
    if arguments.job:
        _do(Job(**json.loads(arguments.job)), arguments, work)
        return
    if not arguments.table:
        arguments.results.mkdir(parents=True, exist_ok=True)
        account = arguments.results / "account.json"
        # Read again after each training, so that a plan can grow while it is worked on.
        tried: set[str] = set()
        while left := [one for one in _plan(arguments) if one.name not in tried]:
            tried.add(left[0].name)
            if not (arguments.results / f"{left[0].name}.json").is_file():
                command = [sys.executable, __file__, *sys.argv[1:], "--job", json.dumps(asdict(left[0]))]
                run_resumable(left[0].name, command, work.root, account=account, pause=arguments.pause)
    text = tables(arguments.results)
    (arguments.results.parent / "recipes.md").write_text(text)
    print(text)


def _plan(arguments: argparse.Namespace) -> list[Job]:
    jobs = [Job(**one) for one in yaml.safe_load(arguments.plan.read_text())]
    for job in jobs:
        job.config()
    return jobs


def _do(job: Job, arguments: argparse.Namespace, work: Workspace) -> None:
    """Train and judge."""
    count_processor_time()
    if trained(job.name, work) is None:
        train(job.manifest(arguments.data_root), job.name, job.config(), work, base=job.after, device="cpu")
    model = trained(job.name, work)
    assert model is not None
    volumes = {
        entry.name: Volume.open(ingest(entry.ingest_config(), work).path)
        for entry in load_manifest(MANIFESTS / "all.yaml", arguments.data_root).volumes
        if entry.name in job.judged()
    }
    training = model.card.training
    assert training is not None
    found: dict[str, Any] = {
        "job": asdict(job),
        "machine": facts(),
        "model": model.digest,
        "parameters": sum(p.numel() for p in build(model.card.architecture, model.card.options).parameters()),
        "steps": training.steps,
        "threshold": model.card.threshold,
        "learning_curve": [
            [look["step"], round(look["validation_iou"], 4)] for look in json.loads((model.path / HISTORY).read_text())
        ],
        "volumes": {name: judge(model, volumes[name], sections) for name, sections in job.judged().items()},
    }
    partial = arguments.results / f".{job.name}.json"
    partial.write_text(json.dumps(found, separators=(",", ":")) + "\n")
    partial.rename(arguments.results / f"{job.name}.json")


def judge(model: Artefact, volume: Volume, sections: range) -> list[dict[str, Any]]:
    """Return the counts of each section: tiles and centre lines at the model's threshold, cells at the challenge's."""
    # At the pixel size the model learned at, as in a run.
    scale = choose_scale(volume.voxel_size, model.card)
    shape = geometry_at(model.card, scale)
    context = shape.context_sections
    _, *pixel_nm = volume.voxel_size.zyx
    rows = []
    with Engine(net_at(model, scale), choose_device("cpu"), context) as engine:
        for z in sections:
            truth = read_section(volume.label("truth"), z)
            (probability,) = engine.averaged([seen(volume, z, context)], shape.stride_px)
            stored = quantize_probability(probability)
            mask = threshold_probability(stored, model.card.threshold)
            cells = SegmentationSums.count(truth, stored)
            lines = CentrelineSums.count(*compare_section(truth, mask, (pixel_nm[0], pixel_nm[1]), 0))
            rows.append(
                {
                    "z": z,
                    "tiles": count_tiles(truth, mask, TILE_PX).tolist(),
                    "lines": list(asdict(lines).values()),
                    "v_rand": np.round(cells.rand[:, 0], 5).tolist(),
                    "v_info": np.round(cells.information[:, 0], 5).tolist(),
                }
            )
    return rows


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--plan", type=Path, default=HERE / "plans" / "screening.yaml", help="what is to be trained")
    parser.add_argument("--work", type=Path, default=HERE / "work" / "recipes", help="where trained models are kept")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where scores are kept")
    parser.add_argument("--pause", type=Path, help="a file; while it exists, nothing is computed")
    parser.add_argument("--table", action="store_true", help="train nothing, write the tables of what is done")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
