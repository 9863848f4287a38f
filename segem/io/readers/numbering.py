"""Which number each section of a series has, found in the names of all its files at once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from string import ascii_lowercase

from segem.errors import InputError

# A date, year first, and a time after it: when a section was made, and not which one it is.
_DATE = r"(?:19|20)\d\d(?P<d>[-_.]?)(?:0[1-9]|1[0-2])(?P=d)(?:0[1-9]|[12]\d|3[01])"
_TIME = r"(?:[01]\d|2[0-3])(?P<t>[-_.:]?)[0-5]\d(?P=t)[0-5]\d(?:[.,]\d{1,6})?"
_STAMP = rf"(?P<stamp>{_DATE}(?:[-_T .]*{_TIME})?)(?!\d)"
_WHOLE, _DECIMAL = r"\d+", r"\d+(?:\.\d+)?"
_TIME_ALONE = re.compile(r"(?:[01]\d|2[0-3])[0-5]\d[0-5]\d", re.ASCII)

Number = int | Fraction

_ACROSS, _DOWN = frozenset(("x", "c", "col", "column")), frozenset(("y", "r", "row"))
"""What the position of a tile is called."""
_MOST_NAMED = 5
_BY_NAME = "no number runs in the names of the files: the sections are in the order of the names"
_BY_DATE = "the sections are in the order of the dates in their names, which do not show whether some are missing"
_EVENLY = 0.5
"""A number that runs may be that of the section where this share of the steps between sections is alike."""
_COUNTED = 1 / 3
"""Where this share of the steps is alike, and the others are multiples of it, sections are missing there."""


@dataclass(frozen=True)
class Gap:
    """Numbers that no file has, between two that files have.

    Parameters
    ----------
    position : int
        How many sections come before.
    first, step : int or Fraction
        The first of the numbers, and the distance from each to the next.
    count : int
        How many there are.
    """

    position: int
    first: Number
    step: Number
    count: int

    @property
    def numbers(self) -> list[Number]:
        """All of them."""
        return [self.first + self.step * n for n in range(self.count)]


@dataclass(frozen=True)
class Numbering:
    """The sections of a series in order.

    Parameters
    ----------
    order : tuple of int
        Positions of the names in what was given, first section first.
    numbers : tuple of int or Fraction, or None
        The number of each section in that order; None where names have none.
    gaps : tuple of Gap
        Where numbers are missing.
    warnings : tuple of str
        What the user should know about the order.
    """

    order: tuple[int, ...]
    numbers: tuple[Number, ...] | None
    gaps: tuple[Gap, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Column:
    """The digits that stand at one place of every name."""

    letters: str
    """What stands right before the digits."""
    digits: tuple[str, ...]
    values: tuple[Number, ...]
    stamp: bool

    @property
    def runs(self) -> bool:
        return len(set(self.values)) > 1

    @property
    def unique(self) -> bool:
        return len(set(self.values)) == len(self.values)

    @cached_property
    def order(self) -> tuple[int, ...]:
        return tuple(sorted(range(len(self.values)), key=self.values.__getitem__))

    @cached_property
    def steps(self) -> Counter[Number]:
        """How often each distance between two neighbours is found."""
        return Counter(self.values[after] - self.values[before] for before, after in pairwise(self.order))

    @property
    def evenness(self) -> float:
        """Share of the most frequent step among all."""
        return max(self.steps.values()) / self.steps.total()

    @property
    def may_be_time(self) -> bool:
        few_or_uneven = len(self.values) == 2 or self.evenness < 1
        return few_or_uneven and all(_TIME_ALONE.fullmatch(one) for one in self.digits)


class _NoNumberError(Exception):
    """Why no digits of the names can be the number of the section."""

    def __init__(self, what: str, found: str, fix: str) -> None:
        super().__init__(what)
        self.what, self.found, self.fix = what, found, fix


def number_sections(names: Sequence[str], *, where: object) -> Numbering:
    """Find the number of every section in the names of its files.

    The number is what runs: digits at one place of all names that are different in each, and evenly spaced but for
    gaps. Digits that stay the same, dates and times are not. A minus counts where some numbers have one and others
    not; elsewhere it is a hyphen.

    Parameters
    ----------
    names : sequence of str
        Names of files, in any order.
    where : object
        The folder, for messages.

    Returns
    -------
    Numbering

    Raises
    ------
    InputError
        When the names leave in doubt which number is meant, or two files have the same.

    Examples
    --------
    >>> found = number_sections(["s10_c0.png", "s8_c0.png", "s7_c0.png"], where="folder")
    >>> found.order, [int(n) for n in found.numbers], [int(n) for n in found.gaps[0].numbers]
    ((2, 1, 0), [7, 8, 10], [9])
    """
    stems = [Path(name).stem for name in names]
    digits = [tuple(re.findall(r"[0-9]+", stem)) for stem in stems]
    if len(names) == 1:
        # Of several numbers in a single name, any may be that of the section.
        return Numbering((0,), (int(digits[0][0]),) if len(digits[0]) == 1 else None)
    if len(set(digits)) == 1 and not any(column.runs for column in _split(stems, _WHOLE) or ()):
        by_name = sorted(range(len(names)), key=lambda at: natural_key(names[at]))
        return Numbering(tuple(by_name), None, warnings=(_BY_NAME,))
    try:
        chosen = _find_number(names, stems)
    except _NoNumberError as error:
        raise InputError(
            f"the names do not say which section is which: {error.what}", where=where, found=error.found, fix=error.fix
        ) from None
    if not isinstance(chosen, _Column):
        return Numbering(chosen, None, warnings=(_BY_DATE,))
    numbers, gaps = tuple(sorted(chosen.values)), _find_gaps(chosen)
    if gaps is None:
        between = f"{_say(numbers[0])} to {_say(numbers[-1])}"
        uneven = f"the sections are numbered unevenly, {between}: whether some are missing cannot be known"
        return Numbering(chosen.order, numbers, warnings=(uneven,))
    return Numbering(chosen.order, numbers, gaps)


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Return a sort key that compares numbers in names as numbers.

    Examples
    --------
    >>> sorted(["z10.png", "z2.png", "z02b.png"], key=natural_key)
    ['z2.png', 'z02b.png', 'z10.png']
    """
    parts = re.split(r"([0-9]+)", name.casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name


def say_numbers(numbers: Sequence[Number | float]) -> str:
    """Return numbers in words, the first few of them.

    Examples
    --------
    >>> say_numbers([1, 2, Fraction(5, 2)])
    '1, 2 and 2.5'
    >>> say_numbers(range(9))
    '0, 1, 2, 3, 4 and 4 more'
    """
    said = [_say(number) for number in numbers[:_MOST_NAMED]]
    rest = len(numbers) - len(said)
    said += [f"{rest} more"] if rest else []
    return " and ".join([", ".join(said[:-1]), said[-1]] if len(said) > 1 else said)


def say_gaps(gaps: Sequence[Gap]) -> str:
    """Return the numbers that are missing, in words.

    Examples
    --------
    >>> say_gaps([Gap(2, Fraction(3), Fraction(1), 1), Gap(5, Fraction(7), Fraction(1), 4)])
    '3, 7 to 10'
    """
    said = [
        _say(gap.first) + (f" to {_say(gap.first + gap.step * (gap.count - 1))}" if gap.count > 1 else "")
        for gap in gaps[:_MOST_NAMED]
    ]
    return ", ".join(said) + (f" and {len(gaps) - len(said)} more" if len(gaps) > len(said) else "")


def _say(number: Number | float) -> str:
    exact = Fraction(number)
    return str(exact.numerator) if exact.denominator == 1 else f"{float(exact):.12g}"


def _find_number(names: Sequence[str], stems: Sequence[str]) -> _Column | tuple[int, ...]:
    """Return the column that holds the number or, where only dates run, the order of these."""
    dated = _split(stems, f"{_STAMP}|{_WHOLE}")
    readings = [_split(stems, _WHOLE) if dated is None else dated]
    # A dot between digits may be a decimal point or separate two numbers: both are tried.
    if any(re.search(r"[0-9]\.[0-9]", stem) for stem in stems):
        readings.append(_split(stems, f"{_STAMP}|{_DECIMAL}"))
    found, refusals = [], []
    for columns in readings:
        try:
            if columns is not None:
                found.append(_choose(columns, names))
        except _NoNumberError as error:
            refusals.append(error)
    if not found and dated is not None and {column.stamp for column in dated if column.runs} == {True}:
        return _order_by_date(dated, names, stems)
    if not found:
        raise refusals[0] if refusals else _different_patterns(names, stems)
    perfect = [column for column in found if column.evenness == 1]
    if len({column.order for column in found}) > 1 and len(perfect) != 1:
        first, second = (names[at] for at in found[0].order[:2])
        raise _NoNumberError(
            "a dot may be a decimal point or separate two numbers",
            f"{first} and {second}",
            "rename the files by whole numbers",
        )
    return max(found, key=lambda column: column.evenness)


def _split(stems: Sequence[str], tokens: str) -> list[_Column] | None:
    """Return the columns of digits; None where the names are not of one pattern."""
    pattern = re.compile(rf"(?<!\d)(?:{tokens})", re.ASCII)
    matches = [list(pattern.finditer(stem)) for stem in stems]
    texts = [_between(stem, found) for stem, found in zip(stems, matches, strict=True)]
    if len({len(found) for found in matches}) > 1 or len({text[-1] for text in texts}) > 1:
        return None
    columns = []
    for place in range(len(matches[0])):
        found = [one[place] for one in matches]
        before = [text[place] for text in texts]
        common = _common_start(before)
        signs = [text.removeprefix(common) for text in before]
        stamps = {one.groupdict().get("stamp") is not None for one in found}
        if set(signs) - {"", "-", "+"} or len(stamps) > 1:
            return None
        digits = tuple(one.group() for one in found)
        stamp = stamps.pop()
        values = (_read_stamp(text) if stamp else _read(text, sign) for text, sign in zip(digits, signs, strict=True))
        letters = common[len(common.rstrip(ascii_lowercase)) :]
        columns.append(_Column(letters, digits, tuple(values), stamp))
    return columns


def _between(stem: str, found: list[re.Match[str]]) -> list[str]:
    """Return what stands before each match, and behind the last."""
    starts = [0, *(match.end() for match in found)]
    ends = [*(match.start() for match in found), len(stem)]
    return [stem[start:end].casefold() for start, end in zip(starts, ends, strict=True)]


def _common_start(texts: Sequence[str]) -> str:
    first, last = min(texts), max(texts)
    same = next((at for at, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
    return first[:same]


def _read(text: str, sign: str) -> Number:
    number = Fraction(text) if "." in text else int(text)
    return -number if sign == "-" else number


def _read_stamp(text: str) -> int:
    # Filled up behind, so that fractions of seconds of any length compare.
    return int(re.sub(r"[^0-9]", "", text).ljust(20, "0"))


def _choose(columns: list[_Column], names: Sequence[str]) -> _Column:
    unique = [column for column in columns if column.unique and not column.stamp]
    # Tiles may have a number of their own, but they are no sections.
    repeated = {column.letters for column in columns if column.runs and not column.unique}
    if not unique or (repeated & _ACROSS and repeated & _DOWN):
        raise _no_column(columns, names)
    candidates = [column for column in unique if not column.may_be_time] or unique
    best = max(candidates, key=lambda column: column.evenness)
    others = [column for column in candidates if column.order != best.order]
    rivals = [column for column in others if column.evenness >= _EVENLY or _find_gaps(column) is not None]
    if rivals:
        first, last = best.order[0], best.order[-1]
        raise _NoNumberError(
            "several numbers run in them, each in another order",
            f"{best.digits[first]} and {rivals[0].digits[first]} in {names[first]}, "
            f"{best.digits[last]} and {rivals[0].digits[last]} in {names[last]}",
            "rename the files by the number of the section",
        )
    return best


def _no_column(columns: list[_Column], names: Sequence[str]) -> _NoNumberError:
    """Return why no column has another number for each file."""
    plain = [column for column in columns if not column.stamp]
    first: dict[tuple[Number, ...], str] = {}
    for name, numbers in zip(names, zip(*(column.values for column in plain), strict=True), strict=False):
        if numbers in first:
            return _NoNumberError(
                "two have the same number", f"{first[numbers]} and {name}", "move one of the two elsewhere"
            )
        first[numbers] = name
    counts = " and ".join(f"{len(set(c.values))} numbers where {names[0]} has {c.digits[0]}" for c in plain if c.runs)
    return _NoNumberError(
        "several numbers run in them, as those of tiles or channels do",
        counts,
        "leave one tile, channel or volume in the folder, with one number for each section",
    )


def _order_by_date(columns: list[_Column], names: Sequence[str], stems: Sequence[str]) -> _Column | tuple[int, ...]:
    """Return the order of dates and times."""
    # Six digits behind a date may also be a count that has not reached sixty.
    running = [column for column in _split(stems, _WHOLE) or () if column.runs]
    if len(names) > 2 and len(running) == 1 and running[0].unique and running[0].evenness == 1:
        return running[0]
    moments = list(zip(*(column.values for column in columns if column.stamp), strict=True))
    order = tuple(sorted(range(len(moments)), key=moments.__getitem__))
    for one, other in pairwise(order):
        if moments[one] == moments[other]:
            raise _NoNumberError(
                "two have the same date", f"{names[one]} and {names[other]}", "move one of the two elsewhere"
            )
    return order


def _different_patterns(names: Sequence[str], stems: Sequence[str]) -> _NoNumberError:
    folded = [stem.casefold() for stem in stems]
    start = len(_common_start(folded))
    backwards = [stem[start:][::-1] for stem in folded]
    end = len(_common_start(backwards))
    differing = [stem[end:] for stem in backwards]
    if len({len(part) for part in differing}) == 1 and all(re.fullmatch(r"[0-9a-f]+", part) for part in differing):
        return _NoNumberError(
            "their numbers seem to be hexadecimal",
            " and ".join(sorted(names)[-2:]),
            "rename the files by decimal numbers",
        )
    patterns = Counter(re.sub(r"[0-9]+", "#", name) for name in names).most_common(_MOST_NAMED)
    rest = len(names) - sum(count for _, count in patterns)
    seen = [f"{count} like {pattern}" for pattern, count in patterns] + ([f"{rest} of other patterns"] if rest else [])
    return _NoNumberError(
        "they are of different patterns",
        " and ".join(seen),
        "leave one series in the folder, and move the other files elsewhere",
    )


def _find_gaps(column: _Column) -> tuple[Gap, ...] | None:
    """Return the gaps of an evenly numbered series; None where it is not."""
    most = max(column.steps.values())
    usual = min(step for step, count in column.steps.items() if count == most)
    if column.evenness < _COUNTED or any(step % usual for step in column.steps):
        return None
    values = sorted(column.values)
    return tuple(
        Gap(at, before + usual, usual, int((after - before) // usual) - 1)
        for at, (before, after) in enumerate(pairwise(values), 1)
        if after - before != usual
    )
