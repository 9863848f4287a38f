"""Trains the nets of other tools beside segem's: same labelled sections, same minutes, same unseen test, one judge.

    .venv/bin/python benchmarks/train_peers.py --data-root DIR [--minutes 45] [--threads 2] [--only NAME ...]

The split is that of `data/manifests/recipe.yaml`. Each tool trains one net on both volumes together, from random
weights, by its own recipe, and predicts the validation and test sections by its own means. All probabilities are stored
in 8 bits and judged by the same function.

Each tool runs in a process of its own. The clock starts with the first step of training: imports, planning and
preprocessing are free, validation while training counts, and a last validation is free again. With --processor-time the
budget is the processor time of the process and of those it starts, divided by --threads, so that other programs cost
nothing. What is finished is kept in --work.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import facts, provenance, versions
from trainers import BY_NAME, Trainer
from trainers.course import Budget, Course
from trainers.score import judge, write

from segem.config import load_manifest
from segem.io.workspace import Workspace
from segem.stages.training.labelled import open_labelled_volumes

HERE = Path(__file__).resolve().parent
MANIFEST = HERE.parent / "data" / "manifests" / "recipe.yaml"
DONE, FAILED = "done.json", "failed.txt"

NOTES = """\
Every tool learns from the same sections, from random weights, by its own recipe. The threshold is that with the best
IoU on the validation sections, averaged over volumes; IoU is that on the test sections at this threshold, V_rand and
V_info are those of their best thresholds, as the ISBI challenge takes them.

segem sees the sections above and below, draws the ISBI stack four times as often, and computes in bfloat16 where the
processor does; the others see one section, draw from all alike and compute in float32, as they do on a processor. Each
loads its data in one process or thread beside the training.

What is not as the tools have it: nnU-Net's polynomial schedule runs over the share of the budget that is spent instead
of over 1000 epochs, and the validation after each epoch, which decides nothing, is left out. MONAI validates as many
pixels for each it has learned from as its tutorial does, instead of every other epoch, because an epoch is short here.
torch-em takes crops of 512 and one a step, as its script for the ISBI stack, and its library's defaults otherwise; its
first step, in which the net is compiled, is free."""


def main() -> None:
    """Train what is missing, judge everything, and write the table."""
    arguments = _arguments()
    manifest = load_manifest(MANIFEST, arguments.data_root)
    work = Workspace(arguments.work)
    work.prepare()
    opened = open_labelled_volumes(manifest, work)
    volumes = {one.name: one.volume for one in opened}
    splits = {one.name: one.split for one in opened}

    def course(name: str) -> Course:
        kind = "processor" if arguments.processor_time else "clock"
        folder = (
            arguments.work / "trained" / f"{name}-{arguments.minutes:g}-{kind}-{arguments.threads}-{arguments.seed}"
        )
        budget = Budget(arguments.minutes, arguments.threads, arguments.processor_time)
        return Course(manifest, work, volumes, splits, folder, budget, arguments.seed)

    if arguments.train:
        _train(BY_NAME[arguments.train], course(arguments.train))
        return
    print(provenance(), flush=True)
    measured: dict[str, dict[str, Any]] = {}
    for name in BY_NAME:
        # What an earlier call has finished stays in the table.
        if name not in arguments.only and not (course(name).folder / DONE).is_file():
            continue
        print(f"{name} ... ", end="", flush=True)
        measured[name] = _measured(BY_NAME[name], course(name))
        print(_told(measured[name]), flush=True)
    settings = {key: getattr(arguments, key) for key in ("minutes", "threads", "processor_time", "seed")}
    used = versions(["segem", "torch", "monai", "nnunetv2", "torch_em"])
    values = {"settings": settings, "machine": facts(), "versions": used, "measured": measured}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    text = markdown(values)
    arguments.out.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


def _measured(trainer: Trainer, course: Course) -> dict[str, Any]:
    """Train with a tool in a process of its own unless that is done, and judge what it predicts."""
    if trainer.missing:
        return {"failed": f"{trainer.needs} is not installed"}
    if not (course.folder / DONE).is_file():
        threads = str(course.budget.threads)
        course.folder.mkdir(parents=True, exist_ok=True)
        with (course.folder / "log").open("w") as log:
            ended = subprocess.run(
                [sys.executable, __file__, *sys.argv[1:], "--train", trainer.name],
                env={**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
                stdout=log,
                stderr=log,
                start_new_session=True,
                check=False,
            )
        if ended.returncode:
            failed = course.folder / FAILED
            return {"failed": failed.read_text() if failed.is_file() else f"exit code {ended.returncode}"}
    done: dict[str, Any] = json.loads((course.folder / DONE).read_text())
    return done | {"scores": judge(course)}


def _train(trainer: Trainer, course: Course) -> None:
    """Train with a tool in this process, and write what it predicts."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: course.budget.threads])
    torch.set_num_threads(course.budget.threads)
    random.seed(course.seed)
    np.random.seed(course.seed)  # noqa: NPY002  # what the other tools draw from
    torch.manual_seed(course.seed)
    (course.folder / FAILED).unlink(missing_ok=True)
    try:
        write(trainer.train(course), course)
    except Exception as error:
        traceback.print_exc()
        (course.folder / FAILED).write_text(f"{type(error).__name__}: {error}".splitlines()[0][:300])
        sys.exit(1)
    made = {"steps": course.budget.steps, "minutes": round(course.budget.spent, 2)}
    (course.folder / DONE).write_text(json.dumps(made))


