"""Compares 8 bits with float32 on labelled volumes: speed, IoU and V-Rand of the whole pipeline.

    .venv/bin/python benchmarks/int8.py --data-root DIR [--model unet-em] [--manifest data/manifests/isbi-vnc.yaml]

Both runtimes sweep every labelled volume of the manifest twice; the first time warms up what is cached, the second is
timed. Scores are those of the report, over whole stacks: some of their sections trained the bundled model, which makes
the scores no test of it but takes nothing from the comparison.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from pathlib import Path

from machine import provenance

from segem.config import ExecutionConfig, RuntimeName, SegmentConfig, load_manifest
from segem.io.run import load_run
from segem.io.workspace import Workspace
from segem.learn.speed import gemm_gflops
from segem.stages.reporting.evaluate import evaluate
from segem.stages.segmentation.segment import segment
from segem.stages.volumes.ingest import ingest

ROOT = Path(__file__).resolve().parent.parent
RUNTIMES: tuple[RuntimeName, ...] = ("openvino", "openvino-int8")


def main() -> None:
    """Print one line of scores for each volume and runtime."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--model", default="unet-em", help="name, or path of a model's folder")
    parser.add_argument("--manifest", type=Path, default=ROOT / "data" / "manifests" / "isbi-vnc.yaml")
    arguments = parser.parse_args()
    print(provenance())
    print(f"GEMM before: {gemm_gflops(2):.0f} Gflop/s")
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        labelled = [entry for entry in load_manifest(arguments.manifest, arguments.data_root).volumes if entry.labels]
        for entry in labelled:
            ingest(entry.ingest_config(), workspace)
        for runtime in RUNTIMES:
            seconds = {}
            for run in (f"warm-{runtime}", runtime):
                for entry in labelled:
                    config = SegmentConfig(model=arguments.model, runtime=runtime)
                    started = time.perf_counter()
                    segment(entry.name, run, config, ExecutionConfig(device="cpu"), workspace)
                    seconds[entry.name] = time.perf_counter() - started
            for volume in evaluate(runtime, workspace).volumes:
                model = volume.scores.model
                assert model is not None
                assert volume.shape is not None
                facts = load_run(workspace, runtime).volumes[volume.name].membrane_facts
                megapixels = math.prod(volume.shape) / 1e6
                print(
                    f"{volume.name} {runtime}: IoU {model.iou:.4f}, "
                    f"V_rand {model.rand.value if model.rand else float('nan'):.4f}, "
                    f"{megapixels / seconds[volume.name]:.2f} Mpx/s, start-up included; "
                    f"8 bits: {facts.int8 if facts else None}"
                )
    print(f"GEMM after: {gemm_gflops(2):.0f} Gflop/s")


if __name__ == "__main__":
    main()
