"""What the command line says: results, tables and errors."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, is_dataclass
from datetime import timedelta
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from segem.errors import SegemError

INTERRUPTED = 130
"""Exit code of what a user has stopped, as shells have it."""
STOPPED = (
    "stopped by Ctrl-C; finished blocks and what a training has learned are kept. "
    "Fix: give the same command to go on from there (a segmentation, on another day, with the name of its run, --run)"
)


def show(result: Any, as_json: bool, *, run: str | None = None) -> None:
    """Print a result for people, a line for each fact, or as JSON; `run` names the run it belongs to."""
    if hasattr(result, "model_dump"):
        values = result.model_dump(mode="json")
    else:
        values = asdict(result) if is_dataclass(result) and not isinstance(result, type) else result
    if run is not None:
        values = {"run": run} | values
    if as_json:
        typer.echo(json.dumps(values, default=_plain, indent=2))
        return
    for key, value in values.items():
        # A mapping is detail for programs; what matters of it is said in lines of its own.
        if value in (None, [], (), "") or isinstance(value, dict):
            continue
        for item in value if isinstance(value, (list, tuple)) and hasattr(value[0], "model_dump") else [value]:
            facts = item.model_dump() if hasattr(item, "model_dump") else None
            typer.echo(f"{key}: {', '.join(f'{k} {v}' for k, v in facts.items()) if facts else item}")


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else str(value)


def complain(faults: Iterable[tuple[str, str]]) -> None:
    """Print one error line for each volume and what is wrong with it, and exit with code 1 if there is any.

    Raises
    ------
    typer.Exit
        When there was a fault.
    """
    if [_fail(f"{volume}: {what}", 1) for volume, what in faults]:
        raise typer.Exit(1)


def show_scores(values: dict[str, Any]) -> None:
    """Print the IoU table of a run's ``report.json``."""
    table = Table(title=f"membrane IoU, run {values['run']}")
    names = {volume["baseline"]["name"] for volume in values["volumes"] if volume["baseline"]}
    for column in ("volume", "sections", names.pop() if len(names) == 1 else "baseline", "model", "V_rand", "V_info"):
        table.add_column(column, justify="left" if column == "volume" else "right")
    for volume in values["volumes"]:
        iou = volume["iou"] or {}
        scores = ((volume["baseline"] or {}).get("iou"), iou.get("model"), volume["v_rand"], volume["v_info"])
        cells = [f"{score:.3f}" if score is not None else "-" for score in scores]
        if not iou:
            cells[1] = "not measured: no ground truth" if volume["state"] == "complete" else "failed"
        table.add_row(volume["name"], "-" if volume["sections"] is None else str(volume["sections"]), *cells)
    _print(table)


def show_speeds(values: dict[str, Any]) -> None:
    """Print what ``segem bench`` measured."""
    shape = " x ".join(map(str, values["shape"]))
    table = Table(title=f"{values['model']} on {values['cores']} cores, sections of {values['size_px']} px")
    table.add_column("runtime")
    for column in ("megapixels/s", "start-up", f"a volume of {shape}"):
        table.add_column(column, justify="right")
    for speed in values["runtimes"]:
        if speed["unavailable"]:
            table.add_row(speed["runtime"], "-", "-", "not available")
            continue
        expected = str(timedelta(seconds=round(speed["expected_seconds"])))
        table.add_row(
            speed["runtime"], f"{speed['megapixels_per_second']:.2f}", f"{speed['startup_seconds']:.1f} s", expected
        )
    _print(table)
    for speed in values["runtimes"]:
        if speed["unavailable"]:
            typer.echo(f"{speed['runtime']}: {speed['unavailable']}")
    before, after = values["gemm_gflops"]
    typer.echo(f"matrix multiplication: {before:.0f} Gflop/s before, {after:.0f} after")
    if after < 0.9 * before:
        typer.echo("The machine was busier at the end than at the start, so take the figures with care or repeat.")


