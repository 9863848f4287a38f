"""Trains on five labelled sections of a tissue that a model has not seen, from it and from scratch, and judges both.

    .venv/bin/python benchmarks/five_sections.py --data-root DIR --work FOLDER [--tissues ac4 stack1 isbi]

Mouse cortex (`ac4`) is learned from the model of two flies that was bundled before (commit 814864b, taken from the
history of this repository), the flies (`stack1`, `isbi`) from `unet-em-open`, which knows the mouse alone. Four
sections teach and one validates, with the defaults of `segem retrain --from MODEL --minutes 15` and of the same without
--from. Each training has one core and the processor time that 15 minutes of two cores hold; what is done is kept in
--work, and what was stopped goes on from its last checkpoint.

Sections that none has seen judge: differences of IoU with the 95 % interval of `segem models promote`, and V_rand
beside that of the bundled model, which has learned from all sections of these tissues that are given to learn from.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

from judged import trained
from machine import facts
from pinned import count_processor_time, run_resumable
from recipes import RESULTS as ACCOUNT

from segem.config import GateConfig, Manifest, Split, TrainConfig, VolumeEntry, load_manifest
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.learn.artefact import Artefact, find_model, load_artefact
from segem.stages.training.gate.judge import Contender, JudgedSections, judge_volume
from segem.stages.training.train import train
from segem.stages.volumes.ingest import ingest

HERE = Path(__file__).resolve().parent
ALL = HERE.parent / "data" / "manifests" / "all.yaml"
KEPT = HERE / "results" / "five_sections.json"
FLIES, FLIES_AT = "segem/bundled/unet-em", "814864b"
SPLITS = {
    "ac4": Split.model_validate({"train": [8, 12], "validation": [12, 13], "test": [18, 24]}),
    "stack1": Split.model_validate({"train": [0, 4], "validation": [4, 5], "test": [8, 10]}),
    "isbi": Split.model_validate({"train": [8, 12], "validation": [12, 13], "test": [21, 24]}),
}
WARM, SCRATCH = "warm", "scratch"
PROCESSOR_MINUTES = 30.0


def main() -> None:
    """Train what is missing, judge what is there, and write the table."""
    arguments = _arguments()
    work = Workspace(arguments.work)
    work.prepare()
    if arguments.train:
        _train(*arguments.train.split("-"), arguments, work)
        return
    for tissue in arguments.tissues:
        for how in (WARM, SCRATCH):
            name = f"{tissue}-{how}"
            if trained(name, work) is None:
                command = [sys.executable, __file__, *sys.argv[1:], "--train", name]
                run_resumable(name, command, work.root, account=ACCOUNT / "account.json", pause=arguments.pause)
        kept = json.loads(KEPT.read_text()) if KEPT.is_file() else {}
        kept[tissue] = {"machine": facts(), "minutes": arguments.minutes, "rows": _judge(tissue, arguments, work)}
        KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    text = _table(kept)
    KEPT.with_suffix(".md").write_text(text)
    print(text)


def base_of(tissue: str, work: Workspace) -> Artefact:
    """Return a model that has not seen a tissue."""
    if tissue != "ac4":
        return find_model("unet-em-open")
    folder = work.root / FLIES_AT
    if not folder.is_dir():
        packed = subprocess.run(
            ["git", "archive", FLIES_AT, FLIES], cwd=HERE.parent, stdout=subprocess.PIPE, check=True
        ).stdout
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(folder, filter="data")
    return load_artefact(folder / FLIES)


def _train(tissue: str, how: str, arguments: argparse.Namespace, work: Workspace) -> None:
    count_processor_time()
    entry = _entry(tissue, arguments)
    manifest = Manifest(name=f"{tissue}-five", volumes=(entry.model_copy(update={"split": SPLITS[tissue]}),))
    base = str(base_of(tissue, work).path) if how == WARM else None
    train(manifest, f"{tissue}-{how}", TrainConfig(minutes=arguments.minutes), work, base=base, device="cpu")


def _judge(tissue: str, arguments: argparse.Namespace, work: Workspace) -> list[dict[str, Any]]:
    """Return how the model that went on from another compares with that one, scratch, and the bundled model."""
    test = SPLITS[tissue].test
    assert test is not None
    volume = Volume.open(ingest(_entry(tissue, arguments).ingest_config(), work).path)
    judged = JudgedSections(volume, range(test.start, test.stop))
    warm, scratch = (trained(f"{tissue}-{how}", work) for how in (WARM, SCRATCH))
    if warm is None or scratch is None:
        raise SystemExit(f"a training on {tissue} failed: see the logs in {work.root}")
    beside = {"the base model": base_of(tissue, work), SCRATCH: scratch, "unet-em": find_model("unet-em")}
    rows = []
    for name, other in beside.items():
        one = judge_volume(Contender.open(warm, "cpu"), Contender.open(other, "cpu"), judged, GateConfig())
        rows.append({"beside": name, **one.model_dump(include={"iou", "iou_interval", "v_rand", "v_rand_interval"})})
    return rows


def _entry(tissue: str, arguments: argparse.Namespace) -> VolumeEntry:
    (entry,) = (one for one in load_manifest(ALL, arguments.data_root).volumes if one.name == tissue)
    return entry


def _table(kept: dict[str, dict[str, Any]]) -> str:
    lines = [
        "Five labelled sections, the time that 15 minutes of two cores hold. IoU with the 95 % interval of its",
        "difference, V_rand at the best threshold with the 95 % interval of its difference within blocks.",
        "",
        "| tissue | IoU | beside | IoU | difference | V_rand | V_rand | share | its difference | commit |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for tissue, found in kept.items():
        for row in found["rows"]:
            iou, rand, within = row["iou"], row["v_rand"], row["v_rand_interval"]
            lines.append(
                f"| {tissue} | {iou['candidate']:.3f} | {row['beside']} | {iou['incumbent']:.3f} | "
                f"{row['iou_interval']['low']:+.3f} to {row['iou_interval']['high']:+.3f} | {rand['candidate']:.3f} | "
                f"{rand['incumbent']:.3f} | {rand['candidate'] / rand['incumbent']:.1%} | "
                f"{within['low']:+.4f} to {within['high']:+.4f} | {found['machine']['commit']} |"
            )
    return "\n".join(lines) + "\n"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=HERE / "work" / "five", help="where trained models are kept")
    parser.add_argument("--tissues", nargs="+", choices=tuple(SPLITS), default=tuple(SPLITS))
    parser.add_argument("--minutes", type=float, default=PROCESSOR_MINUTES, help="of processor time, for each training")
    parser.add_argument("--pause", type=Path, help="a file; while it exists, nothing is computed")
    parser.add_argument("--train", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
