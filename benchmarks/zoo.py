"""Trains every architecture of the zoo on the same sections with the same processor time, and judges all alike.

    .venv/bin/python benchmarks/zoo.py --data-root DIR --minutes 10 [--only NAME ...] [--work DIR] [--width 16]

Sections 0-17 of the ISBI stack teach (15-17 of them choose the threshold), 18-23 are judged. Each training has one core
for itself and starts from random weights. The nets built on VGG16 take --width: 64 channels in their first stage are
those of the papers, fewer take more steps in the same time. What is trained is kept in --work, and the same command
carries on from there.

Beside the table, a picture of what each model finds is drawn: of one judged section into --work, as images of the stack
may not be passed on, and of a synthetic section for the documentation.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from judged import rand_and_info, seen, tested, trained
from machine import facts, provenance
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pinned import count_processor_time, run_pinned

from segem.config import BaselineConfig, CrfConfig, SynthConfig, TrainConfig, load_manifest
from segem.io.layers import read_section
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.crf import refine
from segem.kernels.metrics.iou import Confusion
from segem.kernels.metrics.segmentation import SegmentationSums
from segem.kernels.normalize import IntensityStatistics, histogram, zscore
from segem.kernels.synth import draw_sections as synthetic
from segem.kernels.threshold import quantize_probability, threshold_probability
from segem.learn.artefact import Artefact, geometry_of, load_net
from segem.learn.engine import Engine, choose_device
from segem.learn.models.registry import ZOO, build
from segem.stages.segmentation.baseline import baseline
from segem.stages.training.train import train

HERE = Path(__file__).resolve().parent
MANIFEST = HERE.parent / "data" / "manifests" / "isbi-zoo.yaml"
UNSUPERVISED = ("kmeans", "kmeans-features", "watershed", "ncut")
WITH_CRF = ("fcn8s", "deeplab")
SHOWN_PX = 256
Section = NDArray[np.uint8]


def main() -> None:
    """Train what is missing, judge everything, and write table and pictures."""
    arguments = _arguments()
    print(provenance(), flush=True)
    work = Workspace(arguments.work)
    work.prepare()
    ((volume, judged),) = tested(MANIFEST, arguments.data_root, work)
    if arguments.train:
        _train(arguments.train, arguments, work)
        return
    chosen = [name for name in ZOO if not arguments.only or name in arguments.only]
    missing = [name for name in chosen if trained(f"zoo-{name}", work) is None]
    run_pinned({name: [sys.executable, __file__, *sys.argv[1:], "--train", name] for name in missing}, work.root)
    results = work.root / "zoo.json"
    rows: dict[str, dict[str, Any]] = json.loads(results.read_text()) if results.is_file() else {}
    for method in UNSUPERVISED:
        if method not in rows:
            rows[method] = judge_mask(method, volume, judged, work)
            results.write_text(json.dumps(rows, indent=2))
    for name in chosen:
        artefact = trained(f"zoo-{name}", work)
        if artefact is None:
            print(f"{name}: not trained, left out", file=sys.stderr)
            continue
        found = judge_model(name, artefact, volume, judged)
        rows |= found
        results.write_text(json.dumps(rows, indent=2))
    draw(chosen, volume, judged.start, work)
    text = table(rows, arguments)
    (HERE / "results" / "zoo.md").write_text(text)
    print(text)


def _train(name: str, arguments: argparse.Namespace, work: Workspace) -> None:
    narrowed = {"width": arguments.width} if "width" in ZOO[name].options.model_fields else {}
    config = TrainConfig(model=name, architecture=narrowed, minutes=arguments.minutes)
    count_processor_time()
    train(load_manifest(MANIFEST, arguments.data_root), f"zoo-{name}", config, work, device="cpu")


def judge_mask(method: str, volume: Volume, judged: range, work: Workspace) -> dict[str, Any]:
    """Return the row of a method that learns nothing."""
    started = time.perf_counter()
    baseline(volume.name, method, BaselineConfig.model_validate({"method": method}), work)
    seconds = (time.perf_counter() - started) / (np.prod(volume.shape) / 1e6)
    mask = Volume.open(work.result(method, volume.name)).label("baseline")
    sections = [read_section(mask, z) for z in judged]
    scores = judge(volume, judged, [(255 * mask).astype(np.uint8) for mask in sections], 0.5)
    return scores | {"parameters": 0, "seconds_per_mpx": seconds}


def judge_model(name: str, artefact: Artefact, volume: Volume, judged: range) -> dict[str, dict[str, Any]]:
    """Return the row of a model, and that of it with the CRF behind it where the papers have one."""
    context = geometry_of(artefact.card).context_sections
    with Engine(load_net(artefact), choose_device("cpu"), context) as engine:
        inputs = [seen(volume, z, context) for z in judged]
        engine.probability(inputs[0])
        started = time.perf_counter()
        stored = [quantize_probability(p) for p in engine.probabilities(inputs)]
        seconds = (time.perf_counter() - started) / (len(judged) * stored[0].size / 1e6)
    made = {
        "parameters": sum(p.numel() for p in build(artefact.card.architecture, artefact.card.options).parameters()),
        "steps": artefact.card.training.steps if artefact.card.training else None,
    }
    scores = judge(volume, judged, stored, artefact.card.threshold)
    rows = {name: scores | made | {"seconds_per_mpx": seconds}}
    if name.startswith(WITH_CRF):
        started = time.perf_counter()
        images = [read_section(volume.raw, z) for z in judged]
        refined = [
            quantize_probability(refine((p / 255).astype(np.float32), image, CrfConfig()))
            for p, image in zip(stored, images, strict=True)
        ]
        after = (time.perf_counter() - started) / (len(judged) * stored[0].size / 1e6)
        scores = judge(volume, judged, refined, 0.5)
        rows[f"{name} + crf"] = scores | made | {"seconds_per_mpx": seconds + after}
    return rows


def judge(volume: Volume, judged: range, stored: list[Section], threshold: float) -> dict[str, Any]:
    """Return IoU at a threshold, and V_rand and V_info at the best of eleven, as the ISBI challenge takes them."""
    confusion, sums = Confusion(), SegmentationSums.nothing()
    for z, probability in zip(judged, stored, strict=True):
        truth = read_section(volume.label("truth"), z)
        confusion += Confusion.count(truth, threshold_probability(probability, threshold))
        sums += SegmentationSums.count(truth, probability)
    v_rand, v_info = rand_and_info(sums)
    return {"iou": confusion.iou, "v_rand": v_rand, "v_info": v_info}


def draw(names: list[str], volume: Volume, z: int, work: Workspace) -> None:
    """Draw what each model finds in a judged section, and in a synthetic one."""
    (drawn,) = synthetic(SynthConfig(shape=(1, SHOWN_PX, SHOWN_PX), seed=3))
    statistics = IntensityStatistics.from_histogram(histogram(drawn.image))
    shown: list[tuple[str, Section, Section, Callable[[int], NDArray[np.float32]]]] = [
        (
            "isbi.png",
            read_section(volume.raw, z),
            read_section(volume.label("truth"), z),
            lambda c: seen(volume, z, c),
        ),
        ("synthetic.png", drawn.image, drawn.truth, lambda c: zscore(np.stack([drawn.image] * c), statistics)),
    ]
    for file, image, truth, sees in shown:
        panels = {"section": image, "truth": np.where(truth, 0, 255).astype(np.uint8)}
        for name in names:
            artefact = trained(f"zoo-{name}", work)
            if artefact is not None:
                context = geometry_of(artefact.card).context_sections
                with Engine(load_net(artefact), choose_device("cpu"), context) as engine:
                    panels[name] = 255 - quantize_probability(engine.probability(sees(context)))
        montage(panels).save(work.root / file, optimize=True)


def montage(panels: dict[str, Section], columns: int = 6, caption_px: int = 16) -> Image.Image:
    """Return panels side by side, each under its name; membrane is dark."""
    rows = -(-len(panels) // columns)
    sheet = Image.new("L", (columns * (SHOWN_PX + 4), rows * (SHOWN_PX + caption_px + 4)), 255)
    pen = ImageDraw.Draw(sheet)
    for i, (name, panel) in enumerate(panels.items()):
        x, y = i % columns * (SHOWN_PX + 4), i // columns * (SHOWN_PX + caption_px + 4)
        pen.text((x + 2, y + 2), name, fill=0)
        sheet.paste(Image.fromarray(np.ascontiguousarray(panel[:SHOWN_PX, :SHOWN_PX])), (x, y + caption_px))
    return sheet


def table(rows: dict[str, dict[str, Any]], arguments: argparse.Namespace) -> str:
    """Return the results as a Markdown table, with where and how they were made."""
    found = facts()
    lines = [
        f"{arguments.minutes:g} minutes of one core ({found['cpu']}) for each, commit {found['commit']}, "
        f"{found['date']}; nets on VGG16 with {arguments.width} channels in the first stage (the papers have 64). "
        "ISBI 2012, trained on sections 0-17, judged on 18-23.",
        "",
        "| model | parameters | steps | IoU | V_rand | V_info | s/Mpx |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, row in rows.items():
        scores = " | ".join(f"{row[key]:.4f}" for key in ("iou", "v_rand", "v_info"))
        steps = f"{row['steps']:,}" if "steps" in row else ""
        lines.append(f"| {name} | {row['parameters']:,} | {steps} | {scores} | {row['seconds_per_mpx']:.2f} |")
    return "\n".join(lines) + "\n"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10.0, help="of one core, for each model")
    parser.add_argument("--width", type=int, default=16, help="channels of the first stage of nets on VGG16")
    parser.add_argument("--only", nargs="*", default=[], choices=list(ZOO), metavar="NAME")
    parser.add_argument("--work", type=Path, default=HERE / "work" / "zoo", help="where trained models are kept")
    parser.add_argument("--train", choices=list(ZOO), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