def show_architectures(nets: list[dict[str, Any]]) -> None:
    """Print the architectures of the zoo, with their speed where one was measured."""
    measured = any(net["megapixels_per_second"] or net["not_measured"] for net in nets)
    table = Table(title="architectures, with their default options")
    table.add_column("name", no_wrap=True)
    table.add_column("source")
    for column in ("parameters", "GFLOP/Mpx", "output stride", "field, px", *(["Mpx/s"] if measured else [])):
        table.add_column(column, justify="right")
    for net in nets:
        cells = [
            f"{net['parameters']:,}",
            f"{net['gflop_per_megapixel']:.1f}",
            str(net["output_stride"]),
            _field_of(net),
        ]
        if measured:
            cells.append(f"{net['megapixels_per_second']:.2f}" if net["megapixels_per_second"] else "-")
        table.add_row(net["name"], net["source"], *cells)
    _print(table)
    typer.echo("A multiplication with an addition counts as 2 FLOP.")
    if measured:
        typer.echo("Mpx/s: one tile of 512 x 512 by one thread, median of 3.")
    for net in nets:
        if net["not_measured"]:
            typer.echo(f"{net['name']}: not measured, {net['not_measured']}")


def show_architecture(values: dict[str, Any]) -> None:
    """Print what an architecture is, what it costs and what can be chosen of it."""
    net = values["architecture"]
    typer.echo(f"{net['name']}: {net['summary']}\nsource: {net['source']}\n\n{values['about']}\n")
    halo = "the whole section" if net["halo_px"] is None else f"{net['halo_px']} px"
    typer.echo(f"parameters: {net['parameters']:,}")
    typer.echo(f"cost: {net['gflop_per_megapixel']:.1f} GFLOP a megapixel")
    typer.echo(f"output stride: {net['output_stride']}")
    typer.echo(f"sees: {_field_of(net)} px, context for exact tiles: {halo}, tiles start every {net['stride_px']} px\n")
    table = Table(title="options")
    for column in ("option", "default", "allowed", "meaning"):
        table.add_column(column)
    for option in values["options"]:
        table.add_row(option["name"], str(option["default"]), option["allowed"], option["meaning"])
    _print(table)


def show_models(models: list[dict[str, Any]]) -> None:
    """Print the trained models at hand, each with its scores on sections it never saw."""
    table = Table(title="trained models")
    for column in ("name", "architecture", "scored on"):
        table.add_column(column)
    for column in ("IoU", "V_rand", "ECE"):
        table.add_column(column, justify="right")
    for model in models:
        names = (model["name"], model["architecture"] or "unreadable")
        for score in model["scores"]:
            first, stop = score["sections"]
            found = ("-" if score[key] is None else f"{score[key]:.3f}" for key in ("iou", "v_rand", "ece"))
            table.add_row(*names, f"{score['volume']} {first}-{stop - 1}", *found)
            names = ("", "")
        if not model["scores"]:
            table.add_row(*names, "-", "-", "-", "-")
    _print(table)
    for model in models:
        stands = f" ({model['standing']})" if model["standing"] else ""
        typer.echo(f"{model['name']}: {model['unreadable'] or model['path']}{stands}")


def show_promotion(values: dict[str, Any], as_json: bool) -> None:
    """Print how a candidate compares with the model in use, volume by volume, and what was decided.

    Raises
    ------
    typer.Exit
        When it is kept aside, after one error line for each volume that speaks against it.
    """
    show(values, as_json=True) if as_json else _show_judged(values)
    if not values["promoted"]:
        faults = ((volume["volume"], volume["harm"]) for volume in values["judged"] if volume["harm"])
        complain((f"{values['name']} is kept aside, {name}", harm) for name, harm in faults)


