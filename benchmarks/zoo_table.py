"""What came out of `zoo.py`, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from machine import facts

from segem.learn.models.registry import ZOO

UNSUPERVISED = ("kmeans", "kmeans-features", "watershed", "ncut")
LOOKED_AT = (2, 7, 30)
"""Minutes of one core after which a reader would look whether a net learns."""
SPACING = 1.1
"""Between points of a learning curve that are kept, as a factor of time: the curve is drawn so."""
Curve = list[tuple[float, int, float]]


def results(rows: Mapping[str, Mapping[str, Any]], width: int) -> str:
    """Return the scores of all rows, in the order of the zoo, as a Markdown table."""
    lines = [
        f"Minutes are those of one core ({facts()['cpu']}); nets on VGG16 have {width} channels in the first stage (the"
        " papers have 64). ISBI 2012: sections 0-14 are trained on, 15-17 choose the threshold and the CRF's weights,"
        " 18-23 are judged.",
        "",
        "| row | parameters | minutes | steps | IoU | V_rand | V_info | s/Mpx | commit |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    order = [*UNSUPERVISED, *(row for name in ZOO for row in (name, f"{name} + crf"))]
    for name in (name for name in order if name in rows):
        row = rows[name]
        scores = " | ".join(f"{row[key]:.4f}" for key in ("iou", "v_rand", "v_info"))
        steps, minutes = (f"{row[key]:,g}" if key in row else "" for key in ("steps", "minutes"))
        start = f"| `{name}` | {row['parameters']:,} | {minutes} | {steps} | {scores} "
        lines.append(f"{start}| {row['seconds_per_mpx']:.2f} | {row.get('commit', '')} |")
    return "\n".join(lines) + "\n"


def expectations(curves: Mapping[str, Curve]) -> str:
    """Return what each net had reached on the validation sections when so many minutes had passed, as a table.

    Examples
    --------
    >>> print(expectations({"unet": [(0.5, 10, 0.2), (5, 60, 0.4), (20, 400, 0.7)]}))
    | net | after 2 minutes | 7 minutes | 30 minutes | the end |
    |---|---:|---:|---:|---:|
    | `unet` | | 0.40 | | 0.70 (20 minutes) |
    <BLANKLINE>
    """
    first, *others = (f"{minutes} minutes" for minutes in LOOKED_AT)
    lines = [f"| net | after {first} | {' | '.join(others)} | the end |", "|---|" + "---:|" * (len(LOOKED_AT) + 1)]
    for name, curve in curves.items():
        end, _, reached = curve[-1]
        cells = [_reached(curve, minutes) if minutes < end else "" for minutes in LOOKED_AT]
        lines.append(f"| `{name}` " + "".join(f"| {cell} ".replace("  ", " ") for cell in cells))
        lines[-1] += f"| {reached:.2f} ({end:.0f} minutes) |"
    return "\n".join(lines) + "\n"


def _reached(curve: Curve, minutes: float) -> str:
    """Return the IoU of the last look before a minute; empty where that was long before, as large nets look rarely."""
    return next((f"{iou:.2f}" for at, _, iou in reversed(curve) if minutes / 2 <= at <= minutes), "")


def thin_out(history: list[Mapping[str, Any]]) -> Curve:
    """Return (minutes, steps, IoU) of looks at the validation sections, closer together early than late; the last too.

    Examples
    --------
    >>> looks = [{"seconds": 60.0 * n, "step": n, "validation_iou": n / 100} for n in range(1, 91)]
    >>> curve = thin_out(looks)
    >>> curve[:3], curve[-1], len(curve)
    ([(1.0, 1, 0.01), (2.0, 2, 0.02), (3.0, 3, 0.03)], (90.0, 90, 0.9), 30)
    """
    curve: Curve = []
    for place, look in enumerate(history, start=1):
        minutes = look["seconds"] / 60
        if not curve or minutes >= SPACING * curve[-1][0] or place == len(history):
            curve.append((round(minutes, 2), look["step"], round(look["validation_iou"], 4)))
    return curve
