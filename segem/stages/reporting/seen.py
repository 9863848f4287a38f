"""Which sections of a volume a model has used before, and what else is to be known of its result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from segem.geometry import Range
from segem.io.seen import find_seen_sections, match_sections, merge_ranges
from segem.records.run import CrfFacts, SegmentFacts
from segem.records.scores import SeenSections, SeenUse

_NOT_NEW = "scores there do not show how it does on new data"
DONE: dict[SeenUse, str] = {
    "training": "the model was trained",
    "validation": "the threshold of the model, or of its base model, was chosen",
    "calibration": "the probabilities of the model were calibrated",
}
WHY_IT_MATTERS: dict[SeenUse, str] = {
    "training": _NOT_NEW,
    "validation": _NOT_NEW,
    "calibration": "the calibration error there does not show how it does on new data",
}


def find_seen(facts: SegmentFacts | CrfFacts, noted: Mapping[str, Any]) -> Iterator[SeenSections]:
    """Yield the sections that a model has used, by the digests that it was trained, validated and calibrated on.

    Parameters
    ----------
    facts : SegmentFacts or CrfFacts
        What is kept of the result.
    noted : mapping
        Attributes of the volume.
    """
    # A model may have used sections for one purpose and not for another.
    used = [one.model_dump() for one in facts.trained_on]
    found: dict[SeenUse, Iterator[Range]] = {
        "training": (each for one in used for each in find_seen_sections(one, "train", noted)),
        "validation": (each for one in used for each in find_seen_sections(one, "validation", noted)),
        "calibration": (
            each
            for one in facts.calibrated_on
            for each in match_sections(one.source_digest, one.sections, one.section_digests, noted)
        ),
    }
    for use, ranges in found.items():
        if merged := merge_ranges(ranges):
            yield SeenSections(use=use, sections=tuple(merged))


def say_remarks(facts: SegmentFacts | CrfFacts) -> Iterator[str]:
    """Yield what a reader should know of how a probability was made, in words."""
    if isinstance(facts, CrfFacts):
        yield f"the probability is that of run {facts.refined_from}, refined by a CRF"
    if facts.int8 is not None:
        share = f"8-bit arithmetic changes {facts.int8.disagreement:.2%} of the mask on sampled tiles"
        yield share if facts.int8.used else f"{share}, which is too much: computed in float32 instead"
