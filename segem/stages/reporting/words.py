"""How numbers are written for readers, and what stands where there is none."""

from __future__ import annotations

NOT_DEFINED = "not defined"
NOTHING = "\N{EN DASH}"
TIMES = " \N{MULTIPLICATION SIGN} "


def say_score(value: float | None) -> str:
    """Return a score in three digits.

    Examples
    --------
    >>> say_score(0.12345), say_score(12), say_score(None)
    ('0.123', '12', 'not defined')
    """
    if value is None:
        return NOT_DEFINED
    # Counts, such as that of mergers, are whole.
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def say_ratio(value: float | None) -> str:
    """Return a ratio in two digits; a dash where everything was computed in one piece."""
    return NOTHING if value is None else f"{value:.2f}"


def say_range(low: float, high: float) -> str:
    """Return a range of scores.

    Examples
    --------
    >>> say_range(0.62, 0.7)
    '0.620 to 0.700'
    """
    return f"{low:.3f} to {high:.3f}"


def say_share(value: float) -> str:
    """Return a share in per cent.

    Examples
    --------
    >>> say_share(0.1234), say_share(0.0004)
    ('12.3 %', '0.0 %')
    """
    return f"{value * 100:.1f} %"


def begin_sentence(text: str) -> str:
    """Return a text with a capital letter, and all others as they were.

    Examples
    --------
    >>> begin_sentence("seams show in V_rand")
    'Seams show in V_rand'
    """
    return text[:1].upper() + text[1:]


def count(number: int, what: str, several: str = "") -> str:
    """Return a number with its noun, whose plural is given where it does not end in s.

    Examples
    --------
    >>> count(1, "volume"), count(2, "volume"), count(2, "person", "people")
    ('1 volume', '2 volumes', '2 people')
    """
    return f"{number} {what if number == 1 else several or f'{what}s'}"
