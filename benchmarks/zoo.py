"""Trains every net of the zoo on the same sections, each for as long as it needs to learn, and judges all alike.

    .venv/bin/python benchmarks/zoo.py --data-root DIR [--only NAME ...] [--work DIR] [--width 16] [--minutes 7]

Sections 0-17 of the ISBI stack teach (15-17 of them choose the threshold and the weights of the CRF), 18-23 are judged.
Each training has one core for itself and starts from random weights. Its minutes grow with the net (`minutes_of`), or
are --minutes for all. The nets built on VGG16 take --width: 64 channels in their first stage are those of the papers,
fewer take more steps in the same time. What is trained is kept in --work, and the same command carries on from there;
rows of nets that are left out stay as they are in results/zoo.json.

Beside the table, learning curves are drawn, and a picture of what each model finds: of one judged section into --work,
as images of the stack may not be passed on, and of a synthetic section for the documentation.
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
from crf import CANDIDATES, Score, Section, named, score, sections_of
from judged import seen, tested, trained
from machine import facts, provenance
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pinned import count_processor_time, run_pinned
from zoo_curves import draw_curves
from zoo_table import UNSUPERVISED, expectations, results, thin_out

from segem.config import BaselineConfig, SynthConfig, TrainConfig, load_manifest
from segem.io.layers import read_section
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.normalize import IntensityStatistics, histogram, zscore
from segem.kernels.synth import draw_sections as synthetic
from segem.kernels.threshold import quantize_probability
from segem.learn.artefact import Artefact, geometry_of, load_net
from segem.learn.cost import parameter_count
from segem.learn.engine import Engine, choose_device
from segem.learn.models.registry import ZOO, options_of, spec_of
from segem.stages.segmentation.baseline import baseline
from segem.stages.training.train import HISTORY, train

HERE = Path(__file__).resolve().parent
MANIFEST = HERE.parent / "data" / "manifests" / "isbi-zoo.yaml"
RESULTS = HERE / "results"
CURVES = HERE.parent / "docs" / "images" / "zoo-curves.svg"
WITH_CRF = ("fcn8s", "deeplab")
SHOWN_PX = 256
Image8 = NDArray[np.uint8]


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
    kept = RESULTS / "zoo.json"
    rows: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.is_file() else {}
    for method in UNSUPERVISED:
        if method not in rows:
            rows[method] = judge_mask(method, volume, judged, work)
    for name in chosen:
        artefact = trained(f"zoo-{name}", work)
        if artefact is None:
            print(f"{name}: not trained, left out", file=sys.stderr)
            continue
        rows |= judge_model(name, artefact, volume, judged)
    kept.write_text(json.dumps(rows, indent=1) + "\n")
    draw(chosen, volume, judged.start, work)
    curves = {name: rows[name]["curve"] for name in ZOO if "curve" in rows.get(name, {})}
    CURVES.write_text(draw_curves(curves))
    text = f"{results(rows, arguments.width)}\n{expectations(curves)}"
    kept.with_suffix(".md").write_text(text)
    print(text)


def minutes_of(name: str, width: int) -> float:
    """Return the minutes of one core in which a net learns: 20, from 20 million weights on 60, and 90 on a ResNet.

    Examples
    --------
    >>> [minutes_of(name, 16) for name in ("unet", "unet2015", "deeplab-v2-resnet101")]
    [20, 60, 90]
    """
    if "resnet" in name:
        return 90
    return 60 if parameter_count(spec_of(name), options_of(name, narrowed(name, width))) > 20e6 else 20


def narrowed(name: str, width: int) -> dict[str, Any]:
    """Return the options of a net in this comparison."""
    return {"width": width} if "width" in ZOO[name].options.model_fields else {}


def _train(name: str, arguments: argparse.Namespace, work: Workspace) -> None:
    minutes = arguments.minutes or minutes_of(name, arguments.width)
    config = TrainConfig(model=name, architecture=narrowed(name, arguments.width), minutes=minutes)
    count_processor_time()
    train(load_manifest(MANIFEST, arguments.data_root), f"zoo-{name}", config, work, device="cpu")


def judge_mask(method: str, volume: Volume, judged: range, work: Workspace) -> dict[str, Any]:
    """Return the row of a method that learns nothing."""
    started = time.perf_counter()
    baseline(volume.name, method, BaselineConfig.model_validate({"method": method}), work)
    seconds = (time.perf_counter() - started) / (np.prod(volume.shape) / 1e6)
    mask = Volume.open(work.result(method, volume.name)).label("baseline")
    found = [
        Section(read_section(volume.raw, z), read_section(volume.label("truth"), z), 255 * read_section(mask, z))
        for z in judged
    ]
    return _scores(score(found, None, 0.5)) | {"parameters": 0, "seconds_per_mpx": seconds}


def judge_model(name: str, artefact: Artefact, volume: Volume, judged: range) -> dict[str, dict[str, Any]]:
    """Return the row of a model, and that of it with the CRF behind it where the papers have one."""
    geometry, chosen_on = geometry_of(artefact.card), artefact.card.trained_on[0].validation
    with Engine(load_net(artefact), choose_device("cpu"), geometry.context_sections) as engine:

        def predict(numbers: range) -> list[Section]:
            return sections_of(volume, numbers, engine, geometry.context_sections, geometry.stride_px)

        # The first section warms the engine up.
        choosing = predict(range(*chosen_on))
        started = time.perf_counter()
        found = predict(judged)
        seconds = (time.perf_counter() - started) / (sum(one.image.size for one in found) / 1e6)
    made, threshold = _made(artefact), artefact.card.threshold
    curve = thin_out(json.loads((artefact.path / HISTORY).read_text()))
    rows = {name: _scores(score(found, None, threshold)) | made | {"seconds_per_mpx": seconds, "curve": curve}}
    if name.startswith(WITH_CRF):
        merits = {config: score(choosing, config, threshold) for config in CANDIDATES}
        chosen = max(CANDIDATES, key=lambda config: merits[config].iou + merits[config].v_rand)
        refined = score(found, chosen, threshold)
        after = {"seconds_per_mpx": seconds + refined.seconds * 1e6 / 512**2, "crf": named(chosen)}
        rows[f"{name} + crf"] = _scores(refined) | made | after
    return rows


def _scores(found: Score) -> dict[str, Any]:
    """Return IoU at the threshold, and V_rand and V_info at the best of eleven, as the ISBI challenge takes them."""
    return {"iou": found.iou, "v_rand": found.v_rand, "v_info": found.v_info}


def _made(artefact: Artefact) -> dict[str, Any]:
    """Return how a model was made, for its row."""
    card, where = artefact.card, facts()
    return {
        "parameters": parameter_count(spec_of(card.architecture), options_of(card.architecture, card.options)),
        "steps": card.training.steps,
        "minutes": round(card.training.minutes),
        "commit": where["commit"],
        "date": where["date"],
    }


def draw(names: list[str], volume: Volume, z: int, work: Workspace) -> None:
    """Draw what each model finds in a judged section, and in a synthetic one."""
    (drawn,) = synthetic(SynthConfig(shape=(1, SHOWN_PX, SHOWN_PX), seed=3))
    statistics = IntensityStatistics.from_histogram(histogram(drawn.image))
    shown: list[tuple[str, Image8, Image8, Callable[[int], NDArray[np.float32]]]] = [
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


def montage(panels: dict[str, Image8], columns: int = 6, caption_px: int = 16) -> Image.Image:
    """Return panels side by side, each under its name; membrane is dark."""
    rows = -(-len(panels) // columns)
    sheet = Image.new("L", (columns * (SHOWN_PX + 4), rows * (SHOWN_PX + caption_px + 4)), 255)
    pen = ImageDraw.Draw(sheet)
    for i, (name, panel) in enumerate(panels.items()):
        x, y = i % columns * (SHOWN_PX + 4), i // columns * (SHOWN_PX + caption_px + 4)
        pen.text((x + 2, y + 2), name, fill=0)
        sheet.paste(Image.fromarray(np.ascontiguousarray(panel[:SHOWN_PX, :SHOWN_PX])), (x, y + caption_px))
    return sheet


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--minutes", type=float, help="of one core, for every model alike")
    parser.add_argument("--width", type=int, default=16, help="channels of the first stage of nets on VGG16")
    parser.add_argument("--only", nargs="*", default=[], choices=list(ZOO), metavar="NAME")
    parser.add_argument("--work", type=Path, default=HERE / "work" / "zoo", help="where trained models are kept")
    parser.add_argument("--train", choices=list(ZOO), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