def markdown(values: dict[str, Any]) -> str:
    """Return what was measured as a Markdown document."""
    settings, machine, measured = values["settings"], values["machine"], values["measured"]
    kind = "processor time, divided by the threads" if settings["processor_time"] else "the clock"
    rows, failures = [], []
    for name, found in measured.items():
        if "failed" in found:
            failures.append(f"- {name}: {found['failed']}")
            continue
        rows += [
            f"| {name} | {BY_NAME[name].about} | {found['steps']} | {found['minutes']:.1f} | {volume} | "
            f"{score['threshold']:.2f} | {score['iou']:.4f} | {score['v_rand']:.4f} | {score['v_info']:.4f} |"
            for volume, score in found["scores"].items()
        ]
    lines = [
        "# Trained side by side",
        "",
        f"{settings['minutes']:g} minutes by {kind}, {settings['threads']} threads, seed {settings['seed']}; "
        f"{machine['cpu']}, commit {machine['commit']}, {machine['date']}.",
        "",
        ", ".join(f"{package} {version}" for package, version in values["versions"].items()) + ".",
        "",
        "| tool | recipe | steps | minutes | volume | threshold | IoU | V_rand | V_info |",
        "|---|---|---:|---:|---|---:|---:|---:|---:|",
        *rows,
        "",
        NOTES,
        *(["", "Not measured:", "", *failures] if failures else []),
    ]
    return "\n".join(lines) + "\n"


def _told(found: dict[str, Any]) -> str:
    if "failed" in found:
        return str(found["failed"])
    ious = ", ".join(f"IoU {score['iou']:.4f} on {volume}" for volume, score in found["scores"].items())
    return f"{found['steps']} steps in {found['minutes']:.1f} minutes, {ious}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="folder with isbi2012/ and vnc/")
    parser.add_argument("--minutes", type=float, default=45.0, help="of training, for each tool")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--processor-time", action="store_true", help="count processor time instead of the clock")
    names = list(BY_NAME)
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", choices=names, default=names, help=f"of {', '.join(names)}"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=HERE / "work" / "peers", help="where volumes and nets are kept")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "train_peers.json")
    parser.add_argument("--train", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.work = arguments.work.resolve()
    return arguments


if __name__ == "__main__":
    main()
