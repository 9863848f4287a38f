"""Calibrates a trained model on labelled sections it was not trained on; its weights do not change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from segem.config import Device, Manifest
from segem.errors import ConfigError
from segem.geometry import Range
from segem.io.seen import merge_ranges
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.threshold import quantize_probability
from segem.learn.artefact import Artefact, find_model, geometry_of, load_net, save_version
from segem.learn.calibrated import calibrated
from segem.learn.operating_point import calibrate, choose_merge_below, choose_threshold
from segem.learn.pieces import in_pieces
from segem.learn.predict import predict_section
from segem.learn.runtimes.choice import choose_device
from segem.learn.scale import Scale, at_scale, choose_scale, geometry_at
from segem.records.card import Calibration, FittedOn, HeldOutScore, ModelCard, TrainedOn
from segem.stages.models.zoo import check_new_name, tell_if_not_in_use
from segem.stages.training.labelled import NO_SECTIONS, LabelledVolume, open_labelled_volumes, read_labelled_sections
from segem.stages.training.memory import require_section_memory
from segem.stages.training.provenance import LEARNED, check_unseen, find_known, record_sections
from segem.stages.training.reference import FitOn, fit_reference
from segem.stages.training.score import score_volume


@dataclass(frozen=True)
class CalibrateResult:
    """A calibrated model, and the calibration error before and after."""

    path: Path
    name: str
    scale: float
    bias: float
    threshold: float
    merge_below: float | None
    ece_before: float | None
    ece_validation: float | None
    scores: tuple[HeldOutScore, ...]


def calibrate_model(
    model: str,
    manifest: Manifest,
    name: str,
    workspace: Workspace,
    *,
    choose: bool = False,
    device: Device = "auto",
) -> CalibrateResult:
    """Fit the calibration of a model on the ``validation`` sections of a manifest, and score it on ``test`` sections.

    The same sections choose from which mean probability on a border divides two cells.

    Estimates without truth get their reference from the ``validation`` sections too, so it holds for the tissue of
    this manifest alone.

    The threshold moves with the probabilities, so that the mask stays the same, unless a new one is asked for. Blending
    of tiles and averaging of views come after calibration and may change single voxels.

    Parameters
    ----------
    model : str
        Name or folder of the model.
    manifest : Manifest
        Labelled volumes; each says its split, or the last fifth of its sections validates.
    name : str
        Name of the new model.
    workspace : Workspace
        Where volumes are ingested and the new model is written.
    choose : bool
        Whether these ``validation`` sections choose the threshold too, for the best IoU averaged over their volumes.
        Scores of the old mask no longer hold for the new one then, and are left out of its card.
    device : {"auto", "cpu", "cuda", "mps"}
        Where to compute.

    Returns
    -------
    CalibrateResult

    Raises
    ------
    ConfigError
        When the name is taken, no volume has labels, the model knows sections it would be calibrated or scored on, or
        the ``validation`` sections do not fit into memory.
    InputError
        When sources or labels are bad, or the net gives NaN or infinity.
    ModelError
        When the model is missing or damaged.
    WorkspaceError
        When a volume is damaged or the disk refuses.
    """
    check_new_name(name)
    artefact = find_model(model, workspace)
    card, where = artefact.card, choose_device(device)
    context = geometry_of(card).context_sections
    volumes = open_labelled_volumes(manifest, workspace)
    chose = tuple(record_sections(one.volume, (0, 0), one.validation, 0.0) for one in volumes)
    _check_unseen(artefact, volumes, chose)
    require_section_memory([replace(one, train=NO_SECTIONS) for one in volumes])
    sections = [
        section
        for one in volumes
        for section in read_labelled_sections(one.volume, one.validation, context, seen=(0, one.volume.shape[0]))
    ]
    # A calibration is fitted to the logits of the net itself, never on top of another one.
    plain, scale = load_net(artefact, calibrate=False), _scale_of(volumes, card)
    judged = in_pieces(at_scale(plain, scale, context).to(where), geometry_at(card, scale))
    fitted_on = tuple(
        FittedOn(
            volume=part.volume,
            source_digest=part.source_digest,
            sections=part.validation,
            section_digests=part.validation_digests,
        )
        for part in chose
    )
    # On sections the weights were not fitted to: on training sections a net is too sure of itself.
    found = calibrate(judged, sections, where).model_copy(update={"fitted_on": fitted_on})
    if choose:
        threshold, _ = choose_threshold(calibrated(judged, found), sections, where)
    else:
        found, threshold = keep_mask(found, card.calibration, card.threshold)
    # Chosen anew each time: the mean over a border does not move with the probabilities as one threshold does.
    merge_below = choose_merge_below(calibrated(judged, found), sections, where)
    predict = partial(predict_section, calibrated(judged, found), device=where)
    reference = fit_reference(
        lambda image: quantize_probability(predict(image)),
        threshold,
        [FitOn(one.volume, one.validation, _learned(card, one.volume)) for one in volumes],
        context,
    )
    scores = tuple(
        score_volume(predict, threshold, one.volume, one.test, context) for one in volumes if one.test is not None
    )
    # Where the mask is the same, the IoU of an old score still holds. V_rand and V_info are the best of eleven
    # thresholds, which now give other masks.
    older = (known.model_copy(update={"v_rand": None, "v_info": None, "ece": None}) for known in card.scores)
    kept = {(known.volume, known.sections): known for known in (*(() if choose else older), *scores)}
    made = save_version(
        workspace.models / name,
        card.model_copy(
            update={
                "name": name,
                "calibration": found,
                "threshold": threshold,
                "reference": reference,
                "merge_below": merge_below,
                "scores": tuple(kept.values()),
                "trained_on": card.trained_on + (chose if choose else ()),
            }
        ),
        plain,
    )
    tell_if_not_in_use(made.path)
    return CalibrateResult(
        made.path, name, *found.line, threshold, merge_below, found.ece_before, found.ece_validation, scores
    )


def _scale_of(volumes: Sequence[LabelledVolume], card: ModelCard) -> Scale:
    """Return how a run resamples the volumes, which must be alike: one calibration cannot suit several sizes."""
    scales = {choose_scale(one.volume.voxel_size, card) for one in volumes}
    if len(scales) > 1:
        raise ConfigError(
            "a model cannot be calibrated on volumes whose pixels differ so much that they are resampled differently",
            where=card.name,
            found=", ".join(
                f"{one.name}: {one.volume.voxel_size.y:g} x {one.volume.voxel_size.x:g} nm" for one in volumes
            ),
            fix="calibrate it on volumes of one pixel size",
        )
    return scales.pop()


def _learned(card: ModelCard, volume: Volume) -> tuple[Range, ...]:
    """Return the sections of a volume that the weights of a model were fitted to."""
    known = find_known(card.trained_on, volume, (0, volume.shape[0]))
    return tuple(merge_ranges(sections for use, sections in known if use == LEARNED))


def _check_unseen(model: Artefact, volumes: Sequence[LabelledVolume], chose: Sequence[TrainedOn]) -> None:
    """Raise where a model has seen the sections to calibrate or score it on, or `chose` its threshold on the latter."""
    known = model.card.trained_on
    for one in volumes:
        # Sections that chose the threshold may calibrate, and choose it again.
        check_unseen(known, model.path, one.volume, one.validation, "calibrated", (LEARNED,))
        if one.test is not None:
            check_unseen(known, model.path, one.volume, one.test, "scored")
            # One stack may have two names: sections that calibrate under one must not score under the other.
            check_unseen(chose, "the new model", one.volume, one.test, "scored")


def keep_mask(found: Calibration, before: Calibration, threshold: float) -> tuple[Calibration, float]:
    """Return a calibration with its bias slightly shifted, and the threshold that gives the mask of the one before.

    Probabilities are stored in 255 steps, and a threshold lies between two of them. The bias is shifted by less than
    half a step, so that the logit at which the mask begins again lies between two steps.

    Examples
    --------
    >>> found, threshold = keep_mask(Calibration(scale=0.5, bias=-0.6), Calibration(), 0.725)
    >>> round(found.bias, 4), round(threshold * 255)
    (-0.6067, 120)
    """
    # The least stored value that is membrane, less half a step: there rounding decides. The rounding to 9 digits is
    # that of `threshold_probability`.
    step = math.ceil(round(threshold * 255, 9)) - 0.5
    logit = (math.log(step / (255 - step)) - before.bias) / before.scale
    # 255 times the sigmoid of the logit, without overflow.
    reached = 127.5 * (1 + math.tanh((found.scale * logit + found.bias) / 2))
    new = min(254, max(1, round(reached + 0.5)))
    bias = math.log((new - 0.5) / (255.5 - new)) - found.scale * logit
    return found.model_copy(update={"bias": bias}), new / 255
