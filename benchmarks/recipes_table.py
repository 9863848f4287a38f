"""The tables of the trial of recipes, from the files that `recipes.py` leaves of each training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from segem.kernels.bootstrap import compare_iou, draw_blocks

BASELINE = "unet-em"
ACCOUNT = "account.json"
DRAWS = 5000
TAIL = 0.025
"""Of an interval of 95 %, on each side."""


def tables(results: Path) -> str:
    """Return the scores of all that is done, differences from the baseline, and the account, as Markdown."""
    found = [json.loads(path.read_text()) for path in sorted(results.glob("[!.]*.json")) if path.name != ACCOUNT]
    parts = [_scores(found), _differences(found)]
    if (results / ACCOUNT).is_file():
        hours = sum(json.loads((results / ACCOUNT).read_text()).values()) / 60
        parts.append(f"Used so far: {hours:.1f} core-hours, what was stopped and done again included.\n")
    return "\n".join(part for part in parts if part)


def _scores(found: list[dict[str, Any]]) -> str:
    lines = [
        "| recipe | taught | fold | seed | minutes | steps | judged on | IoU | clDice | V_rand | V_info | commit |",
        "|---|---|---:|---:|---:|---:|---|---:|---:|---:|---:|---|",
    ]
    for one in found:
        job = one["job"]
        for volume, sections in one["volumes"].items():
            scores = " | ".join(f"{value:.3f}" for value in score(sections).values())
            lines.append(
                f"| {job['recipe']} | {job['taught']} | {job['fold']} | {job['seed']} | {job['minutes']:g} | "
                f"{one['steps']:,} | {volume} | {scores} | {one['machine']['commit']} |"
            )
    return "\n".join([*lines, ""])


def _differences(found: list[dict[str, Any]]) -> str:
    """Return each recipe less the baseline that was trained on the same sections for the same time by the same seed."""
    baselines = {_setting(one): one for one in found if one["job"]["recipe"] == BASELINE}
    lines = []
    for one in found:
        beside = baselines.get(_setting(one))
        if beside is None or one is beside:
            continue
        for volume, sections in one["volumes"].items():
            other = beside["volumes"][volume]
            mine, theirs = (np.concatenate([z["tiles"] for z in each]) for each in (sections, other))
            iou, cells = compare_iou(mine, theirs), compare_cells(sections, other)
            job = one["job"]
            lines.append(
                f"| {job['recipe']} | {job['taught']} | {job['fold']} | {job['seed']} | {job['minutes']:g} | "
                f"{volume} | {iou.value:+.3f} ({iou.low:+.3f} to {iou.high:+.3f}) | "
                f"{cells[0]:+.3f} ({cells[1]:+.3f} to {cells[2]:+.3f}) |"
            )
    if not lines:
        return ""
    head = [
        f"Less `{BASELINE}` with the same sections, time and seed; 95 % intervals by a paired bootstrap, of tiles for "
        "IoU and of whole sections for V_rand. They hold the luck of the sections, not that of the seed.",
        "",
        "| recipe | taught | fold | seed | minutes | judged on | IoU | V_rand |",
        "|---|---|---:|---:|---:|---|---:|---:|",
    ]
    return "\n".join([*head, *lines, ""])


def _setting(one: dict[str, Any]) -> tuple[Any, ...]:
    job = one["job"]
    return job["taught"], job["fold"], job["seed"], job["minutes"]


def score(sections: list[dict[str, Any]]) -> dict[str, float]:
    """Return IoU and clDice at the model's threshold, and V_rand and V_info at the best of eleven."""
    tp, fp, fn = np.concatenate([one["tiles"] for one in sections]).sum(0)
    truth, found, truth_covered, found_covered = np.sum([one["lines"] for one in sections], axis=0)
    precision, sensitivity = found_covered / max(found, 1), truth_covered / max(truth, 1)
    return {
        "iou": float(tp / (tp + fp + fn)),
        "cl_dice": float(2 * precision * sensitivity / max(precision + sensitivity, 1e-12)),
        "v_rand": float(np.mean([one["v_rand"] for one in sections], axis=0).max()),
        "v_info": float(np.mean([one["v_info"] for one in sections], axis=0).max()),
    }


def compare_cells(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> tuple[float, float, float]:
    """Return the difference of V_rand, each at its best threshold, and the ends of its interval."""
    both = [np.array([one["v_rand"] for one in sections]) for sections in (first, second)]
    value, drawn = (float(one.mean(0).max()) for one in both), []
    # The threshold is chosen anew in each draw, as it would be for another stack.
    for weights in draw_blocks(len(first), DRAWS, seed=0):
        mine, other = ((weights @ one / len(first)).max(1) for one in both)
        drawn.append(mine - other)
    low, high = np.quantile(np.concatenate(drawn), [TAIL, 1 - TAIL])
    mine, other = value
    return mine - other, float(low), float(high)
