"""Measures how far the probabilities of a model are from frequencies, without its calibration and with it.

    .venv/bin/python benchmarks/calibration.py --data-root DIR [--model unet-em] [--manifest MANIFEST]

Expected calibration error (15 bins) on the test sections of each volume, of probabilities as a run stores them.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

from machine import provenance

from segem.config import load_manifest
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.learn.artefact import find_model, geometry_of, load_net
from segem.learn.predict import predict_section
from segem.stages.training.score import score_volume
from segem.stages.volumes.ingest import ingest

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Print one line for each volume with test sections."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--model", default="unet-em", help="name, or path of a model's folder")
    parser.add_argument("--manifest", type=Path, default=ROOT / "data" / "manifests" / "unet-em-calibration.yaml")
    arguments = parser.parse_args()
    artefact = find_model(arguments.model)
    context, threshold = geometry_of(artefact.card).context_sections, artefact.card.threshold
    nets = [load_net(artefact, calibrate=calibrate) for calibrate in (False, True)]
    print(provenance())
    print(f"model {artefact.card.name} {artefact.digest[:12]}, scale and bias {artefact.card.calibration.line}")
    with tempfile.TemporaryDirectory() as folder:
        for entry in load_manifest(arguments.manifest, arguments.data_root).volumes:
            if entry.split is None or entry.split.test is None:
                continue
            test = (entry.split.test.start, entry.split.test.stop)
            volume = Volume.open(ingest(entry.ingest_config(), Workspace(Path(folder))).path)
            predict = (partial(predict_section, net) for net in nets)
            before, after = (score_volume(one, threshold, volume, test, context).ece for one in predict)
            print(f"{entry.name}: sections {test[0]}-{test[1] - 1}: ECE {before:.4f} before, {after:.4f} after")


if __name__ == "__main__":
    main()
