"""Measures which defects of sections are found, from which severity on, and how often a good section is flagged.

    .venv/bin/python benchmarks/quality.py --data-root DIR [--seeds 20] [--only NAME ...]

In each of seven public stacks one section is spoilt at a time, at a place and in a way that the seed decides. A defect
counts as found when a flag of its kind names that section (of two equal sections: the later one). The stacks as they
are say how often a section is flagged that nobody spoilt.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from machine import provenance
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from segem.io.blocks import voxel_digest
from segem.io.readers import open_stack
from segem.kernels.quality import Measures, Trace, compare_traces, measure_section, trace_section
from segem.kernels.quality_flags import QualityTally
from segem.records.quality import SectionFlag
from segem.stages.volumes.quality import find_middle

STACKS = {
    "isbi": "isbi2012/train-volume.tif",
    "isbi-test": "isbi2012/test-volume.tif",
    "vnc-1": "vnc/stack1/raw",
    "vnc-2": "vnc/stack2/raw",
    "ac3": "snemi/ac3/raw",
    "ac4": "snemi/ac4/raw",
    "fibsem": "fibsem/raw",
}
compare = lru_cache(maxsize=1000)(compare_traces)
"""Of a stack in which one section is spoilt, all others are compared once."""
Sections = list[NDArray[Any]]
Spoil = Callable[[Sections, int, float, np.random.Generator], tuple[Sections, int]]
"""Returns the sections with a defect of that severity in one of them, and which one should be flagged."""


def _in_place(change: Callable[[NDArray[Any], float, np.random.Generator], NDArray[Any]]) -> Spoil:
    def spoil(sections: Sections, z: int, severity: float, rng: np.random.Generator) -> tuple[Sections, int]:
        spoilt = change(sections[z].astype(float), severity, rng)
        changed = np.clip(np.rint(spoilt), 0, 255).astype(np.uint8)
        return [*sections[:z], changed, *sections[z + 1 :]], z

    return spoil


def _shift(section: NDArray[Any], px: float, rng: np.random.Generator) -> NDArray[Any]:
    angle = rng.uniform(0, 2 * np.pi)
    return np.asarray(ndimage.shift(section, (px * np.sin(angle), px * np.cos(angle)), order=1, mode="reflect"))


def _copy(encode: Callable[[NDArray[Any], float, np.random.Generator], NDArray[Any]]) -> Spoil:
    def spoil(sections: Sections, z: int, severity: float, rng: np.random.Generator) -> tuple[Sections, int]:
        others = [other for other in range(len(sections)) if other != z]
        beside = [other for other in (z - 1, z + 1) if 0 <= other < len(sections)]
        other = int(rng.choice(beside if rng.random() < 0.5 else others))
        return [*sections[:z], encode(sections[other], severity, rng), *sections[z + 1 :]], max(z, other)

    return spoil


def _jpeg(section: NDArray[Any], quality: float, _: np.random.Generator) -> NDArray[Any]:
    buffer = io.BytesIO()
    Image.fromarray(section).save(buffer, "JPEG", quality=int(quality))
    return np.asarray(Image.open(buffer))


def _jitter(section: NDArray[Any], levels: float, rng: np.random.Generator) -> NDArray[Any]:
    noise = rng.integers(-int(levels), int(levels) + 1, section.shape)
    return np.clip(section.astype(int) + noise, 0, 255).astype(np.uint8)


def _move(sections: Sections, z: int, places: float, rng: np.random.Generator) -> tuple[Sections, int]:
    targets = [at for at in (z - int(places), z + int(places)) if 0 <= at < len(sections)]
    if not targets:
        z, targets = 0, [int(places)]
    at = int(rng.choice(targets))
    rest = [*sections[:z], *sections[z + 1 :]]
    return [*rest[:at], sections[z], *rest[at:]], at


@dataclass(frozen=True)
class Case:
    """A defect, and the flag that it should cause."""

    name: str
    unit: str
    kind: str
    severities: tuple[float, ...]
    spoil: Spoil


DEFECTS = (
    Case("shift", "px", "shift", (8, 12, 16), _in_place(_shift)),
    Case("blur", "px sigma", "blurred", (1, 1.5, 2), _in_place(lambda s, v, _: ndimage.gaussian_filter(s, v))),
    Case("contrast", "times", "contrast", (0.8, 0.7, 0.6), _in_place(lambda s, v, _: s.mean() + v * (s - s.mean()))),
    Case("brighter", "grey levels", "brightness", (10, 20, 30), _in_place(lambda s, v, _: s + v)),
    Case("darker", "grey levels", "brightness", (10, 20, 30), _in_place(lambda s, v, _: s - v)),
    Case("noise", "grey levels sigma", "noise", (6, 8, 12), _in_place(lambda s, v, g: s + g.normal(0, v, s.shape))),
    Case("copy", "", "copy", (0,), _copy(lambda s, _, __: s)),
    Case("copy by JPEG", "quality", "copy", (90, 75, 50), _copy(_jpeg)),
    Case("copy with noise", "grey levels", "copy", (1, 4), _copy(_jitter)),
    Case("moved", "places", "order", (1, 2, 3, 5), _move),
)


@dataclass(frozen=True)
class Kept:
    """What is known of a section; holding on to the section keeps its identity its own."""

    section: NDArray[Any]
    measures: Measures
    trace: Trace | None
    digest: str


@dataclass
class Measured:
    """Measures sections, each array once."""

    known: dict[int, Kept] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    def flags(self, sections: Sections) -> tuple[SectionFlag, ...]:
        """Return the flags of a stack."""
        tally = QualityTally(compare=compare)
        for section in sections:
            if id(section) not in self.known:
                started = time.process_time()
                measures, trace = measure_section(section), trace_section(section)
                self.seconds.append(time.process_time() - started)
                self.known[id(section)] = Kept(section, measures, trace, voxel_digest([section]))
            kept = self.known[id(section)]
            tally.add(kept.measures, kept.trace, digest=kept.digest)
        return tally.find_flags()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", nargs="*", default=[case.name for case in DEFECTS], help="defects")
    arguments = parser.parse_args()
    stacks = {name: _load(arguments.data_root / path) for name, path in STACKS.items()}
    print(provenance(), "\n")
    measured = _print_false_alarms(stacks)
    print(f"\n| defect | severity | {' | '.join(stacks)} | found |\n|---|---|{'---|' * len(stacks)}---|")
    for case in DEFECTS:
        for severity in case.severities if case.name in arguments.only else ():
            found = [
                _count_found(sections, measured[name], case, severity, arguments.seeds)
                for name, sections in stacks.items()
            ]
            share = sum(found) / (len(stacks) * arguments.seeds)
            row = f"| {case.name} | {severity:g} {case.unit} | {' | '.join(map(str, found))} | {share:.0%} |"
            print(row, flush=True)


def _load(source: Path) -> Sections:
    with open_stack(source) as stack:
        plane = find_middle(stack.shape).slices[1:]
        return [np.ascontiguousarray(stack.section(z)[plane]) for z in range(stack.shape[0])]


def _print_false_alarms(stacks: dict[str, Sections]) -> dict[str, Measured]:
    print("| stack | sections | px | ms of processor a section | flagged |\n|---|---|---|---|---|")
    total = flagged = 0
    all_measured = {name: Measured() for name in stacks}
    for name, sections in stacks.items():
        measured = all_measured[name]
        flags = measured.flags(sections)
        named = {flag.section for flag in flags}
        total, flagged = total + len(sections), flagged + len(named)
        height, width = sections[0].shape
        listed = "; ".join(f"{flag.section}: {flag.reason}" for flag in flags) or "none"
        typical = 1000 * float(np.median(measured.seconds))
        print(f"| {name} | {len(sections)} | {height} x {width} | {typical:.0f} | {listed} |")
    print(f"\n{flagged} of {total} sections flagged: {flagged / total:.1%}")
    return all_measured


def _count_found(sections: Sections, measured: Measured, case: Case, severity: float, seeds: int) -> int:
    measured, found = Measured(dict(measured.known)), 0
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        spoilt, z = case.spoil(sections, int(rng.integers(len(sections))), severity, rng)
        found += any(flag.section == z and flag.kind == case.kind for flag in measured.flags(spoilt))
    return found


if __name__ == "__main__":
    main()
