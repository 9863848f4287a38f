"""What a score is where its formula has no value: neither 0 nor 1, but a reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NotDefined:
    """The reason, in words, why a score has no value."""

    why: str


NO_TRUE_MEMBRANE = NotDefined("the truth holds no membrane")
NO_MEMBRANE_FOUND = NotDefined("the mask holds no membrane")
NO_TRUE_CELL = NotDefined("the truth holds no cell")
ONE_CLASS = NotDefined("the truth holds one class only")
NOTHING_KNOWN = NotDefined("nothing is known of the truth")
