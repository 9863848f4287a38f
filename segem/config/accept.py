"""Rules by which a run is accepted, such as ``iou >= .65``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from pydantic import ValidationError, model_serializer, model_validator

from segem.config.base import Config
from segem.errors import ConfigError


@dataclass(frozen=True)
class Criterion:
    """One score that a rule may name.

    Parameters
    ----------
    title : str
        What people call it.
    path : str
        Where it stands in the scores of a volume (`segem.records.scores.VolumeScores`).
    better : {"high", "low"}
        Which values are good.
    most : float
        Largest value it can have; the smallest is 0.
    """

    title: str
    path: str
    better: Literal["high", "low"] = "high"
    most: float = 1.0


CRITERIA: dict[str, Criterion] = {
    "iou": Criterion("IoU", "scores.model.iou"),
    "dice": Criterion("Dice", "scores.model.dice"),
    "precision": Criterion("precision", "scores.model.precision"),
    "recall": Criterion("recall", "scores.model.recall"),
    "v_rand": Criterion("V_rand", "scores.model.rand.value"),
    "v_info": Criterion("V_info", "scores.model.information.value"),
    "ece": Criterion("calibration error", "ece", "low"),
    "expected_iou": Criterion("expected IoU", "expected.iou.value"),
    "seam_ratio": Criterion("seam ratio", "seam_ratio", "low", math.inf),
    "sections_flagged": Criterion("number of flagged sections", "sections_flagged", "low", math.inf),
    "outside_fraction": Criterion("share outside the tissue", "outside_fraction", "low"),
}
"""Every score that a rule may name: the one place where a name is bound to what it reads."""

_WORDS = {">=": "at least", ">": "above", "<=": "at most", "<": "below"}
_RULE = re.compile(r"\s*(?P<score>[A-Za-z_0-9]+)\s*(?P<comparison>>=|<=|>|<)\s*(?P<bound>[0-9]*\.?[0-9]+)\s*")


class Rule(Config):
    """A score, a comparison and a bound, written as ``iou >= .65``.

    Examples
    --------
    >>> rule = Rule.model_validate("iou >= .65")
    >>> rule.score, rule.bound, rule.holds(0.7)
    ('iou', 0.65, True)
    """

    score: str
    """What is measured, by its name in `CRITERIA`."""
    comparison: Literal[">=", ">", "<=", "<"]
    bound: float
    """What it is compared with."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if isinstance(value, Rule):
            return value
        if not isinstance(value, str):
            raise ValueError("a rule is text such as iou >= .65")  # noqa: TRY004 - pydantic catches these
        found = _RULE.fullmatch(value)
        if found is None:
            raise ValueError("a rule is a score, one of >= > <= <, and a number, such as iou >= .65")
        # Tables say IoU and V_rand.
        return {**found.groupdict(), "score": found["score"].lower()}

    @model_validator(mode="after")
    def _sensible(self) -> Rule:
        criterion = CRITERIA.get(self.score)
        if criterion is None:
            raise ValueError(f"no score is called {self.score}; scores are {', '.join(CRITERIA)}")
        # A comparison the wrong way round would accept exactly the volumes that it is meant to keep out.
        demanded = ">" if criterion.better == "high" else "<"
        if self.comparison[0] != demanded:
            raise ValueError(f"{self.score} is good where it is {criterion.better}; ask for {self.score} {demanded}=")
        if self.bound > criterion.most:
            raise ValueError(f"{self.score} is never above {criterion.most:g}")
        return self

    @model_serializer
    def _to_text(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return f"{self.score} {self.comparison} {self._bound_in_digits}"

    @property
    def _bound_in_digits(self) -> str:
        # All of them, and no exponent: the record of a run keeps this text, and rules are read from it again.
        return f"{Decimal(repr(self.bound)).normalize():f}"

    @property
    def criterion(self) -> Criterion:
        """What is known of its score."""
        return CRITERIA[self.score]

    def holds(self, value: float) -> bool:
        """Return whether a measured value satisfies the rule."""
        compared = {
            ">=": value >= self.bound,
            ">": value > self.bound,
            "<=": value <= self.bound,
            "<": value < self.bound,
        }
        return compared[self.comparison]

    def describe(self, value: float) -> str:
        """Return in words how a measured value stands to the bound, with as many digits as it takes to see it.

        Examples
        --------
        >>> Rule.model_validate("iou >= .65").describe(0.64996)
        'IoU 0.64996 is not at least 0.65'
        """
        holds, digits = self.holds(value), 3
        while self.holds(round(value, digits)) != holds and digits < 15:
            digits += 1
        shown = f"{round(value, digits):g}" if digits == 3 else f"{value:.{digits}f}"
        words = f"{'' if holds else 'not '}{_WORDS[self.comparison]} {self._bound_in_digits}"
        return f"{self.criterion.title} {shown} is {words}"


def parse_rules(texts: Iterable[str], *, where: object = None) -> tuple[Rule, ...]:
    """Read rules as they are written on the command line or kept in the record of a run.

    Parameters
    ----------
    texts : iterable of str
        One rule each.
    where : object, optional
        Where they were written, for the message.

    Returns
    -------
    tuple of Rule

    Raises
    ------
    ConfigError
        When one is no rule, names no known score, or asks for the wrong side of it.

    Examples
    --------
    >>> [str(rule) for rule in parse_rules(["v_rand>=.95", "seam_ratio <= 1.1"])]
    ['v_rand >= 0.95', 'seam_ratio <= 1.1']
    """
    return tuple(_parse_rule(text, where) for text in texts)


def _parse_rule(text: str, where: object) -> Rule:
    try:
        return Rule.model_validate(text)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(reason, where=where, found=repr(text), fix="correct the rule") from None
