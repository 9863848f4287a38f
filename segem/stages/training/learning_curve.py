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
from segem.geometry import Range, name_sections
from segem.io.files import locked, write_text
from segem.io.learning_curve import CHART, CURVE, POINTS, load_trials, locate_learning_curve
from segem.io.workspace import Workspace
from segem.kernels.learning_curve import Interval, too_few, why_not
from segem.kernels.learning_curve import learning_curve as fitted_curve
from segem.learn.artefact import Artefact
from segem.learn.train import Progress
from segem.progress import Part, tell, track
from segem.records.learning_curve import Arm, Estimate, LearningCurveResult, SavedTrials, Trial, Verdict
from segem.stages.training.job import TrainingJob, compute_training_digest, find_base, open_training, resolve_config
from segem.stages.training.labelled import find_unlabelled_sections, read_labelled_sections
from segem.stages.training.pictures import Series, draw_learning_curve
from segem.stages.training.provenance import find_known
from segem.stages.training.train import run_training

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
    their thresholds are chosen on the same ``validation`` sections. Finished trainings are recorded, so the same call
    resumes a curve that was killed. The nets that were trained on all sections are kept, for `label_next`.

    Parameters
    ----------
    manifest : Manifest
        Labelled volumes, at least one of them with ``test`` sections.
    name : str
        Name of the curve. It is kept like a model of this name, in ``learning-curve``, but not listed as one.
    config : LearningCurveConfig
        Number of trainings, and the gain that is worth the work.
    training : TrainConfig
        Architecture, budget and seed of each training; a base model brings its own architecture.
    workspace : Workspace
        Where volumes are ingested and models are.
    starts : sequence of str
        Where trainings start: ``scratch``, or models by name or folder. By default from scratch and from the bundled
        model, which is left out with a notice if it has seen any of the sections.
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
    home = locate_learning_curve(name, workspace)
    jobs, left_out = _open_jobs(manifest, training, workspace, starts, device)
    first = next(iter(jobs.values()))
    test = {one.name: one.test for one in first.volumes if one.test is not None}
    if not test:
        raise ConfigError(
            "no volume of this manifest names test sections",
            where=manifest.name,
            fix="give at least one labelled volume a split with test sections: all models are judged on them",
        )
    for one in first.volumes:
        blank = sorted(find_unlabelled_sections(one.volume) & set(range(*one.train)))
        if blank:
            raise InputError(
                "a learning curve counts labelled sections, but of some nothing is known",
                where=f"{one.name}, section {blank[0]}",
                expected="labels in every section of train",
                found=f"{len(blank)} without any",
                fix="paint some tissue there, or name other sections as train",
            )
    tried = [count for count in list_counts(_total(first.trained)) for _ in range(config.seeds)]
    hopeless = too_few(tried, config.more)
    if hopeless:
        logger.warning("these trainings will not say what more sections bring: %s", hopeless)
    with locked(home / ".lock"):
        saved = load_trials(home, _compute_identity(jobs, config.seeds))
        trials = _run_trials(jobs, saved, home, name, config.seeds)
        arms = tuple(
            _draw_conclusion(start, job, [trial for trial in trials if trial.start == start], config)
            for start, job in jobs.items()
        )
        result = LearningCurveResult(
            name=name,
            manifest=manifest.name,
            sections=trials[-1].sections,
            test=test,
            arms=arms,
            left_out=left_out,
            config=config,
            training=training,
            segem_version=segem.__version__,
        )
        write_text(home / CURVE, result.model_dump_json(indent=2) + "\n")
        write_text(home / CHART, draw_learning_curve([_series(arm) for arm in arms]))
    return result


def list_counts(available: int) -> list[int]:
    """Return the numbers of sections to try: 1, 2, 4, 8 and so on, and all there are.

    Examples
    --------
    >>> list_counts(11)
    [1, 2, 4, 8, 11]
    """
    return [2**power for power in range((available - 1).bit_length())] + [available]


