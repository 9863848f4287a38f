"""Decides whether the volumes of a run are accepted, by the rules of its manifest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from segem.config.accept import Criterion, Rule
from segem.records.scores import VolumeScores
from segem.records.verdict import STATE_WORDS, RuleOutcome, RunVerdict, State, Verdict

NO_RULES = "no rule says what is good enough (accept: in the manifest, or --accept)"


def judge_volume(volume: VolumeScores, rules: Sequence[Rule]) -> Verdict:
    """Decide about one volume.

    It is rejected where it failed, where its seams show, or where a rule that was measured is not met; to be reviewed
    where there are no rules, or one of them could not be measured; and accepted where every rule is met.

    Parameters
    ----------
    volume : VolumeScores
        All that was measured of it.
    rules : sequence of Rule
        What is good enough.

    Returns
    -------
    Verdict

    Examples
    --------
    >>> scored = VolumeScores(name="fly", state="complete", ece=0.01)
    >>> judge_volume(scored, [Rule.model_validate("ece <= .02")]).sentence
    'fly: accepted. Calibration error 0.01 is at most 0.02.'
    """
    outcomes = tuple(_apply(rule, volume) for rule in rules)
    grave = [outcome.sentence for outcome in outcomes if not outcome.met and outcome.why is None]
    open_ = [outcome.sentence for outcome in outcomes if outcome.why is not None]
    if volume.state == "failed":
        grave.insert(0, f"it failed: {volume.reason or 'unknown'}")
    if volume.seams is not None and volume.seams.shows:
        grave.insert(0, volume.seams.describe())
    if not rules:
        open_.append(NO_RULES)
    state: State = "rejected" if grave else "review" if open_ else "accepted"
    # The reasons of a state are those that speak for it; of an accepted volume, all of them.
    reasons = grave or open_ or [outcome.sentence for outcome in outcomes]
    sentence = " ".join([f"{volume.name}: {STATE_WORDS[state]}.", *map(_close, reasons)])
    return Verdict(state=state, rules=outcomes, sentence=sentence)


def judge_run(volumes: Sequence[VolumeScores]) -> RunVerdict:
    """Decide about a run whose volumes were decided about: it is what its worst volume is.

    Examples
    --------
    >>> judge_run([]).sentence
    'To be reviewed: the run has no volumes.'
    """
    states = [volume.verdict.state for volume in volumes if volume.verdict is not None]
    if not states:
        return RunVerdict(state="review", sentence="To be reviewed: the run has no volumes.")
    order: tuple[State, ...] = ("rejected", "review", "accepted")
    worst = min(states, key=order.index)
    counts = ", ".join(f"{states.count(state)} {STATE_WORDS[state]}" for state in reversed(order) if state in states)
    words = STATE_WORDS[worst]
    of = "1 volume" if len(states) == 1 else f"{len(states)} volumes"
    return RunVerdict(state=worst, sentence=f"{words[0].upper()}{words[1:]}: of {of}, {counts}.")


def _apply(rule: Rule, volume: VolumeScores) -> RuleOutcome:
    value = read_criterion(volume, rule.criterion)
    if value is not None:
        sentence = rule.describe(value)
        return RuleOutcome(rule=str(rule), met=rule.holds(value), value=value, sentence=sentence)
    seams = volume.seams
    if rule.score == "seam_ratio" and seams is not None and not (seams.within_sections or seams.shows):
        # Measured, in a way: what is not there cannot show.
        return RuleOutcome(rule=str(rule), met=True, value=None, sentence=seams.describe())
    why = _explain(rule.criterion, volume)
    return RuleOutcome(
        rule=str(rule), met=False, value=None, why=why, sentence=f"{rule.criterion.title} cannot be judged: {why}"
    )


def read_criterion(volume: VolumeScores, criterion: Criterion) -> float | None:
    """Return a score of a volume that a rule names; None where it was not measured."""
    here: Any = volume
    for name in criterion.path.split("."):
        here = getattr(here, name, None)
    return None if here is None else float(here)


def _explain(criterion: Criterion, volume: VolumeScores) -> str:
    """Return why a score was not measured."""
    what = criterion.path.partition(".")[0]
    if volume.state == "failed":
        return "the volume failed"
    if what == "expected":
        return getattr(getattr(volume, what, None), "abstains", "nothing is estimated without truth yet")
    if what == "sections_flagged":
        return "the quality of its sections was not measured at ingest"
    if volume.model is None:
        return "no model has segmented the volume"
    if what == "seam_ratio" and volume.seams is not None:
        return volume.seams.describe()
    if volume.scores.model is not None:
        name = criterion.path.removeprefix("scores.model.").removesuffix(".value")
        return volume.scores.model.undefined.get(name, "it is not defined here")
    return (volume.note or "there is no ground truth to measure it by").removeprefix("not measured: ")


def _close(reason: str) -> str:
    return f"{reason[0].upper()}{reason[1:]}" + ("" if reason.endswith(".") else ".")
