"""What a run is worth: the state of each of its volumes, and the rules that decided it."""

from __future__ import annotations

from typing import Literal

from segem.records.base import Record

State = Literal["accepted", "review", "rejected"]
"""``review``: to be reviewed by a person."""

STATE_WORDS: dict[State, str] = {"accepted": "accepted", "review": "to be reviewed", "rejected": "rejected"}
"""What people read for each state."""


class RuleOutcome(Record):
    """How one rule came out for one volume."""

    rule: str
    """As in the manifest."""
    met: bool
    """Never true for a rule that could not be measured."""
    value: float | None
    """What was measured; null where that was not possible."""
    sentence: str
    """The same in words."""
    why: str | None = None
    """Why it could not be measured."""


class Verdict(Record):
    """What is decided about one volume."""

    state: State
    rules: tuple[RuleOutcome, ...] = ()
    """Every rule of the run, met or not."""
    sentence: str
    """State and reasons in words."""


class RunVerdict(Record):
    """What is decided about a run: accepted where each of its volumes is, rejected where one of them is."""

    state: State
    sentence: str
    """State and reasons in words."""
