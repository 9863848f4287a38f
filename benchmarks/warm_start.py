"""Trains on five labelled sections of new tissue, from scratch and from a model of other tissue, and compares the two.

    .venv/bin/python benchmarks/warm_start.py --data-root DIR [--minutes 15] [--first-minutes 45] [--work DIR]

A model learns from ISBI sections 0-17 alone. Five sections of the VNC stack (four to learn from, one for the threshold)
are then learned from scratch, from that model (`warm`), and from it with a rehearsal of the ISBI sections: by their
labels and by what that model gave there (`rehearsed`, the default), or by their labels alone (`by-labels`). VNC 8-9 and
ISBI 21-23, which none has seen, judge them by pairs: the difference of IoU with its 95 % interval, by the paired block
bootstrap of `segem models promote`. Each training has one core for itself; its budget is processor time. What is
finished is kept in --work, and what was stopped goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import sys
from itertools import chain, product
from pathlib import Path
from typing import Any

from judged import ingested
from machine import facts, provenance
from pinned import count_processor_time, run_pinned

from segem.config import GateConfig, Manifest, TrainConfig, load_manifest
from segem.config.retrain import SHARE, with_rehearsal
from segem.io.workspace import Workspace
from segem.learn.artefact import find_model, list_models
from segem.stages.training.gate.judge import Contender, choose_judged_sections, judge_volume
from segem.stages.training.labelled import open_labelled_volumes
from segem.stages.training.train import train

HERE = Path(__file__).resolve().parent
MANIFESTS = HERE.parent / "data" / "manifests"
OLD, NEW = MANIFESTS / "isbi-only.yaml", MANIFESTS / "vnc-five.yaml"
REHEARSED: dict[str, dict[str, Any]] = {"rehearsed": {}, "by-labels": {"remember": 0.0}}
CONTEXT = {"context_sections": 3}
PAIRS = (("warm", "scratch"), *product(("warm", *REHEARSED), ("isbi",)), *product(REHEARSED, ("scratch", "warm")))


def main() -> None:
    """Train what is missing, compare, and write the table."""
    arguments = _arguments()
    work = Workspace(arguments.work)
    work.prepare()
    if arguments.train:
        _train(arguments.train, arguments, work)
        return
    print(provenance(), flush=True)
    for manifest in (OLD, NEW):
        ingested(manifest, arguments.data_root, work)
    for names in (("isbi", "scratch"), ("warm", *REHEARSED)):
        missing = [name for name in names if name not in {known for known, _ in list_models(work)}]
        run_pinned({name: [sys.executable, __file__, *sys.argv[1:], "--train", name] for name in missing}, work.root)
    both, found, config = _both(arguments.data_root), facts(), GateConfig()
    chosen = choose_judged_sections(open_labelled_volumes(both, work), config)
    models = {name: Contender.open(find_model(name, work), "cpu") for name in dict.fromkeys(chain(*PAIRS))}
    lines = [
        f"{arguments.minutes:g} minutes of one core ({found['cpu']}) for each training on VNC, "
        f"{arguments.first_minutes:g} for that on ISBI, commit {found['commit']}, {found['date']}. "
        "Difference of IoU on unseen sections, with its 95 % interval, and of V_rand.",
        "",
        "| model | IoU | beside | IoU | volume | difference | V_rand |",
        "|---|---:|---|---:|---|---:|---:|",
    ]
    for first, second in PAIRS:
        for sections in chosen:
            one = judge_volume(models[first], models[second], sections, config)
            interval, cells = one.iou_interval, one.v_rand
            lines.append(
                f"| {first} | {one.iou.candidate:.4f} | {second} | {one.iou.incumbent:.4f} | {one.volume} | "
                f"{one.iou.difference:+.4f} ({interval.low:+.4f} to {interval.high:+.4f}) | "
                f"{f'{cells.difference:+.4f}' if cells else '-'} |"
            )
    text = "\n".join(lines) + "\n"
    (HERE / "results" / "warm_start.md").write_text(text)
    print(text)


def _train(name: str, arguments: argparse.Namespace, work: Workspace) -> None:
    count_processor_time()
    minutes = arguments.first_minutes if name == "isbi" else arguments.minutes
    config = TrainConfig(model="unet", architecture=CONTEXT, minutes=minutes, **REHEARSED.get(name, {}))
    base = None if name in ("isbi", "scratch") else "isbi"
    manifest = load_manifest(OLD if name == "isbi" else NEW, arguments.data_root)
    if name in REHEARSED:
        manifest = _both(arguments.data_root)
    train(manifest, name, config, work, base=base, device="cpu")


def _both(data_root: Path) -> Manifest:
    return with_rehearsal(load_manifest(NEW, data_root), load_manifest(OLD, data_root), SHARE)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=15.0, help="of one core, for each training on VNC")
    parser.add_argument("--first-minutes", type=float, default=45.0, help="of one core, for the training on ISBI")
    parser.add_argument("--work", type=Path, default=HERE / "work" / "warm", help="where trained models are kept")
    parser.add_argument("--train", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
