"""Compares segem with other tools that sweep a net over a stack: same weights, same sections, side by side.

    .venv/bin/python benchmarks/sliding_window.py --data-root DIR [--quick] [--only NAME ...] [--rounds N]

Three things are measured, each contender in a process of its own that does nothing else:

- **time**, in rounds that go through all contenders one after the other. Before the clock starts, everything is loaded
  and a first section is done. For tools that work in memory, the clock covers prediction alone: their input is there,
  scaled, and their output stays in memory. For those that go from disk to disk it covers reading, scaling and writing,
  and for segem everything that `segem segment` does: weights, compiling, ledger, checksums, mask, pyramid, audit. They
  do half of the sections too: the difference is the pace ("steady"), and the rest is start-up ("whole call" has it).
- **memory**, as the highest resident size of the process, on few and on many sections, with a thinner net so that the
  volume shows and not the activations.
- **a kill**, for those that write to disk: SIGKILL in the middle of a stack, then the same call again. A tool survives
  when chunks that were finished are left as they are and the result is that of an undisturbed run.

Matrix multiplication is measured before and after each timing. A timing is marked when it was more than 10 % below the
best of the run: other programs were busy then. What is finished is kept in the JSON file beside the table, and the same
command carries on from there; --fresh starts anew.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from contenders import ALL, BY_NAME, Contender
from contenders.case import Case, described
from contenders.measure import MeasurementError, call, carry_out
from contenders.table import markdown
from machine import facts, provenance, versions

from segem.learn.speed import gemm_gflops

HERE = Path(__file__).resolve().parent
KILLED_AFTER = 0.6


def main() -> None:
    """Measure what is still missing, and write the table."""
    if sys.argv[1:2] == ["--carry-out"]:
        carry_out(Path(sys.argv[2]))
        return
    arguments = _arguments()
    results = Results(arguments)
    print(provenance(), flush=True)
    chosen = [contender for contender in ALL if contender.name in arguments.only]
    folder = arguments.work / f"{arguments.size}"
    folder.mkdir(parents=True, exist_ok=True)
    full = Case(folder, arguments.features, arguments.threads)
    thin = Case(folder, arguments.memory_features, arguments.threads)
    few, many = arguments.memory_sections
    print("preparing: volume, weights, and the reference on whole sections", flush=True)
    timed, halves = {arguments.sections, arguments.disk_sections}, {arguments.disk_sections // 2}
    source = arguments.data_root / "vnc" / "stack1" / "raw"
    for case, depths, references in ((full, {1} | timed | halves, timed), (thin, {few, many}, set())):
        task = {"kind": "prepare", "case": described(case), "source": str(source), "size": arguments.size}
        call(task | {"depths": sorted(depths), "references": sorted(references)})
    wanted: list[tuple[Contender, str, Callable[[Contender], dict[str, Any]]]] = []
    for number in range(arguments.rounds):
        wanted += [(c, f"time {number}", partial(_time, case=full, arguments=arguments)) for c in chosen]
    for sections in () if arguments.no_memory else (few, many):
        wanted += [(c, f"memory {sections}", partial(_memory, case=thin, sections=sections)) for c in chosen]
    if not arguments.no_kill:
        wanted += [(c, "kill", partial(_kill, case=thin, sections=many)) for c in chosen if c.read is not None]
    for contender, what, how in wanted:
        results.measure(contender, what, how)
    print(results.write_table(), flush=True)


class Results:
    """What was measured so far, in a JSON file that a later call goes on from."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.path: Path = arguments.out
        keep = ("size", "sections", "disk_sections", "threads", "features", "memory_features", "memory_sections")
        settings = {key: getattr(arguments, key) for key in keep}
        self.values: dict[str, Any] = {"settings": settings, "machine": facts(), "versions": {}, "measured": {}}
        if self.path.is_file() and not arguments.fresh:
            before = json.loads(self.path.read_text(encoding="utf-8"))
            if before["settings"] == json.loads(json.dumps(settings)):
                self.values |= {key: before[key] for key in ("measured", "versions")}
        # A tool that does not go together with the others is measured from an environment of its own.
        self.values["versions"] |= versions(sorted({contender.needs for contender in ALL}))

    def measure(self, contender: Contender, what: str, how: Callable[[Contender], dict[str, Any]]) -> None:
        """Measure one thing, unless it was measured before, and keep it at once."""
        known = self.values["measured"].setdefault(contender.name, {})
        if what in known and "failed" not in known[what]:
            return
        print(f"{contender.name}: {what} ... ", end="", flush=True)
        try:
            known[what] = how(contender)
        except MeasurementError as error:
            known[what] = {"failed": str(error)}
        print(", ".join(f"{key} {_short(value)}" for key, value in known[what].items()), flush=True)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.values, indent=2) + "\n", encoding="utf-8")

    def write_table(self) -> str:
        """Write the Markdown beside the JSON, and return it."""
        text = markdown(self.values, [(c.name, c.about) for c in ALL])
        self.path.with_suffix(".md").write_text(text, encoding="utf-8")
        return text


