"""Which sections of a volume stand out from those around them, and by how much."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import exp, hypot, log, sqrt, tanh

import numpy as np
from numpy.typing import NDArray

from segem.kernels.displacement import Extent, find_displaced
from segem.kernels.outliers import FEWEST, Bound, find_deviations, find_outliers, measure_scatter, measure_spread
from segem.kernels.quality import Comparison, Measures, Trace, compare_traces, correlate_fingerprints
from segem.records.quality import FlagKind, SectionFlag, SectionQuality

# What one stack does from section to section is a defect in another, so each bound has two parts: what is worth a flag
# at all, and what stands out of the stack's own scatter. benchmarks/quality.py says what is found with them on seven
# stacks of four data sets, and that at most 3 % of their sections stand out as they are. docs/explanation/quality.md
# says how much of that rests on those stacks.
SHARPNESS, CONTRAST, NOISE = Bound(log(1 / 0.86), 3), Bound(log(1 / 0.84), 2.5), Bound(log(1.16), 3)
"""Of the logarithms of these measures."""
BRIGHTNESS, OFFSET = Bound(0.1, 3), Bound(0.06, 3)
"""Of the median, and of all levels by their ends; the least is a share of the usual contrast."""
_STEADY = 0.005
"""What varies less than this share of the contrast counts as varying so much."""
ORDER, ORDER_AT_THE_ENDS = Bound(0.02, 3), Bound(0.06, 2.5)
"""Of similarities."""
COPY = Bound(0.7, 6)
"""Of correlations of fine structure; the spreads are counted from the usual one of neighbours."""
_MOST_ALIKE = 0.999

_AGAINST: dict[Extent, str] = {
    "alone": "sections before and after",
    "first": "sections after",
    "last": "sections before",
    "lasting": "section before",
}
_LEAST_SIMILARITY = 0.15
"""Two unrelated sections reach half of this somewhere."""
_OPPOSITE = 1.1
"""A section whose negative resembles the one before this many times as much is inverted. On seven stacks of four data
sets it is 0.7 times at most, and 1.4 times or more once one of the two is inverted."""
_CHANCE = 20.0
"""Over the side of a trace, what unrelated sections without any structure correlate by somewhere, at most."""
_EMPTY = 0.1
"""A contrast of less than this share of the usual one is no tissue."""
_FINGERPRINTS_AT_A_TIME = 512


@dataclass
class QualityTally:
    """Collects the measures of sections one after the other, and tells which stand out.

    What it keeps of a section does not depend on the size of the section.

    Examples
    --------
    >>> from segem.kernels.quality import measure_section, trace_section
    >>> tissue = np.random.default_rng(0).integers(0, 255, (4, 64, 64), np.uint8)
    >>> tally = QualityTally()
    >>> for z in (0, 1, 2, 3, 1):
    ...     tally.add(measure_section(tissue[z]), trace_section(tissue[z]), digest=str(z))
    >>> [(flag.section, flag.reason) for flag in tally.find_flags()]
    [(4, 'copy of section 1, voxel by voxel')]
    """

    first: int = 0
    """Number of the first section."""
    compare: Callable[[Trace, Trace], Comparison] = compare_traces
    """Says how two sections lie to each other; where the same ones are compared again and again, one that remembers."""
    sections: list[SectionQuality] = field(default_factory=list)
    """The measures so far."""
    _traces: list[Trace | None] = field(default_factory=list)
    """Of the last two sections."""
    _across: list[float | None] = field(default_factory=list)
    """How much the sections before and after each one are alike; the last one has none yet."""
    _opposite: dict[int, float] = field(default_factory=dict)
    """Sections that are dark where the one before is bright, and how much."""
    _fingerprints: dict[int, NDArray[np.int8]] = field(default_factory=dict)
    _seen: dict[str, int] = field(default_factory=dict)
    _equal: dict[int, int] = field(default_factory=dict)
    """Sections that are equal to an earlier one."""

    def add(self, measured: Measures, trace: Trace | None, *, digest: str) -> None:
        """Take the next section in.

        Parameters
        ----------
        measured : Measures
            By `measure_section`.
        trace : Trace or None
            By `trace_section`, of the same part of all sections.
        digest : str
            Of its voxels: two sections of one digest are equal.
        """
        z = len(self.sections)
        beside = self._compare(self._traces[-1] if self._traces else None, trace)
        if z:
            across = self._compare(self._traces[0] if len(self._traces) == 2 else None, trace)
            self._across.append(across.similarity if across else None)
        self._traces = [*self._traces[-1:], trace]
        known = beside if beside is not None and beside.similarity >= _LEAST_SIMILARITY else None
        chance = 0.0 if trace is None else _CHANCE / sqrt(trace.shape[0] * trace.shape[1])
        if beside is not None and beside.opposite >= max(_LEAST_SIMILARITY, chance, _OPPOSITE * beside.similarity):
            # What is alike by chance says nothing of its place.
            self._opposite[z], known = beside.opposite, None
        self.sections.append(
            SectionQuality(
                section=self.first + z,
                sharpness=measured.sharpness,
                contrast=measured.contrast,
                brightness=measured.brightness,
                noise=measured.noise,
                darkest=measured.darkest,
                brightest=measured.brightest,
                outside=measured.outside,
                shift_y_px=known.shift_y_px if known else None,
                shift_x_px=known.shift_x_px if known else None,
                similarity=beside.similarity if beside else None,
            )
        )
        # Two sections that show nothing are equal, and no copies.
        if trace is not None:
            self._fingerprints[z] = trace.fingerprint
            if (first := self._seen.setdefault(digest, z)) != z:
                self._equal[z] = first

    def _compare(self, before: Trace | None, after: Trace | None) -> Comparison | None:
        return None if before is None or after is None else self.compare(before, after)

    def find_flags(self) -> tuple[SectionFlag, ...]:
        """Return the sections that stand out, in order, each with the reason."""
        if len(self.sections) < FEWEST:
            return ()
        found: dict[FlagKind, dict[int, str]] = {"blank": _find_blank(self.sections), "copy": self._find_copies()}
        found["inverted"] = self._find_inverted()
        # What a graver flag explains is not said again.
        found["order"] = _without(self._find_misplaced(), found["blank"], found["copy"], found["inverted"])
        placeless = {z for kind in found.values() for z in kind}
        found["shift"] = self._find_shifted(placeless)
        for kind, find in _CURVES.items():
            found[kind] = _without(find(self.sections), found["blank"])
        flags = [
            SectionFlag(section=self.first + z, kind=kind, reason=reason)
            for kind, reasons in found.items()
            for z, reason in reasons.items()
        ]
        return tuple(sorted(flags, key=lambda flag: flag.section))

    def _find_copies(self) -> dict[int, str]:
        found = {z: f"copy of section {self.first + other}, voxel by voxel" for z, other in self._equal.items()}
        if len(self._fingerprints) < FEWEST:
            return found
        places, prints = list(self._fingerprints), np.stack(list(self._fingerprints.values()))
        beside = np.array([float(correlate_fingerprints(a[None], b[None])[0, 0]) for a, b in pairwise(prints)])
        # By Fisher's transform, in which correlations scatter as much near 1 as near 0; equal ones would be infinite.
        likeness = np.arctanh(np.clip(beside, -_MOST_ALIKE, _MOST_ALIKE))
        middle = float(np.median(likeness))
        # Thin sections resemble their neighbours down to the pixel.
        least = max(COPY.least, tanh(middle + COPY.spreads * measure_spread(likeness - middle)))
        for start in range(0, len(prints), _FINGERPRINTS_AT_A_TIME):
            block = correlate_fingerprints(prints[start : start + _FINGERPRINTS_AT_A_TIME], prints)
            for row, line in enumerate(block, start):
                at = int(line[:row].argmax()) if row else 0
                if row and line[at] >= least:
                    other = self.first + places[at]
                    reason = f"copy of section {other}: their fine structure correlates by {line[at]:.2f}"
                    found.setdefault(places[row], reason)
        return found

    def _find_inverted(self) -> dict[int, str]:
        """Find where sections begin that are dark where others are bright; the fewer are the inverted ones."""
        bounds = [0, *self._opposite, len(self.sections)]
        runs = list(pairwise(bounds))
        one, other = (sum(stop - start for start, stop in each) for each in (runs[::2], runs[1::2]))
        found = {}
        for start, stop in runs[int(one >= other) :: 2] if self._opposite else ():
            beside, measured = (start - 1, start) if start else (stop, stop)
            last = f" up to section {self.first + stop - 1}" if stop - start > 1 else ""
            found[start] = (
                f"inverted{last}: dark where section {self.first + beside} is bright (they correlate by "
                f"-{self._opposite[measured]:.2f})"
            )
        return found

    def _find_misplaced(self) -> dict[int, str]:
        """Find sections whose neighbours resemble each other more than them."""
        beside = [section.similarity for section in self.sections]
        gains: dict[int, tuple[float, float]] = {}
        for z, (before, after, across) in enumerate(zip(beside, beside[1:], self._across, strict=False)):
            if before is not None and after is not None and across is not None:
                gains[z] = across, max(before, after)
        if not gains:
            return {}
        values = np.array([across - own for across, own in gains.values()])
        usual, spread = float(np.median(values)), measure_spread(values - np.median(values))
        found = {
            z: f"out of place or damaged: sections {self.first + z - 1} and {self.first + z + 1} resemble each other "
            f"({across:.2f}) more than it ({own:.2f} at most)"
            for z, (across, own) in gains.items()
            if across - own > max(ORDER.least, usual + ORDER.spreads * spread)
        }
        return found | self._find_misplaced_ends(beside)

    def _find_misplaced_ends(self, beside: Sequence[float | None]) -> dict[int, str]:
        """Find a first or last section that its only neighbour resembles much less than others do theirs."""
        last = len(self.sections) - 1
        across = [value for value in self._across if value is not None]
        inner = [value for value in beside[2:last] if value is not None]
        if len(inner) < FEWEST or len(across) < FEWEST:
            return {}
        usual = float(np.median(inner))
        least = max(ORDER_AT_THE_ENDS.least, ORDER_AT_THE_ENDS.spreads * measure_spread(np.array(inner) - usual))
        # Less than two sections have in common that have one between them.
        low = min(usual - least, float(np.median(across)))
        ends = ((0, beside[1], 1), (last, beside[last], last - 1))
        return {
            z: f"out of place or damaged: resembles section {self.first + neighbour} by {value:.2f}; others resemble "
            f"their neighbour by {usual:.2f}"
            for z, value, neighbour in ends
            if value is not None and value < low
        }

    def _find_shifted(self, placeless: set[int]) -> dict[int, str]:
        steps = {
            z: np.array([one.shift_y_px, one.shift_x_px])
            for z, one in enumerate(self.sections)
            # Where a section is another one, its place says nothing.
            if one.shift_y_px is not None and one.shift_x_px is not None and not {z, z - 1} & placeless
        }
        if len(steps) < FEWEST - 1:
            return {}
        return {
            z: f"shifted by {hypot(away.y_px, away.x_px):.0f} px against the {_AGAINST[away.extent]} "
            f"({_directions(away.y_px, away.x_px)})"
            for z, away in find_displaced(steps).items()
        }


def _find_blank(sections: Sequence[SectionQuality]) -> dict[int, str]:
    contrasts = [section.contrast for section in sections if section.contrast is not None]
    usual = float(np.median(contrasts)) if contrasts else 0.0
    found = {}
    for z, section in enumerate(sections):
        if section.contrast is None:
            found[z] = f"no tissue: {section.outside:.0%} of it lies outside"
        elif section.contrast < _EMPTY * usual:
            found[z] = f"empty: a contrast of {section.contrast:g} grey levels, where {usual:g} is usual"
    return found


def _find_blurred(sections: Sequence[SectionQuality]) -> dict[int, str]:
    found = find_outliers([_log(one.sharpness) for one in sections], SHARPNESS)
    return {
        z: f"blurred: {exp(value - usual):.0%} of the sharpness of the sections around it"
        for z, (value, usual) in found.items()
        if value < usual
    }


def _find_contrast(sections: Sequence[SectionQuality]) -> dict[int, str]:
    found = find_outliers([_log(one.contrast) for one in sections], CONTRAST)
    spans = find_outliers([_log(_span(one)) for one in sections], CONTRAST)
    return {
        z: _compared("all levels within", exp(value), exp(usual))
        for z, (value, usual) in spans.items()
        # Noise widens the span.
        if value < usual
    } | {z: _compared("contrast of", exp(value), exp(usual)) for z, (value, usual) in found.items()}


def _find_brightness(sections: Sequence[SectionQuality]) -> dict[int, str]:
    contrasts = [one.contrast for one in sections if one.contrast]
    if len(contrasts) < FEWEST:
        return {}
    usual = float(np.median(contrasts))
    bound = Bound(BRIGHTNESS.least * usual, BRIGHTNESS.spreads)
    return _find_offsets(sections, usual) | {
        z: _compared("brightness of", *pair)
        for z, pair in find_outliers([one.brightness for one in sections], bound).items()
    }


def _find_offsets(sections: Sequence[SectionQuality], contrast: float) -> dict[int, str]:
    """Find sections all of whose levels moved, by the darkest and the brightest.

    What a section shows moves its median, but hardly these two; so does contrast, but in opposite directions.
    """
    dark, bright = [one.darkest for one in sections], [one.brightest for one in sections]
    # The end that varies less tells more.
    weights = [max(measure_scatter(curve), _STEADY * contrast) ** -2 for curve in (dark, bright)]
    moved = {
        z: (dark_away, bright_away)
        for (z, (_, dark_away)), (_, bright_away) in zip(
            find_deviations(dark).items(), find_deviations(bright).values(), strict=True
        )
    }
    offsets = {z: float(np.average(away, weights=weights)) for z, away in moved.items()}
    least = max(OFFSET.least * contrast, OFFSET.spreads * measure_spread(np.array(list(offsets.values()))))
    found = {}
    for z, offset in offsets.items():
        if abs(offset) > least and min(value * offset for value in moved[z]) > -(offset**2) / 3:
            # Without the levels themselves: where pixels were cut off, they lie beyond what an image can hold.
            word = "brighter" if offset > 0 else "darker"
            found[z] = f"{word} by about {abs(offset):.3g} grey levels than the sections around it"
    return found


def _find_noise(sections: Sequence[SectionQuality]) -> dict[int, str]:
    found = find_outliers([_log(one.noise) for one in sections], NOISE)
    return {z: _compared("noise of", exp(value), exp(usual)) for z, (value, usual) in found.items() if value > usual}


_CURVES: dict[FlagKind, Callable[[Sequence[SectionQuality]], dict[int, str]]] = {
    "blurred": _find_blurred,
    "contrast": _find_contrast,
    "brightness": _find_brightness,
    "noise": _find_noise,
}


def _without(reasons: dict[int, str], *explained: Container[int]) -> dict[int, str]:
    return {z: reason for z, reason in reasons.items() if not any(z in graver for graver in explained)}


def _compared(what: str, value: float, usual: float) -> str:
    return f"{what} {value:.3g} grey levels, {usual:.3g} in the sections around it"


def _span(one: SectionQuality) -> float | None:
    return None if one.darkest is None or one.brightest is None else one.brightest - one.darkest


def _log(value: float | None) -> float | None:
    return log(value) if value else None


def _directions(y: float, x: float) -> str:
    down, right = "down" if y >= 0 else "up", "right" if x >= 0 else "left"
    return f"{abs(y):.0f} {down}, {abs(x):.0f} {right}"
