"""The chart of a volume's scores with what they can be held against, and the words for how sure they are."""

from __future__ import annotations

from segem.records.expected import Estimate
from segem.records.intervals import Interval, TooFew
from segem.records.scores import VolumeScores
from segem.stages.reporting.charts import say_seen
from segem.stages.reporting.drawing import (
    BASELINE,
    GRID,
    INK,
    MODEL,
    Chart,
    Key,
    Reading,
    Table,
    drawn,
    name_lines,
    plot_marks,
)
from segem.stages.reporting.words import NOTHING, say_range, say_score

SHOWN = {"iou": "IoU", "precision": "Precision", "recall": "Recall", "v_rand": "V_rand", "v_info": "V_info"}
_ROW_PX = 30
_MODEL = Key("model", MODEL, "-", "o")
_BASELINE = Key("baseline", BASELINE, "none", "s", hollow=True)
_CEILING = Key("second person", INK, ":", "D", hollow=True)
_CARD = Key("on its card", GRID, "none", "s")
_READING = Reading(
    shown="Each score of the model with its 95 % interval. Squares: the baseline, which needs no labels. Grey bars: "
    "what the model reached on the test sections of its card. Diamonds: how well a second person agrees with the "
    "truth, where one has labelled too.",
    good="Dots far to the right of the squares, within the grey bars or beyond them, with short intervals.",
    bad="Dots left of the grey bar: this tissue is not like that of the model. Dots near the squares: the model adds "
    "little. Long intervals: too little was labelled to tell.",
    do="Left of the bar, label a few sections of this tissue and retrain (segem retrain). Where intervals are long or "
    "missing, label more sections before you compare.",
)


def draw_standing(volume: VolumeScores) -> Chart | None:
    """Draw the headline scores of the model, and what they can be held against; None where nothing was measured.

    Examples
    --------
    >>> from segem.records.intervals import Band
    >>> from segem.records.scores import LayerScores, Scores
    >>> model = LayerScores(iou=0.8, precision=0.9, recall=0.85, rand=None, information=None)
    >>> chart = draw_standing(VolumeScores(
    ...     name="a", state="complete", scores=Scores(model=model), bands={"iou": Band(floor=0.4)},
    ...     intervals={"iou": Interval(low=0.7, high=0.9, method="")}))
    >>> chart.table.rows[0]
    ('IoU', '0.800', '0.700 to 0.900', '0.400', '–', '–')
    """
    model = volume.scores.model
    if model is None:
        return None
    rows = [(name, title, value) for name, title in SHOWN.items() if (value := getattr(model, name)) is not None]
    with drawn(f"{volume.name}-standing", 74 + _ROW_PX * len(rows), left_px=72) as ((axes,), svg):
        axes.grid(visible=False, axis="y")
        axes.grid(axis="x")
        for place, (name, _, value) in enumerate(rows):
            band, found = volume.bands.get(name), volume.intervals.get(name)
            if band is not None and band.held_out is not None:
                low, high = band.held_out
                # A single score on the card is a bar of no width, which would not be seen.
                axes.barh(place, max(high - low, 0.008), 0.62, low, color=GRID)
            if band is not None and band.floor is not None:
                plot_marks(axes, [band.floor], [place], _BASELINE)
            if isinstance(found, Interval):
                axes.plot([found.low, found.high], [place, place], "-", color=MODEL)
            highest = None if volume.ceiling is None else volume.ceiling.intervals.get(name)
            if isinstance(highest, Interval):
                axes.plot([highest.low, highest.high], [place, place], ":", color=INK)
            if band is not None and band.ceiling is not None:
                plot_marks(axes, [band.ceiling], [place], _CEILING)
            plot_marks(axes, [value], [place], _MODEL)
        axes.set_xlim(0, 1.02)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_yticks(range(len(rows)), [title for _, title, _ in rows])
        bands = volume.bands.values()
        kinds = [_MODEL]
        if any(band.floor is not None for band in bands):
            kinds.append(_BASELINE)
        if any(band.held_out is not None for band in bands):
            kinds.append(_CARD)
        if any(band.ceiling is not None for band in bands):
            kinds.append(_CEILING)
        name_lines(axes, kinds)
    return Chart(
        "standing",
        "How good is that?",
        "Scores of the model, and what they can be held against.",
        svg[0],
        _READING,
        Table(
            ("Score", "Model", "95 % interval", "Baseline", "On the card", "Second person"),
            tuple((title, say_score(value), *_say_bands(volume, name)) for name, title, value in rows),
        ),
        say_seen(volume.seen),
    )


def _say_bands(volume: VolumeScores, name: str) -> tuple[str, str, str, str]:
    band, found = volume.bands.get(name), volume.intervals.get(name)
    return (
        "too few" if isinstance(found, TooFew) else say_interval(found),
        NOTHING if band is None or band.floor is None else say_score(band.floor),
        NOTHING if band is None or band.held_out is None else say_range(*band.held_out),
        NOTHING if band is None or band.ceiling is None else say_score(band.ceiling),
    )


def say_interval(found: Interval | Estimate | TooFew | None) -> str:
    """Return an interval in digits; a dash where there is none."""
    return say_range(found.low, found.high) if isinstance(found, (Interval, Estimate)) else NOTHING


def list_too_few(volume: VolumeScores) -> list[str]:
    """Return why scores of a volume have no interval, each reason once with the scores it is of.

    Examples
    --------
    >>> few = TooFew(too_few="too few: 3 sections")
    >>> list_too_few(VolumeScores(name="a", state="complete", intervals={"v_rand": few, "v_info": few}))
    ['V_rand, V_info: too few: 3 sections']
    """
    reasons: dict[str, list[str]] = {}
    for name, found in (volume.intervals or volume.baseline_intervals).items():
        if isinstance(found, TooFew) and name in SHOWN:
            reasons.setdefault(found.too_few, []).append(SHOWN[name])
    return [f"{', '.join(names)}: {why}" for why, names in reasons.items()]
