"""What a report says first: what was reached, what is only expected, and what to know before believing a number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from segem.geometry import name_sections
from segem.records.expected import Abstains, Expected
from segem.records.scores import Report, SeenUse, VolumeScores
from segem.stages.reporting.charts import USED
from segem.stages.reporting.words import count, say_score

_SO: dict[SeenUse, str] = {
    "training": "Scores of these volumes do not show how it does on new data.",
    "validation": "Scores there are better than on new data.",
    "calibration": "Calibration errors there are smaller than on new data.",
}


def summarise(report: Report) -> str:
    """Return in one or two sentences what a reader wants to know first."""
    measured = [volume for volume in report.volumes if volume.measured]
    failed = sum(v.state == "failed" for v in report.volumes)
    blind = Counter(v.note.partition(": ")[2] for v in report.volumes if v.note is not None)
    parts = [_compare(measured, name_baseline(report) or "the baseline")] if measured else []
    parts += [f"{count(volumes, 'volume')} could not be measured: {why}." for why, volumes in blind.items()]
    if failed:
        parts.append(f"{count(failed, 'volume')} failed.")
    return " ".join(parts) or "Nothing was measured in this run."


def _compare(measured: list[VolumeScores], baseline: str) -> str:
    ious = [volume.iou for volume in measured if volume.iou]
    # Volumes may have only one of the two scores; those do not enter the comparison.
    compared = [(iou.model, iou.baseline) for iou in ious if iou.model is not None and iou.baseline is not None]
    who, reached = "the model", [iou.model for iou in ious if iou.model is not None]
    if not reached:
        who, reached = baseline, [iou.baseline for iou in ious if iou.baseline is not None]
    if len(measured) == 1:
        beside = f" ({baseline}: {compared[0][1]:.3f})" if compared else ""
        return f"On {measured[0].name}, {who} reaches a membrane IoU of {reached[0]:.3f}{beside}."
    if compared:
        better = sum(model > other for model, other in compared)
        of = f"{better} of {count(len(compared), 'volume')}{' with both' if len(compared) < len(measured) else ''}"
        return f"The model reaches a higher membrane IoU than {baseline} on {of}."
    span = f"{min(reached):.3f} to {max(reached):.3f}"
    return f"{who[0].upper()}{who[1:]} reaches a membrane IoU of {span} on {len(reached)} labelled volumes."


def name_baseline(report: Report) -> str | None:
    """Return what people call the method of the baseline of a run; None where there was none, or several."""
    names = {volume.baseline.name for volume in report.volumes if volume.baseline}
    return names.pop() if len(names) == 1 else None


def list_estimates(report: Report) -> Iterator[str]:
    """Yield what can be expected of the model's masks of volumes that could not be measured, or that nothing can.

    Examples
    --------
    >>> here = VolumeScores(name="gut", state="complete", expected=Abstains(abstains="the tissue is too unlike"))
    >>> run = Report(run="r", model=None, created="", segem_version="", environment={}, volumes=(here,))
    >>> list(list_estimates(run))
    ['How good the mask of gut is, nobody knows: there is no truth, and no estimate, since the tissue is too unlike.']
    """
    blind = [volume for volume in report.volumes if volume.state == "complete" and not volume.measured]
    found = [(volume.name, volume.expected) for volume in blind]
    said = [f"{name} {say_expected(one)}" for name, one in found if isinstance(one, Expected)]
    if said:
        yield (
            f"Without truth, IoU can only be estimated from the probabilities: {', '.join(said)}. The interval is "
            "meant to hold the IoU of 9 volumes in 10. Nothing of this was measured."
        )
    unknown: dict[str, list[str]] = {}
    for volume in blind:
        if isinstance(volume.expected, Abstains):
            unknown.setdefault(volume.expected.abstains, []).append(volume.name)
    for why, names in unknown.items():
        which = f"the mask of {names[0]} is" if len(names) == 1 else f"the masks of {', '.join(names)} are"
        yield f"How good {which}, nobody knows: there is no truth, and no estimate, since {why}."
    clustered = [volume.name for volume in blind if volume.expected is None and volume.baseline is not None]
    if clustered:
        listed = ", ".join(clustered)
        yield f"Without truth nothing here says how good the masks of {listed} are. Look at their sections."


def say_expected(expected: Expected) -> str:
    """Return an expected IoU with its interval."""
    return f"{say_score(expected.iou.value)} ({expected.iou.low:.3f} to {expected.iou.high:.3f})"


def list_cautions(report: Report) -> Iterator[str]:
    """Yield what a reader must know before believing a number, in sentences."""
    for use, what in USED.items():
        used = [
            f"{volume.name} ({name_sections(one.sections)})"
            for volume in report.volumes
            for one in volume.seen
            if one.use == use and volume.measured
        ]
        if used:
            yield f"The model {what} sections of {', '.join(used)}. {_SO[use]}"
    seams = [volume.name for volume in report.volumes if volume.seams and volume.seams.shows]
    if seams:
        yield f"Seams show in {', '.join(seams)}: do not use these masks."
    flagged = [f"{volume.name} ({volume.sections_flagged})" for volume in report.volumes if volume.flags]
    if flagged:
        yield f"Sections stand out in quality in {', '.join(flagged)}."
    bad = Counter(mark.volume for mark in report.marks if mark.mark == "bad")
    if bad:
        yield "Readers have marked sections as bad: " + ", ".join(f"{n} of {name}" for name, n in bad.items()) + "."


def list_reasons(report: Report) -> list[str]:
    """Return the verdict on each volume that is not accepted, in words; nothing where there are no rules to break.

    Without rules every volume is to be reviewed for the same reason, so only other reasons are worth a line.
    """
    judged: Sequence[VolumeScores] = report.volumes
    if not report.accept:
        judged = [volume for volume in judged if volume.verdict is not None and volume.verdict.state == "rejected"]
    return [v.verdict.sentence for v in judged if v.verdict is not None and v.verdict.state != "accepted"]
