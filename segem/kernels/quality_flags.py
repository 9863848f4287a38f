"""Which sections of a volume stand out from those around them, and by how much."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import exp, hypot, log

import numpy as np
from numpy.typing import NDArray

from segem.kernels.quality import (
    Comparison,
    Measures,
    Trace,
    compare_traces,
    correlate_fingerprints,
)
from segem.records.quality import FlagKind, SectionFlag, SectionQuality

AROUND = 5
"""Sections before, and as many after, that say what is usual."""
FEWEST = 3
"""In a volume of fewer sections, none can stand out."""


@dataclass(frozen=True)
class Bound:
    """What it takes to stand out: a difference of a least amount, and of so many robust standard deviations."""

    least: float
    spreads: float


# Chosen on seven stacks of four data sets by benchmarks/quality.py, so that at most 3 % of their sections stand out as
# they are. What one stack does from section to section is a defect in another, so each bound has both parts.
SHARPNESS, CONTRAST, NOISE = Bound(log(1 / 0.86), 3), Bound(log(1 / 0.82), 2), Bound(log(1.16), 3)
"""Of the logarithms of these measures."""
BRIGHTNESS = Bound(0.1, 3)
"""The least is a share of the usual contrast."""
SHIFT_PX = Bound(7, 2.5)
ORDER, ORDER_AT_THE_ENDS = Bound(0.02, 3), Bound(0.06, 3)
"""Of similarities."""
COPY = Bound(0.7, 6)
"""Of correlations of fine structure; the spreads are counted from the usual one of neighbours."""

_LEAST_SIMILARITY = 0.15
"""Two unrelated sections reach half of this somewhere."""
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
    sections: list[SectionQuality] = field(default_factory=list)
    """The measures so far."""
    _traces: list[Trace | None] = field(default_factory=list)
    """Of the last two sections."""
    _across: list[float | None] = field(default_factory=list)
    """How much the sections before and after each one are alike; the last one has none yet."""
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
        beside = _compare(self._traces[-1] if self._traces else None, trace)
        if z:
            across = _compare(self._traces[0] if len(self._traces) == 2 else None, trace)
            self._across.append(across.similarity if across else None)
        self._traces = [*self._traces[-1:], trace]
        known = beside if beside is not None and beside.similarity >= _LEAST_SIMILARITY else None
        self.sections.append(
            SectionQuality(
                section=self.first + z,
                sharpness=measured.sharpness,
                contrast=measured.contrast,
                brightness=measured.brightness,
                noise=measured.noise,
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

    def find_flags(self) -> tuple[SectionFlag, ...]:
        """Return the sections that stand out, in order, each with the reason."""
        if len(self.sections) < FEWEST:
            return ()
        found: dict[FlagKind, dict[int, str]] = {"blank": _find_blank(self.sections), "copy": self._find_copies()}
        # What a graver flag explains is not said again.
        found["order"] = _without(self._find_misplaced(), found["blank"], found["copy"])
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
        # Thin sections resemble their neighbours down to the pixel.
        least = max(COPY.least, float(np.median(beside)) + COPY.spreads * _spread(beside - np.median(beside)))
        for start in range(0, len(prints), _FINGERPRINTS_AT_A_TIME):
            block = correlate_fingerprints(prints[start : start + _FINGERPRINTS_AT_A_TIME], prints)
            for row, line in enumerate(block, start):
                at = int(line[:row].argmax()) if row else 0
                if row and line[at] >= least:
                    other = self.first + places[at]
                    reason = f"copy of section {other}: their fine structure correlates by {line[at]:.2f}"
                    found.setdefault(places[row], reason)
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
        usual, spread = float(np.median(values)), _spread(values - np.median(values))
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
        least = max(ORDER_AT_THE_ENDS.least, ORDER_AT_THE_ENDS.spreads * _spread(np.array(inner) - usual))
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
        usual = np.median(list(steps.values()), axis=0)
        found = find_displaced({z: step - usual for z, step in steps.items()})
        return {
            z: f"shifted by {hypot(*away):.0f} px against the section{'s' if alone else ''} before"
            f"{' and after' if alone else ''} ({_directions(*away)})"
            for z, (away, alone) in found.items()
        }


def find_displaced(steps: Mapping[int, NDArray[np.float64]]) -> dict[int, tuple[tuple[float, float], bool]]:
    """Find sections that lie elsewhere than those around them, or than those before.

    A section that lies elsewhere alone leaves two steps, there and back. So the displacement that explains most of the
    steps is taken out of them, and the next one is looked for in what is left.

    Parameters
    ----------
    steps : mapping
        How far a section lies down and to the right of the one before, in pixels, by its index.

    Returns
    -------
    dict
        By index, the displacement, and whether that of the section alone and not of those after it too.

    Examples
    --------
    >>> still, there = np.zeros(2), np.array([12.0, 0.0])
    >>> find_displaced(dict(enumerate([still, still, there, -there, still, still, still])))
    {2: ((12.0, 0.0), True)}
    >>> find_displaced(dict(enumerate([still, still, there, still, still, still, still])))
    {2: ((12.0, 0.0), False)}
    """
    left = dict(steps)
    lone = [hypot(*(step - left[z + 1])) / 2 for z, step in left.items() if z + 1 in left]
    # The median length of a vector is 1.18 times the standard deviation of its parts.
    least = max(SHIFT_PX.least, SHIFT_PX.spreads * float(np.median(lone)) / 1.18 if lone else 0.0)
    found: dict[int, tuple[tuple[float, float], bool]] = {}
    while len(found) < len(steps):
        # By how much the sum of squares falls when it is taken out.
        gains = {(z, False): float(step @ step) for z, step in left.items()}
        gains |= {(z, True): float(np.sum((step - left[z + 1]) ** 2)) / 2 for z, step in left.items() if z + 1 in left}
        (z, alone), gain = max(gains.items(), key=lambda one: one[1])
        if gain < 2 * least**2:
            break
        away = (left[z] - left[z + 1]) / 2 if alone else left[z]
        left[z] = left[z] - away
        if alone:
            left[z + 1] = left[z + 1] + away
        found.setdefault(z, ((float(away[0]), float(away[1])), alone))
    return found


def find_outliers(curve: Sequence[float | None], bound: Bound) -> dict[int, tuple[float, float]]:
    """Find the values of a curve that differ from those before and from those after.

    A value must lie beyond both medians, that of the values before it and that of the values after it, on the same
    side, so that neither a step nor a slope has an outlier.

    Parameters
    ----------
    curve : sequence of float or None
        A value for each section; None where there is none.
    bound : Bound
        By how much an outlier differs; the spread is that of the curve around its running median.

    Returns
    -------
    dict
        By index, the value and the nearer of the two medians.

    Examples
    --------
    >>> find_outliers([1, 1, 1, 1, 5, 1, 1, 1], Bound(1, 3))
    {4: (5.0, 1.0)}
    >>> find_outliers([1, 1, 1, 1, 5, 5, 5, 5], Bound(1, 3))
    {}
    """
    known = [(at, float(value)) for at, value in enumerate(curve) if value is not None]
    if len(known) < FEWEST:
        return {}
    values = np.array([value for _, value in known])
    around = [_split(values, at) for at in range(len(values))]
    residuals = [value - float(np.median(np.concatenate(sides))) for value, sides in zip(values, around, strict=True)]
    least = max(bound.least, bound.spreads * _spread(np.array(residuals)))
    found = {}
    for (at, value), sides in zip(known, around, strict=True):
        medians = [float(np.median(side)) for side in sides if side.size]
        usual = min(medians, key=lambda median: abs(value - median))
        if all(value - median > least for median in medians) or all(median - value > least for median in medians):
            found[at] = (value, usual)
    return found


def _split(values: NDArray[np.float64], at: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    before, after = values[max(0, at - AROUND) : at], values[at + 1 : at + 1 + AROUND]
    if before.size < 2 and after.size < 2:
        return before, after
    # A single value is no median: near an end, the other side alone says what is usual.
    return (before if before.size > 1 else before[:0]), (after if after.size > 1 else after[:0])


def _spread(residuals: NDArray[np.float64]) -> float:
    """Return the standard deviation, by the median, which outliers do not change."""
    return 1.4826 * float(np.median(np.abs(residuals)))


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
    return {z: _compared("contrast", exp(value), exp(usual)) for z, (value, usual) in found.items()}


def _find_brightness(sections: Sequence[SectionQuality]) -> dict[int, str]:
    contrasts = [one.contrast for one in sections if one.contrast]
    least = BRIGHTNESS.least * float(np.median(contrasts)) if contrasts else 1.0
    found = find_outliers([one.brightness for one in sections], Bound(least, BRIGHTNESS.spreads))
    return {z: _compared("brightness", value, usual) for z, (value, usual) in found.items()}


def _find_noise(sections: Sequence[SectionQuality]) -> dict[int, str]:
    found = find_outliers([_log(one.noise) for one in sections], NOISE)
    return {z: _compared("noise", exp(value), exp(usual)) for z, (value, usual) in found.items() if value > usual}


_CURVES: dict[FlagKind, Callable[[Sequence[SectionQuality]], dict[int, str]]] = {
    "blurred": _find_blurred,
    "contrast": _find_contrast,
    "brightness": _find_brightness,
    "noise": _find_noise,
}


def _without(reasons: dict[int, str], *explained: Container[int]) -> dict[int, str]:
    return {z: reason for z, reason in reasons.items() if not any(z in graver for graver in explained)}


def _compared(what: str, value: float, usual: float) -> str:
    return f"{what} of {value:.3g} grey levels, {usual:.3g} in the sections around it"


def _log(value: float | None) -> float | None:
    return log(value) if value else None


def _compare(before: Trace | None, after: Trace | None) -> Comparison | None:
    return None if before is None or after is None else compare_traces(before, after)


def _directions(y: float, x: float) -> str:
    down, right = "down" if y >= 0 else "up", "right" if x >= 0 else "left"
    return f"{abs(y):.0f} {down}, {abs(x):.0f} {right}"
