"""Trains recipes with several seeds on the same sections, and scores what comes out on sections none has seen.

    .venv/bin/python benchmarks/recipes.py --data-root DIR [--recipes NAME ...] [--seeds 0 1 2] [--minutes 60]

The split is that of `data/manifests/recipe.yaml`. Each training starts from random weights and has one core for itself;
its budget is processor time. What is finished is kept in --work, and what was stopped goes on from its last checkpoint.
V_rand and V_info are those of the best threshold, as the ISBI challenge takes them; IoU is that at the model's own.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import mean
from typing import Any

from held_out import score
from judged import ingested, trained
from machine import facts, provenance
from pinned import count_processor_time, run_pinned

from segem.config import TrainConfig, load_manifest
from segem.io.workspace import Workspace
from segem.learn.artefact import Artefact
from segem.stages.training.train import train

HERE = Path(__file__).resolve().parent
MANIFEST = HERE.parent / "data" / "manifests" / "recipe.yaml"
RECIPES: dict[str, dict[str, Any]] = {
    "unet-em": {"architecture": {"context_sections": 3}},
    "one-section": {},
    "no-border-weights": {"architecture": {"context_sections": 3}, "border_weight": 0.0},
    "no-average": {"architecture": {"context_sections": 3}, "ema_decay": 0.0},
    "no-defects": {"architecture": {"context_sections": 3}, "defects": 0.0},
    "deep-supervision": {"architecture": {"context_sections": 3}, "deep_supervision": True},
}
"""`unet-em` is how the bundled model is trained; each of the others leaves one part of it out or adds one."""
VIEWS = (1, 4, 8)


def main() -> None:
    """Train what is missing, score everything, and write the table."""
    arguments = _arguments()
    work = Workspace(arguments.work)
    work.prepare()
    if arguments.train:
        recipe, seed = arguments.train
        count_processor_time()
        config = TrainConfig(model="unet", minutes=arguments.minutes, seed=int(seed), **RECIPES[recipe])
        name = _name(recipe, int(seed), arguments.minutes)
        train(load_manifest(MANIFEST, arguments.data_root), name, config, work, device="cpu")
        return
    print(provenance(), flush=True)
    ingested(MANIFEST, arguments.data_root, work)
    wanted = [(recipe, seed) for recipe in arguments.recipes for seed in arguments.seeds]
    missing = [one for one in wanted if trained(_name(*one, arguments.minutes), work) is None]
    command = [sys.executable, __file__, *sys.argv[1:], "--train"]
    run_pinned({_name(*one, arguments.minutes): [*command, *map(str, one)] for one in missing}, work.root)
    rows = []
    for recipe in arguments.recipes:
        made = [trained(_name(recipe, seed, arguments.minutes), work) for seed in arguments.seeds]
        for views in VIEWS:
            rows += _rows(recipe, views, [model for model in made if model is not None], arguments.data_root)
    found = facts()
    text = "\n".join(
        [
            f"{arguments.minutes:g} minutes of one core ({found['cpu']}) for each, commit {found['commit']}, "
            f"{found['date']}. Mean over seeds, and largest distance from it.",
            "",
            "| recipe | views | volume | seeds | IoU | V_rand | V_info |",
            "|---|---:|---|---:|---:|---:|---:|",
            *rows,
        ]
    )
    (HERE / "results" / f"recipes-{arguments.minutes:g}.md").write_text(text + "\n")
    print(text)


def _rows(recipe: str, views: int, models: list[Artefact], data_root: Path) -> list[str]:
    scores = [score(model, MANIFEST, data_root, views) for model in models]
    return [
        f"| {recipe} | {views} | {volume} | {len(models)} | "
        + " | ".join(_spread([getattr(found[volume], key) for found in scores]) for key in ("iou", "v_rand", "v_info"))
        + " |"
        for volume in (scores[0] if scores else ())
    ]


def _spread(values: list[float]) -> str:
    middle = mean(values)
    return f"{middle:.4f} ± {max(abs(value - middle) for value in values):.4f}"


def _name(recipe: str, seed: int, minutes: float) -> str:
    return f"{recipe}-{minutes:g}-{seed}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES), metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=60.0, help="of one core, for each training")
    parser.add_argument("--work", type=Path, default=HERE / "work" / "recipes", help="where trained models are kept")
    parser.add_argument("--train", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
