"""The tables of the trial of recipes, from the files that `recipes.py` leaves of each training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def tables(results: Path) -> str:
    """Return all that is done as Markdown."""
    found = [json.loads(path.read_text()) for path in sorted(results.glob("*.json")) if path.name != "account.json"]
    lines = []
    for one in found:
        job = one["job"]
        for volume, sections in one["volumes"].items():
            scores = " | ".join(f"{value:.4f}" for value in score(sections).values())
            lines.append(
                f"| {job['recipe']} | {job['taught']} | {job['fold']} | {job['seed']} | {job['minutes']:g} | "
                f"{one['steps']:,} | {volume} | {scores} |"
            )
    return "\n".join(
        [
            "| recipe | taught | fold | seed | minutes | steps | judged on | IoU | clDice | V_rand | V_info |",
            "|---|---|---:|---:|---:|---:|---|---:|---:|---:|---:|",
            *lines,
            "",
        ]
    )


def score(sections: list[dict[str, Any]]) -> dict[str, float]:
    """Return IoU and clDice at the model's threshold, and V_rand and V_info at the best of eleven."""
    tp, fp, fn = np.concatenate([one["tiles"] for one in sections]).sum(0)
    truth, found, truth_covered, found_covered = np.sum([one["lines"] for one in sections], axis=0)
    precision, sensitivity = found_covered / max(found, 1), truth_covered / max(truth, 1)
    return {
        "iou": float(tp / (tp + fp + fn)),
        "cl_dice": float(2 * precision * sensitivity / max(precision + sensitivity, 1e-12)),
        "v_rand": float(_best(sections, "v_rand")),
        "v_info": float(_best(sections, "v_info")),
    }


def _best(sections: list[dict[str, Any]], key: str) -> NDArray[np.float64]:
    best: NDArray[np.float64] = np.mean([one[key] for one in sections], axis=0).max()
    return best