def _show_judged(values: dict[str, Any]) -> None:
    rival = values["against"]["name"] if values["against"] else "K-means"
    if rival == values["name"]:
        rival += " (before)"
    confidence = f"{values['gate']['confidence']:.0%}"
    table = Table(title=f"membrane IoU of {values['name']} beside {rival}, on sections neither has seen")
    table.add_column("volume")
    for column in ("sections", "blocks", rival, values["name"], "difference", f"{confidence} interval", "passed"):
        table.add_column(column, justify="right")
    for volume in values["judged"]:
        first, stop = volume["sections"]
        table.add_row(
            volume["volume"],
            f"{first}-{stop - 1}",
            str(volume["blocks"]),
            f"{volume['iou_against']:.4f}",
            f"{volume['iou_candidate']:.4f}",
            f"{volume['difference']:+.4f}",
            f"{volume['low']:+.4f} to {volume['high']:+.4f}",
            "no" if volume["harm"] else "yes",
        )
    _print(table)
    if values["promoted"]:
        typer.echo(f"promoted{' by force' if values['forced'] else ''}: {values['name']} means {values['version']} now")


def show_learning_curve(values: dict[str, Any], chart: str) -> None:
    """Print the scores of a learning curve, and whether labelling more sections is worth it."""
    table = Table(title="membrane IoU on the test sections, mean and range of the trainings")
    table.add_column("sections", justify="right")
    for arm in values["arms"]:
        table.add_column(_started(arm), justify="right")
    for sections in sorted({point["sections"] for arm in values["arms"] for point in arm["points"]}):
        cells = []
        for arm in values["arms"]:
            scores = [point["iou"] for point in arm["points"] if point["sections"] == sections]
            cells.append(f"{sum(scores) / len(scores):.3f} ({min(scores):.3f} to {max(scores):.3f})")
        table.add_row(str(sections), *cells)
    _print(table)
    if values["left_out"]:
        typer.echo(values["left_out"])
    config = values["config"]
    for arm in values["arms"]:
        gain = arm["gain"]
        if gain is not None:
            interval = f"{config['confidence']:.0%} interval {gain['low']:+.3f} to {gain['high']:+.3f}"
            typer.echo(
                f"{_started(arm)}: {config['more']} more sections should give {gain['value']:+.3f} IoU ({interval})"
            )
        typer.echo(f"{_started(arm)}: {arm['verdict']}: {arm['why']}")
    typer.echo(f"chart: {chart}")


def _started(arm: dict[str, Any]) -> str:
    return "from scratch" if arm["digest"] is None else f"from {arm['start']}"


def show_label_next(values: dict[str, Any], file: str) -> None:
    """Print the sections to label first."""
    most = 10
    table = Table(title=f"sections to label first, of {len(values['sections'])}")
    table.add_column("volume")
    for column in ("section", "disagreement, bits", "membrane", "most in rows", "and columns"):
        table.add_column(column, justify="right")
    for one in values["sections"][:most]:
        (_, top, left), (_, bottom, right) = one["hottest"]["start"], one["hottest"]["stop"]
        spans = (f"{top}-{bottom - 1}", f"{left}-{right - 1}")
        numbers = (str(one["section"]), f"{one['disagreement']:.4f}", f"{one['membrane']:.0%}")
        table.add_row(one["volume"], *numbers, *spans)
    _print(table)
    typer.echo(f"all of them: {file}")


def _field_of(net: dict[str, Any]) -> str:
    return "all" if net["receptive_field_px"] is None else str(net["receptive_field_px"])


def _print(table: Table) -> None:
    Console(width=None if sys.stdout.isatty() else 110).print(table)


def exit_code_of(command: Callable[[], Any]) -> int:
    """Run a command and return its exit code; a failure is one line on stderr.

    Examples
    --------
    >>> exit_code_of(lambda: None)
    0
    """
    try:
        code = command()
    except SegemError as error:
        return _fail(str(error), 1)
    except typer.TyperException as error:
        # Without a message, the help itself was the answer and has been printed.
        return (
            _fail(f"{error.format_message().replace('Value error, ', '')} See `segem --help`.", 2) if str(error) else 2
        )
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        if os.environ.get("SEGEM_DEBUG"):
            raise
        return _fail(f"unexpected {type(error).__name__}: {error}. Fix: set SEGEM_DEBUG=1 and report the traceback", 1)
    if code == INTERRUPTED:
        # typer turns Ctrl-C into this code without a word.
        return _fail(STOPPED, INTERRUPTED)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    return code