def _time(contender: Contender, case: Case, arguments: argparse.Namespace) -> dict[str, Any]:
    before = gemm_gflops(case.threads)
    depths = {"sections": arguments.sections, "disk_sections": arguments.disk_sections}
    measured = call({"kind": "time", "contender": contender.name, "case": described(case)} | depths)
    return {**measured, "gemm_gflops": [round(before, 1), round(gemm_gflops(case.threads), 1)]}


def _memory(contender: Contender, case: Case, sections: int) -> dict[str, Any]:
    return call({"kind": "memory", "contender": contender.name, "case": described(case), "sections": sections})


def _kill(contender: Contender, case: Case, sections: int) -> dict[str, Any]:
    task = {"kind": "sweep", "contender": contender.name, "case": described(case), "sections": sections}
    with tempfile.TemporaryDirectory(dir=case.folder) as folder:
        # segem takes the last part of the path for the name of a run, so it must be a new one each time.
        whole, killed = (f"{Path(folder).name}-{name}" for name in ("whole", "killed"))
        undisturbed = call(task | {"out": f"{folder}/{whole}"})
        call(task | {"out": f"{folder}/{killed}"}, kill_after=KILLED_AFTER * undisturbed["seconds"])
        written = _chunks(case.folder, killed)
        again = call(task | {"out": f"{folder}/{killed}"})
        kept = written & _chunks(case.folder, killed)
    return {
        "written_before": len(written),
        "kept_after": len(kept),
        "same_result": again["digest"] == undisturbed["digest"],
        "share_of_a_whole_run": round(again["seconds"] / undisturbed["seconds"], 3),
    }


def _chunks(folder: Path, out: str) -> set[tuple[Path, int, int]]:
    """Return every chunk of the Zarr arrays of an output, with what changes when it is written again."""
    found = (path for path in folder.rglob("c/**/*") if out in path.parts and path.is_file())
    return {(path, path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="folder with vnc/, see data/README.md")
    parser.add_argument("--quick", action="store_true", help="the essential contenders, one round")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=BY_NAME, help=f"of {', '.join(BY_NAME)}")
    parser.add_argument("--sections", type=int, default=4, help="sections of a timing in memory")
    parser.add_argument("--disk-sections", type=int, default=16, help="sections of a timing from disk to disk")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", type=int, default=1024, help="edge of a section in pixels")
    parser.add_argument("--features", type=int, default=32, help="width of the net that is timed")
    parser.add_argument("--memory-features", type=int, default=4, help="width of the net that memory is measured with")
    parser.add_argument("--memory-sections", type=int, nargs=2, default=(5, 40), metavar=("FEW", "MANY"))
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--no-kill", action="store_true")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "sliding_window.json")
    parser.add_argument("--work", type=Path, default=HERE.parent / "build" / "bench", help="for volumes and weights")
    arguments = parser.parse_args()
    arguments.only = arguments.only or [c.name for c in ALL if c.quick or not arguments.quick]
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 3)
    arguments.work = arguments.work.resolve()
    return arguments


if __name__ == "__main__":
    main()
