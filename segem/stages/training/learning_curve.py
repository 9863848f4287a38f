"""Learning curves: models trained on few to many sections, judged alike, say whether labelling more is worth it."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path

import numpy as np

import segem
from segem.config import BUNDLED_MODEL, Device, LearningCurveConfig, Manifest, TrainConfig
from segem.errors import ConfigError, InputError, ModelError
from segem.geometry import Range
from segem.io.files import locked, write_text
from segem.io.workspace import Workspace
from segem.kernels.learning_curve import Interval, too_few, why_not
from segem.kernels.learning_curve import learning_curve as fitted_curve
from segem.learn.train import Progress
from segem.progress import Part, tell, track
from segem.records.learning_curve import Arm, Estimate, Kept, LearningCurveResult, Point, Verdict
from segem.stages.training.labelled import known_of, labelled_sections, unknown_sections
from segem.stages.training.learning_chart import Series, draw
from segem.stages.training.learning_record import CHART, CURVE, POINTS, home_of, kept_points
from segem.stages.training.train import HOW_OFTEN, Course, learn, prepare, training_digest

logger = logging.getLogger(__name__)

SCRATCH = "scratch"

LINE_POINTS = 41


def learning_curve(
    manifest: Manifest,
    name: str,
    config: LearningCurveConfig,
    training: TrainConfig,
    workspace: Workspace,
    *,
    starts: Sequence[str] = (),
    device: Device = "auto",
) -> LearningCurveResult:
    """Train on 1, 2, 4, 8, ... and all ``train`` sections, score each on the same ``test`` sections, and fit a curve.

    Each number of sections is tried `config.seeds` times, with another seed and on other contiguous sections where
    there is a choice; sections of several volumes are taken in proportion. All trainings have the same budget, and
    their thresholds are chosen on the same ``validation`` sections. Finished trainings are kept, so the same call goes
    on where one that was killed stood. The nets that learned from all sections stay, for `label_next`.

    Parameters
    ----------
    manifest : Manifest
        Labelled volumes, at least one of them with ``test`` sections.
    name : str
        Below this name of a model the curve is kept, in ``learning-curve``; it is not listed as a model.
    config : LearningCurveConfig
        How often, and what is worth the work.
    training : TrainConfig
        Architecture, budget and seed of each training; a model that is gone on from brings its own architecture.
    workspace : Workspace
        Where volumes are ingested and models are.
    starts : sequence of str
        Where trainings start: ``scratch``, or models by name or folder. By default from scratch and from the bundled
        model, which is left out, and that is said, if it knows any of the sections.
    device : {"auto", "cpu", "cuda", "mps"}
        Where to compute.

    Returns
    -------
    LearningCurveResult
        As it is on disk, with a chart beside it.

    Raises
    ------
    ConfigError
        When no volume has test sections, a model knows sections of the manifest, or another curve has this name.
    InputError, ModelError, WorkspaceError
        As for `segem.stages.training.train.train`.
    """
    home = home_of(name, workspace)
    courses, left_out = _courses(manifest, training, workspace, starts)
    first = next(iter(courses.values()))
    splits = first.splits
    test = {volume: (s.test.start, s.test.stop) for volume, s in splits.items() if s.test is not None}
    if not test:
        raise ConfigError(
            "no volume of this manifest names test sections",
            where=manifest.name,
            fix="give at least one labelled volume a split with test sections: all models are judged on them",
        )
    for volume, split in splits.items():
        blank = sorted(unknown_sections(first.volumes[volume]) & set(range(split.train.start, split.train.stop)))
        if blank:
            raise InputError(
                "a learning curve counts labelled sections, but of some nothing is known",
                where=f"{volume}, section {blank[0]}",
                expected="labels in every section of train",
                found=f"{len(blank)} without any",
                fix="paint some tissue there, or name other sections as train",
            )
    tried = [count for count in numbers(_total(first.taught)) for _ in range(config.seeds)]
    hopeless = too_few(tried, config.more)
    if hopeless:
        logger.warning("these trainings will not say what more sections bring: %s", hopeless)
    with locked(home / ".lock"):
        kept = kept_points(home, _identity(courses, config.seeds))
        points = _trained(courses, kept, home, name, config.seeds, device)
        arms = tuple(
            _arm(start, course, [p for p in points if p.start == start], config) for start, course in courses.items()
        )
        result = LearningCurveResult(
            name=name,
            manifest=manifest.name,
            sections=points[-1].sections,
            test=test,
            arms=arms,
            left_out=left_out,
            config=config,
            training=training.model_dump(mode="json", exclude=HOW_OFTEN),
            segem_version=segem.__version__,
        )
        write_text(home / CURVE, result.model_dump_json(indent=2) + "\n")
        write_text(home / CHART, draw([_series(arm) for arm in arms]))
    return result


def numbers(available: int) -> list[int]:
    """Return how many sections are tried: 1, 2, 4, 8 and so on, and all there are.

    Examples
    --------
    >>> numbers(11)
    [1, 2, 4, 8, 11]
    """
    return [2**power for power in range((available - 1).bit_length())] + [available]


def windows(parts: Mapping[str, Range], count: int, turn: int, turns: int) -> dict[str, Range]:
    """Return contiguous sections to learn from, `count` in all, of each volume in proportion to what it has.

    The first turn takes the first sections of each volume, the last turn the last ones, and those between lie between.

    Examples
    --------
    >>> [windows({"a": (2, 8)}, 2, turn, 3) for turn in range(3)]
    [{'a': (2, 4)}, {'a': (4, 6)}, {'a': (6, 8)}]
    >>> [windows({"a": (0, 4), "b": (0, 4)}, 1, turn, 2) for turn in range(2)]
    [{'a': (0, 1)}, {'b': (3, 4)}]
    """
    first = turn % len(parts)
    total, before, taught = _total(parts), 0, {}
    for volume, (start, stop) in [*list(parts.items())[first:], *list(parts.items())[:first]]:
        begin, end = ((2 * count * there + total) // (2 * total) for there in (before, before + stop - start))
        share, before = end - begin, before + stop - start
        if share:
            start += ((stop - start - share) * turn + (turns - 1) // 2) // (turns - 1)
            taught[volume] = (start, start + share)
    return taught


def _courses(
    manifest: Manifest, training: TrainConfig, workspace: Workspace, starts: Sequence[str]
) -> tuple[dict[str, Course], str]:
    """Return what is learned from each start, and why the bundled model is left out, if it is."""
    left_out = ""
    found: dict[str, Course] = {}
    for start in starts or (SCRATCH, BUNDLED_MODEL):
        try:
            course = _course(start, manifest, training, workspace)
        except (ConfigError, ModelError) as error:
            if starts or start == SCRATCH:
                raise
            left_out = f"no curve from {error}"
            tell(left_out)
            continue
        named = course.before.card.name if course.before is not None else SCRATCH
        if named in found:
            raise ConfigError("two curves would have one name", where="--from", found=named, fix="give one of them")
        found[named] = course
    return found, left_out


def _course(start: str, manifest: Manifest, training: TrainConfig, workspace: Workspace) -> Course:
    if start == SCRATCH:
        return prepare(manifest, training, workspace)
    own = {key: value for key, value in training.architecture.items() if key == "context_sections"}
    budget = training.model_dump(exclude={"model", "architecture", "pretrained"}, exclude_unset=True)
    config = TrainConfig(architecture=own, **budget)
    course = prepare(manifest, config, workspace, start=start)
    known = _known(course)
    if known:
        raise ConfigError(
            "the model knows sections of this manifest, so its learning curve would mean nothing",
            where=start,
            found=f"{known} on its card",
            fix="give --from scratch, or a model that never saw them",
        )
    return course


def _known(course: Course) -> str:
    """Return which sections of the manifest the model that is gone on from knows, if it does."""
    if course.before is not None:
        for volume, split in course.splits.items():
            for mine in (split.train, split.validation, split.test):
                sections = (mine.start, mine.stop) if mine is not None else (0, 0)
                for _, (start, stop) in known_of(course.before.card.trained_on, course.volumes[volume], sections):
                    return f"sections {start} to {stop - 1} of {volume}"
    return ""


def _identity(courses: Mapping[str, Course], seeds: int) -> str:
    digest = sha256(json.dumps([seeds, *courses]).encode())
    for course in courses.values():
        for volume, split in course.splits.items():
            parts = [(p.start, p.stop) for p in (split.train, split.validation, split.test) if p is not None]
            sections = [s for part in parts for s in labelled_sections(course.volumes[volume], part, 1, split.weight)]
            digest.update(json.dumps([volume, parts]).encode())
            digest.update(training_digest(course.config, course.before, sections).encode())
    return digest.hexdigest()


def _trained(
    courses: Mapping[str, Course],
    kept: Kept,
    home: Path,
    name: str,
    seeds: int,
    device: Device,
) -> list[Point]:
    """Do every training that is not done yet, and return the points of all in their order."""
    parts = next(iter(courses.values())).taught
    available = _total(parts)
    done = {(point.start, point.sections, point.seed): point for point in kept.points}
    wanted = [(start, n, seed) for n in numbers(available) for start in courses for seed in range(seeds)]
    todo = [each for each in wanted if each not in done]
    with track("learning curve", len(todo), "training") as advance:
        for start, count, seed in todo:
            course, taught = courses[start], windows(parts, count, seed, seeds)
            # Two trainings with one seed start from the same weights: their luck would be alike at all numbers of
            # sections, and the fit takes it for independent.
            config = course.config.model_copy(update={"seed": course.config.seed + seeds * count + seed})
            artefact = learn(
                replace(course, config=config, taught=taught),
                name,
                home,
                version=_version(start, count, seed),
                device=device,
                on_step=_shown(Part(advance), f"{start}, {count} sections, seed {seed}"),
            )
            scores = {score.volume: score.iou for score in artefact.card.scores}
            done[start, count, seed] = Point(
                start=start,
                sections=count,
                seed=seed,
                taught=taught,
                volumes=scores,
                iou=round(float(np.mean(list(scores.values()))), 4),
            )
            kept = kept.model_copy(update={"points": tuple(done.values())})
            write_text(home / POINTS, kept.model_dump_json(indent=2) + "\n")
            if count < available:  # nobody asks these nets about anything
                shutil.rmtree(artefact.path)
    return [done[each] for each in wanted]


def _version(start: str, count: int, seed: int) -> str:
    return f"{start}-{count}-{seed}"


def _shown(part: Part, note: str) -> Callable[[Progress], None]:
    return lambda at: part(at.fraction, note)


def _total(parts: Mapping[str, Range]) -> int:
    return sum(stop - start for start, stop in parts.values())


def _arm(start: str, course: Course, points: Sequence[Point], config: LearningCurveConfig) -> Arm:
    counts, scores, available = [p.sections for p in points], [p.iou for p in points], points[-1].sections
    curve, gain, line, verdict = None, None, [], "cannot say"
    why = why_not(counts, scores, config.more)
    if not why:
        fitted = fitted_curve(counts, scores, resamples=config.resamples, confidence=config.confidence)
        curve, gain = asdict(fitted.curve), fitted.gain(available, config.more)
        drawn = [(n, fitted.at(n)) for n in np.geomspace(1, available + config.more, LINE_POINTS).tolist()]
        line = [(round(n, 3), *(round(v, 4) for v in (at.value, at.low, at.high))) for n, at in drawn]
        verdict, why = _verdict(gain, config)
    return Arm(
        start=start,
        digest=course.before.digest if course.before is not None else None,
        points=tuple(points),
        curve=curve,
        line=tuple(line),
        gain=Estimate(**{end: round(value, 4) for end, value in asdict(gain).items()}) if gain else None,
        verdict=verdict,
        why=why,
        members=tuple(_version(start, p.sections, p.seed) for p in points if p.sections == available),
    )


def _verdict(gain: Interval, config: LearningCurveConfig) -> tuple[Verdict, str]:
    if gain.low >= config.worthwhile:
        return "worth it", f"the gain is surely {config.worthwhile:g} or more"
    if gain.high < config.worthwhile:
        return "not worth it", f"the gain is surely less than {config.worthwhile:g}"
    return "cannot say", f"the gain may be less or more than {config.worthwhile:g}"


def _series(arm: Arm) -> Series:
    return Series(f"from {arm.start}", tuple((p.sections, p.iou) for p in arm.points), arm.line)