def choose_windows(parts: Mapping[str, Range], count: int, turn: int, turns: int) -> dict[str, Range]:
    """Return contiguous sections to train on, `count` in all, of each volume in proportion to what it has.

    The first turn takes the first sections of each volume, the last turn the last ones, and those between lie between.

    Examples
    --------
    >>> [choose_windows({"a": (2, 8)}, 2, turn, 3) for turn in range(3)]
    [{'a': (2, 4)}, {'a': (4, 6)}, {'a': (6, 8)}]
    >>> [choose_windows({"a": (0, 4), "b": (0, 4)}, 1, turn, 2) for turn in range(2)]
    [{'a': (0, 1)}, {'b': (3, 4)}]
    """
    first = turn % len(parts)
    total, before, chosen = _total(parts), 0, {}
    for volume, (start, stop) in [*list(parts.items())[first:], *list(parts.items())[:first]]:
        # Shares are differences of rounded running totals, so that they add up to `count` however they are rounded.
        begin, end = ((2 * count * there + total) // (2 * total) for there in (before, before + stop - start))
        share, before = end - begin, before + stop - start
        if share:
            start += ((stop - start - share) * turn + (turns - 1) // 2) // (turns - 1)
            chosen[volume] = (start, start + share)
    return chosen


def _open_jobs(
    manifest: Manifest, training: TrainConfig, workspace: Workspace, starts: Sequence[str], device: Device
) -> tuple[dict[str, TrainingJob], str]:
    """Return one job for each start, all on the same volumes, and why the bundled model is left out, if it is."""
    left_out = ""
    found: dict[str, TrainingJob] = {}
    for start in starts or (SCRATCH, BUNDLED_MODEL):
        try:
            config, base = _resolve_start(start, training, workspace, device)
            opened = next(iter(found.values()), None)
            if opened is None:
                job = open_training(manifest, config, workspace, base=base, device=device)
            else:
                # The volumes are opened once: every opening reads and digests all source files.
                job = replace(opened, config=config, base=base)
            _refuse_known(job, start)
        except (ConfigError, ModelError) as error:
            if starts or start == SCRATCH:
                raise
            left_out = f"no curve from {error}"
            tell(left_out)
            continue
        named = base.card.name if base is not None else SCRATCH
        if named in found:
            raise ConfigError("two curves would have one name", where="--from", found=named, fix="give one of them")
        found[named] = job
    return found, left_out


def _resolve_start(
    start: str, training: TrainConfig, workspace: Workspace, device: Device
) -> tuple[TrainConfig, Artefact | None]:
    """Return the settings of the trainings from one start, and the base model, which brings its own architecture."""
    if start == SCRATCH:
        return resolve_config(training, None, workspace, device), None
    own = {key: value for key, value in training.architecture.items() if key == "context_sections"}
    budget = training.model_dump(exclude={"model", "architecture", "pretrained"}, exclude_unset=True)
    config = TrainConfig(architecture=own, **budget)
    base = find_base(start, config, workspace)
    return resolve_config(config, base, workspace, device), base


def _refuse_known(job: TrainingJob, start: str) -> None:
    """Raise where a model that is learned from has seen sections of the manifest: scores there would mean nothing."""
    known = [used for model in job.learned_from for used in model.card.trained_on]
    for one in job.volumes:
        for sections in filter(None, (one.train, one.validation, one.test)):
            for _, (first, stop) in find_known(known, one.volume, sections):
                raise ConfigError(
                    "the model knows sections of this manifest, so its learning curve would mean nothing",
                    where=start,
                    found=f"{name_sections([(first, stop)])} of {one.name} on its card",
                    fix="give --from scratch, or a model that never saw them",
                )


def _compute_identity(jobs: Mapping[str, TrainingJob], seeds: int) -> str:
    """Return the sha256 of all that decides the scores of a curve."""
    digest = sha256(json.dumps([seeds, *jobs]).encode())
    for job in jobs.values():
        for one in job.volumes:
            parts = [part for part in (one.train, one.validation, one.test) if part is not None]
            # With one section of context, so that every voxel is digested once whatever the nets see.
            sections = [s for part in parts for s in read_labelled_sections(one.volume, part, 1, one.weight)]
            digest.update(json.dumps([one.name, parts]).encode())
            digest.update(compute_training_digest(job, sections).encode())
    return digest.hexdigest()


def _run_trials(jobs: Mapping[str, TrainingJob], saved: SavedTrials, home: Path, name: str, seeds: int) -> list[Trial]:
    """Run every training that is not finished yet, and return the results of all in order."""
    parts = next(iter(jobs.values())).trained
    available = _total(parts)
    done = {(trial.start, trial.sections, trial.seed): trial for trial in saved.points}
    wanted = [(start, n, seed) for n in list_counts(available) for start in jobs for seed in range(seeds)]
    todo = [each for each in wanted if each not in done]
    with track("learning curve", len(todo), "training") as advance:
        for start, count, seed in todo:
            job, trained = jobs[start], choose_windows(parts, count, seed, seeds)
            # Every training has a seed of its own: two with the same one start from the same weights, so their luck
            # would be correlated across numbers of sections, and the fit assumes that it is not.
            config = job.config.model_copy(update={"seed": job.config.seed + seeds * count + seed})
            made = run_training(
                replace(job, config=config, trained=trained),
                name,
                home,
                version=_name_version(start, count, seed),
                on_step=_show(Part(advance), f"{start}, {count} section{'' if count == 1 else 's'}, seed {seed}"),
            )
            scores = {score.volume: score.iou for score in made.card.scores}
            done[start, count, seed] = Trial(
                start=start,
                sections=count,
                seed=seed,
                train=trained,
                volumes=scores,
                iou=round(float(np.mean(list(scores.values()))), 4),
            )
            saved = saved.model_copy(update={"points": tuple(done.values())})
            # After every training, so that a kill costs one of them at most.
            write_text(home / POINTS, saved.model_dump_json(indent=2) + "\n")
            # Only the nets trained on all sections are used again, by `label_next`.
            if count < available:
                shutil.rmtree(made.path)
    return [done[each] for each in wanted]


def _name_version(start: str, count: int, seed: int) -> str:
    return f"{start}-{count}-{seed}"


def _show(part: Part, note: str) -> Callable[[Progress], None]:
    return lambda at: part(at.fraction, note)


def _total(parts: Mapping[str, Range]) -> int:
    return sum(stop - start for start, stop in parts.values())


def _draw_conclusion(start: str, job: TrainingJob, trials: Sequence[Trial], config: LearningCurveConfig) -> Arm:
    """Fit a curve through the trials from one start, and say whether more sections are worth it."""
    counts, scores, available = [one.sections for one in trials], [one.iou for one in trials], trials[-1].sections
    curve, gain, line, verdict = None, None, [], "cannot say"
    why = why_not(counts, scores, config.more)
    if not why:
        fitted = fitted_curve(counts, scores, resamples=config.resamples, confidence=config.confidence)
        curve, gain = asdict(fitted.curve), fitted.gain(available, config.more)
        drawn = [(n, fitted.at(n)) for n in np.geomspace(1, available + config.more, LINE_POINTS).tolist()]
        line = [(round(n, 3), *(round(v, 4) for v in (at.value, at.low, at.high))) for n, at in drawn]
        verdict, why = _judge_gain(gain, config)
    return Arm(
        start=start,
        digest=job.base.digest if job.base is not None else None,
        points=tuple(trials),
        curve=curve,
        line=tuple(line),
        gain=Estimate(**{end: round(value, 4) for end, value in asdict(gain).items()}) if gain else None,
        verdict=verdict,
        why=why,
        members=tuple(_name_version(start, one.sections, one.seed) for one in trials if one.sections == available),
    )


def _judge_gain(gain: Interval, config: LearningCurveConfig) -> tuple[Verdict, str]:
    # The whole interval has to lie on one side: few trainings should rather say that they cannot tell.
    if gain.low >= config.worthwhile:
        return "worth it", f"the gain is surely {config.worthwhile:g} or more"
    if gain.high < config.worthwhile:
        return "not worth it", f"the gain is surely less than {config.worthwhile:g}"
    return "cannot say", f"the gain may be less or more than {config.worthwhile:g}"


def _series(arm: Arm) -> Series:
    return Series(f"from {arm.start}", tuple((p.sections, p.iou) for p in arm.points), arm.line)
