"""The paragraph about methods that an author pastes: what was done, with which versions, and what to cite."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from segem.config.baseline import BaselineMethod
from segem.errors import SegemError
from segem.geometry import Range, name_sections
from segem.io.models import list_models, read_card
from segem.io.seen import merge_ranges
from segem.io.workspace import Workspace
from segem.records.card import ModelCard
from segem.records.expected import Expected
from segem.records.intervals import Interval
from segem.records.run import CrfFacts, RunRecord, SegmentFacts, StepRecord
from segem.records.scores import Report
from segem.stages.reporting.words import TIMES, count

SCORES = "Arganda-Carreras et al. 2015, doi:10.3389/fnana.2015.00142"
"""Where V_rand and V_info are defined."""
METHODS: dict[BaselineMethod, tuple[str, str]] = {
    "kmeans": (
        "Pixels are split into a dark and a bright group by intensity alone; the dark one is taken for membrane.",
        "Lloyd 1982, doi:10.1109/TIT.1982.1056489",
    ),
    "kmeans-features": (
        "Pixels are grouped by intensity, edges and ridges around them; the darkest group is taken for membrane.",
        "Sculley 2010, doi:10.1145/1772690.1772862",
    ),
    "watershed": (
        "Bright basins are flooded until they meet; the dark lines along which they meet are taken for membrane.",
        "Meyer and Beucher 1990, doi:10.1016/1047-3203(90)90014-M",
    ),
    "ncut": (
        "Regions are cut apart where the image is dark between them; their borders are taken for membrane.",
        "Shi and Malik 2000, doi:10.1109/34.868688",
    ),
}
"""What the methods of the baseline do, in one sentence, and where they come from. None of them needs labels."""
_CRF = "Krähenbühl and Koltun 2011, arXiv:1210.5644"


def find_card(report: Report, workspace: Workspace) -> ModelCard | None:
    """Return the card of the model of a run, recognised by its digest; None where it is no longer there."""
    if report.model is None:
        return None
    # A model that cannot be read costs a paragraph its details, never a report.
    try:
        for name, folder in list_models(workspace):
            if name == report.model.name:
                card, digest = read_card(folder)
                if digest == report.model.digest:
                    return card
    except SegemError:
        return None
    return None


def write_methods(report: Report, record: RunRecord, card: ModelCard | None) -> str:
    """Return the paragraph.

    Parameters
    ----------
    report : Report
        The scores.
    record : RunRecord
        How the run was made.
    card : ModelCard or None
        Of its model.

    Returns
    -------
    str
        Plain text: what was done, what to cite, what may be done with the model. Empty where no volume was finished.
    """
    if all(volume.state != "complete" for volume in report.volumes):
        return ""
    steps = [step for volume in record.volumes.values() for step in volume.steps.values()]
    paragraphs = [
        " ".join(
            [
                *_say_volumes(report),
                *_say_model(report, card, steps),
                *_say_resampling(report, record),
                *_say_baseline(report),
            ]
        ),
        " ".join(_say_scores(report)),
        " ".join(_say_versions(report, record, steps)),
        "To cite: " + "; ".join(_cite(report, card, steps)) + ".",
    ]
    if card is not None and card.licence:
        paragraphs.append(f"Licence of the model: {card.licence}.")
    return "\n\n".join(part for part in paragraphs if part)


def _say_volumes(report: Report) -> Iterator[str]:
    done = [volume for volume in report.volumes if volume.state == "complete"]
    sections = sum(volume.sections or 0 for volume in done)
    sizes = sorted({TIMES.join(f"{n:g}" for n in v.voxel_nm) for v in done if v.voxel_nm})
    if done:
        at = f", voxels of {', '.join(sizes)} nm (z, y, x)" if sizes else ""
        yield (
            f"Membranes were segmented in {count(len(done), 'volume')} ({count(sections, 'section')}{at}) with segem "
            f"{report.segem_version}."
        )


def _say_model(report: Report, card: ModelCard | None, steps: Iterable[StepRecord]) -> Iterator[str]:
    if report.model is None:
        return
    net = f", a {card.architecture}" if card else ""
    yield (
        f"The probability of membrane is that of the model {report.model.name} (sha256 {report.model.digest}{net}), "
        "applied to each section after the intensities of each volume were brought to mean 0 and standard deviation 1."
    )
    made = [step for step in steps if isinstance(step.facts, SegmentFacts)]
    views = sorted({step.config.get("views", 1) for step in made}, key=str)
    if views and views != [1]:
        yield f"The outputs of {' or '.join(map(str, views))} flips and turns of each tile were averaged."
    if any(isinstance(step.facts, CrfFacts) for step in steps):
        yield "It was refined by a fully connected conditional random field."
    thresholds = sorted({f"{v.threshold:.3g}" for v in report.volumes if v.threshold is not None})
    if thresholds:
        cut = " or ".join(thresholds)
        yield f"Voxels with a probability of at least {cut} were taken for membrane{_chosen(card, made)}."
    if card is not None and card.calibration.fitted_on:
        where = _list_places((one.volume, one.sections) for one in card.calibration.fitted_on)
        yield f"Probabilities were calibrated (Platt scaling) on {where}."
    elif card is not None and card.trained_on:
        yield "Probabilities were calibrated (Platt scaling) on the validation sections of the training."


def _say_resampling(report: Report, record: RunRecord) -> Iterator[str]:
    ratios: dict[tuple[int, int], list[str]] = {}
    several: dict[tuple[tuple[int, int], ...], list[str]] = {}
    for volume in report.volumes:
        if volume.state != "complete" or volume.name not in record.volumes:
            continue
        for step in record.volumes[volume.name].steps.values():
            if not isinstance(step.facts, SegmentFacts):
                continue
            if step.facts.sizes:
                several.setdefault(step.facts.sizes, []).append(volume.name)
            elif step.facts.resampled != (1, 1):
                ratios.setdefault(step.facts.resampled, []).append(volume.name)
    if ratios:
        shown = " and ".join(f"{net} pixels for every {own} of {', '.join(ratios[net, own])}" for net, own in ratios)
        yield (
            f"Sections were resampled to a pixel size that it had learned at ({shown}), and its output was resampled "
            "back."
        )
    for sizes, names in several.items():
        edges = ", ".join(f"{net / own:.3g}" for net, own in sizes)
        yield (
            f"Sections of {', '.join(names)} were shown to it at {len(sizes)} pixel sizes, with {edges} times their "
            "pixels along each axis, and the probabilities were averaged."
        )


def _chosen(card: ModelCard | None, steps: Iterable[StepRecord]) -> str:
    """Return where the threshold comes from, as the end of a sentence."""
    if any(step.config.get("threshold") is not None for step in steps):
        return ", a threshold given by hand"
    validation = [one for one in (card.trained_on if card else ()) if one.validation[0] < one.validation[1]]
    if not validation:
        return ""
    where = _list_places((one.volume, one.validation) for one in validation)
    return f", the threshold chosen for the model on its validation sections ({where})"


def _list_places(places: Iterable[tuple[str, Range]]) -> str:
    # A model that was fine-tuned several times names the same sections each time.
    volumes: dict[str, list[Range]] = {}
    for volume, sections in places:
        volumes.setdefault(volume, []).append(sections)
    return "; ".join(f"{name_sections(merge_ranges(ranges))} of {volume}" for volume, ranges in volumes.items())


def _say_baseline(report: Report) -> Iterator[str]:
    for baseline in {v.baseline.method: v.baseline for v in report.volumes if v.baseline}.values():
        yield f"As a baseline without labels, membrane was found by {baseline.name}."


def _say_scores(report: Report) -> Iterator[str]:
    measured = [volume for volume in report.volumes if volume.measured]
    estimated = [v.name for v in report.volumes if not v.measured and isinstance(v.expected, Expected)]
    if estimated:
        yield (
            f"The expected IoU of {', '.join(estimated)} was estimated by segem from the calibrated probabilities, "
            "with 90 % intervals; it was not measured."
        )
    if not measured:
        yield "No volume had ground truth, so nothing was measured."
        return
    names = ", ".join(volume.name for volume in measured)
    yield (
        f"Scores are of the volumes with ground truth ({names}). Intersection over union (IoU), precision and recall "
        "of membrane are pooled over all voxels of a volume whose truth is known. V_rand and V_info are means over "
        "sections, after thinning, at that of eleven thresholds which suits the volume best (Arganda-Carreras et al. "
        "2015)."
    )
    if any(isinstance(one, Interval) for volume in measured for one in volume.intervals.values()):
        yield (
            "95 % intervals are those of a bootstrap: of neighbouring blocks of tissue for pooled scores, of "
            "neighbouring sections for V_rand and V_info."
        )
    for volume in measured:
        for one in volume.seen:
            what = {"training": "trained on", "validation": "validated on", "calibration": "calibrated on"}[one.use]
            yield f"The model was {what} {name_sections(one.sections)} of {volume.name}."


def _say_versions(report: Report, record: RunRecord, steps: Iterable[StepRecord]) -> Iterator[str]:
    computed = {name: version for step in steps for name, version in step.facts.software.items()}
    versions = {"python": report.environment["python"]} if "python" in report.environment else {}
    versions |= computed
    yield "Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + "."
    runtimes = sorted({step.facts.runtime for step in steps if isinstance(step.facts, SegmentFacts)})
    if runtimes:
        yield f"The net was evaluated by {' and '.join(runtimes)}."
    digests = [f"{v.name} {v.source_digest[:16]}" for v in report.volumes if v.source_digest]
    if digests:
        yield f"sha256 of the voxels (first digits): {', '.join(digests)}."
    yield f"Run {record.run}, {record.created[:10]}, results {report.digest[:16]}."


def _cite(report: Report, card: ModelCard | None, steps: Iterable[StepRecord]) -> list[str]:
    cited = [f"segem {report.segem_version} (CITATION.cff in its repository)"]
    if any(volume.measured for volume in report.volumes):
        cited.append(SCORES)
    if card is not None:
        cited += [part for part in card.citation.split("; ") if part]
    cited += [METHODS[v.baseline.method][1] for v in report.volumes if v.baseline]
    if any(isinstance(step.facts, CrfFacts) for step in steps):
        cited.append(_CRF)
    return list(dict.fromkeys(cited))
