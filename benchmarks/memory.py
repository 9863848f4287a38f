"""Measures the peak memory of `segem segment` on a small and a large stack, and of one very large section.

    .venv/bin/python benchmarks/memory.py [--small-gb 0.1] [--large-gb 8] [--edge 2048] [--workspace DIR]
    .venv/bin/python benchmarks/memory.py --section 20000 [--ingest] [--cells] [--budget-gb 2]

The stacks are synthetic, 8 bit, and swept with a net that costs nothing, so that 8 GB take minutes. The first form
fails when the two peaks differ by more than 5 %, the second when a peak exceeds the budget. Volumes are written shard
by shard; with --ingest the section is drawn as a TIFF and ingested, and that is measured too, and with --cells what
`segem cells` takes for it. Every command runs in a process of its own, and its peak is what the kernel noted (VmHWM).
What follows ``--`` is handed to `segem segment`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
from free_net import add_noise_volume, pattern, save_free_net
from machine import provenance

from segem.io.workspace import Workspace

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = """
import sys
sys.path[:0] = [{benchmarks!r}, {root!r}]
# Only where its net is used: with it comes torch, which no other command loads.
if sys.argv[1] == "segment":
    import free_net
from segem.cli import app
app(sys.argv[1:], standalone_mode=False)
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak.split()[1]) / 2**20)
"""
DIFFERENCE = 0.05


def main() -> None:
    """Run the comparison, or the large section, and exit with 1 where it breaks its promise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small-gb", type=float, default=0.1)
    parser.add_argument("--large-gb", type=float, default=8.0)
    parser.add_argument("--edge", type=int, default=2048, help="edge of the sections of both stacks")
    parser.add_argument("--section", type=int, help="measure one section of this edge instead")
    parser.add_argument("--ingest", action="store_true", help="bring the section in as a TIFF")
    parser.add_argument("--cells", action="store_true", help="divide the probability of the section into cells too")
    parser.add_argument("--budget-gb", type=float, default=2.0)
    parser.add_argument("--context", type=int, default=1, help="sections the net is given")
    parser.add_argument("--halo", type=int, default=96, help="pixels the net is given around each tile")
    parser.add_argument("--workspace", type=Path, help="a folder on a disk with room; a temporary one otherwise")
    parser.add_argument("options", nargs="*", help="handed to `segem segment`")
    arguments = parser.parse_args()
    print(provenance())
    with tempfile.TemporaryDirectory(dir=arguments.workspace) as folder:
        workspace = Workspace(Path(folder) / "workspace")
        workspace.prepare()
        model = save_free_net(workspace, context=arguments.context, halo_px=arguments.halo)
        sweep = ["segment", "--model", model, "--device", "cpu", *arguments.options]
        if arguments.section is not None:
            sweep += ["--run", "swept"]
            peaks = large_section(workspace, arguments.section, arguments.ingest, sweep)
            if arguments.cells:
                divide = ["cells", "section", "--of", "swept"]
                peaks.append(measured(f"cells of {arguments.section}^2", workspace, divide))
            sys.exit(max(peaks) > arguments.budget_gb)
        peaks = []
        for name, gigabytes in (("small", arguments.small_gb), ("large", arguments.large_gb)):
            depth = max(1, round(gigabytes * 1e9 / arguments.edge**2))
            add_noise_volume(workspace, name, (depth, arguments.edge, arguments.edge))
            peaks.append(measured(f"{name}: {depth} x {arguments.edge}^2", workspace, [*sweep, name]))
        difference = abs(peaks[1] / peaks[0] - 1)
        print(f"difference {difference:.1%}, allowed {DIFFERENCE:.0%}")
        sys.exit(difference > DIFFERENCE)


def large_section(workspace: Workspace, edge: int, ingest: bool, sweep: list[str]) -> list[float]:
    """Return the peaks of the ingest, where it is asked for, and of the sweep of one section."""
    if not ingest:
        add_noise_volume(workspace, "section", (1, edge, edge))
        return [measured(f"sweep of {edge}^2", workspace, [*sweep, "section"])]
    source = workspace.root / "section.tif"
    image = tifffile.memmap(source, shape=(edge, edge), dtype=np.uint8)
    tile = pattern()
    for y in range(0, edge, len(tile)):
        rows = image[y : y + len(tile)]
        rows[...] = np.tile(tile, (1, -(-edge // len(tile))))[: len(rows), :edge]
    image.flush()
    del image
    command = ["ingest", str(source), "--name", "section", "--voxel-nm", "50,4,4"]
    return [
        measured(f"ingest of {edge}^2", workspace, command),
        measured(f"sweep of {edge}^2", workspace, [*sweep, "section"]),
    ]


def measured(what: str, workspace: Workspace, command: list[str]) -> float:
    """Run a command of segem in a process of its own, print its time and peak memory and return the latter in GB."""
    program = PROGRAM.format(benchmarks=str(ROOT / "benchmarks"), root=str(ROOT))
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program, *command, "--workspace", str(workspace.root)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"segem {' '.join(command)} failed with exit code {done.returncode}")
    peak = float(done.stdout.split()[-1])
    print(f"{what}: peak {peak:.3f} GB, {time.monotonic() - started:.0f} s", flush=True)
    return peak


if __name__ == "__main__":
    main()
