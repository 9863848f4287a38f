"""What the command line says: results and tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import typer
from pydantic import BaseModel
from rich.table import Table

from segem.amounts import size_text, time_text
from segem.cli.exits import complain
from segem.cli.tables import print_table
from segem.geometry import name_sections
from segem.learn.processor import NO_BYTE_UNITS

if TYPE_CHECKING:
    # What is shown is made by stages that load torch; `segem --help` does not wait for that.
    from segem.io.retention import OldRun
    from segem.io.runs import RunSummary
    from segem.records.forecast import CampaignForecast
    from segem.records.label_next import LabelNext
    from segem.records.learning_curve import Arm, LearningCurveResult
    from segem.records.promotion import DifferenceInterval, Promotion, ScorePair
    from segem.records.scores import Report, VolumeScores
    from segem.stages.models.catalogue import Architecture, TrainedModel
    from segem.stages.models.zoo import Explanation
    from segem.stages.segmentation.bench import BenchResult
    from segem.stages.volumes.public_sets import PublicSet


def show(result: object, as_json: bool, *, run: str | None = None) -> None:
    """Print a result for people, a line for each fact, or as JSON.

    Parameters
    ----------
    result : record, dataclass or mapping
        What to print.
    as_json : bool
        For programs.
    run : str, optional
        The run it belongs to, printed first.
    """
    values: Mapping[str, Any] = _plain(result)
    if run is not None:
        values = {"run": run, **values}
    if as_json:
        typer.echo(json.dumps(values, default=_plain, indent=2))
        return
    for key, value in values.items():
        # A mapping is detail for programs; what matters to people has a line of its own.
        if value in (None, [], (), "") or isinstance(value, dict):
            continue
        for item in value if isinstance(value, (list, tuple)) and isinstance(value[0], (BaseModel, str)) else [value]:
            facts = item.model_dump() if isinstance(item, BaseModel) else None
            typer.echo(f"{key}: {', '.join(f'{k} {v}' for k, v in facts.items()) if facts else item}")


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return value if isinstance(value, Mapping) else str(value)


def show_scores(report: Report) -> None:
    """Print the scores of a run, a row for each volume."""
    table = Table(title=f"membrane IoU, run {report.run}")
    names = {volume.baseline.name for volume in report.volumes if volume.baseline}
    table.add_column("volume")
    for column in ("sections", names.pop() if len(names) == 1 else "baseline", "model", "V_rand", "V_info"):
        table.add_column(column, justify="right")
    for volume in report.volumes:
        table.add_row(volume.name, "-" if volume.sections is None else str(volume.sections), *_scores_of(volume))
    print_table(table)


def show_forecast(forecast: CampaignForecast) -> None:
    """Print what a campaign is expected to take, a row for each volume."""
    table = Table(title=f"forecast of {forecast.run}, where nothing is finished yet")
    table.add_column("volume")
    for column in ("sections", "tried", "time", "disk", "peak memory"):
        table.add_column(column, justify="right")
    for volume in forecast.volumes:
        if volume.seconds is None or volume.disk_bytes is None or volume.memory_bytes is None:
            table.add_row(volume.name, *["-"] * 5)
            continue
        took = (time_text(volume.seconds), size_text(volume.disk_bytes), size_text(volume.memory_bytes))
        table.add_row(volume.name, str(volume.sections), str(volume.tried), *took)
    print_table(table)
    typer.echo(
        f"in all: {time_text(forecast.seconds)} one after the other, {time_text(forecast.start_seconds)} of them to "
        f"start; {size_text(forecast.disk_bytes)} of {size_text(forecast.free_bytes)} free; "
        f"{size_text(forecast.memory_bytes)} of memory"
    )


def show_verdict(report: Report) -> None:
    """Print what is decided about each volume of a run, and about the run, and what its review says."""
    from segem.stages.reporting.reviewed import list_findings

    for volume in report.volumes:
        if volume.verdict is not None:
            typer.echo(volume.verdict.sentence)
    if report.verdict is not None:
        typer.echo(f"verdict: {report.verdict.sentence}")
    if report.review is not None:
        typer.echo(f"review: {report.review.entries} entries, head {report.review.digest}")
    for sentence in list_findings(report.reviewing):
        typer.echo(sentence)


def _scores_of(volume: VolumeScores) -> tuple[str, ...]:
    if volume.iou is None:
        return "-", volume.note or volume.state, "-", "-"
    return tuple(_score(value) for value in (volume.iou.baseline, volume.iou.model, volume.v_rand, volume.v_info))


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def show_speeds(bench: BenchResult) -> None:
    """Print what ``segem bench`` measured."""
    shape = " x ".join(map(str, bench.shape))
    table = Table(title=f"{bench.model} on {bench.cores} cores, sections of {bench.size_px} px")
    table.add_column("runtime")
    for column in ("megapixels/s", "start-up", f"a volume of {shape}"):
        table.add_column(column, justify="right")
    for speed in bench.runtimes:
        rate, startup, expected = speed.megapixels_per_second, speed.startup_seconds, speed.expected_seconds
        if rate is None or startup is None or expected is None:
            table.add_row(speed.runtime, "-", "-", "not available")
        else:
            table.add_row(speed.runtime, f"{rate:.2f}", f"{startup:.1f} s", str(timedelta(seconds=round(expected))))
    print_table(table)
    for speed in bench.runtimes:
        if speed.unavailable:
            typer.echo(f"{speed.runtime}: {speed.unavailable}")
    if bench.byte_units == ():
        typer.echo(NO_BYTE_UNITS)
    before, after = bench.gemm_gflops
    typer.echo(f"matrix multiplication: {before:.0f} Gflop/s before, {after:.0f} after")
    if after < 0.9 * before:
        typer.echo("The machine was busier at the end than at the start: treat these figures with care, or repeat.")


def show_architectures(nets: Sequence[Architecture]) -> None:
    """Print the architectures of the zoo, with their speed where one was measured."""
    measured = any(net.megapixels_per_second or net.not_measured for net in nets)
    table = Table(title="architectures, with their default options")
    table.add_column("name", no_wrap=True)
    table.add_column("source")
    for column in ("parameters", "GFLOP/Mpx", "output stride", "field, px", *(["Mpx/s"] if measured else [])):
        table.add_column(column, justify="right")
    for net in nets:
        cells = [f"{net.parameters:,}", f"{net.gflop_per_megapixel:.1f}", str(net.output_stride), _field_of(net)]
        if measured:
            cells.append(f"{net.megapixels_per_second:.2f}" if net.megapixels_per_second else "-")
        table.add_row(net.name, net.source, *cells)
    print_table(table)
    typer.echo("A multiplication with an addition counts as 2 FLOP.")
    if measured:
        typer.echo("Mpx/s: one tile of 512 x 512 by one thread, median of 3.")
    for net in nets:
        if net.not_measured:
            typer.echo(f"{net.name}: not measured, {net.not_measured}")


def show_architecture(explanation: Explanation) -> None:
    """Print what an architecture is, what it costs and which options it has."""
    net = explanation.architecture
    typer.echo(f"{net.name}: {net.summary}\nsource: {net.source}\n\n{explanation.about}\n")
    halo = "the whole section" if net.halo_px is None else f"{net.halo_px} px"
    typer.echo(f"parameters: {net.parameters:,}")
    typer.echo(f"cost: {net.gflop_per_megapixel:.1f} GFLOP a megapixel")
    typer.echo(f"output stride: {net.output_stride}")
    typer.echo(f"field of view: {_field_of(net)} px")
    typer.echo(f"halo for exact tiles: {halo}; tiles start at multiples of {net.stride_px} px\n")
    table = Table(title="options")
    for column in ("option", "default", "allowed", "meaning"):
        table.add_column(column)
    for option in explanation.options:
        table.add_row(option.name, str(option.default), option.allowed, option.meaning)
    print_table(table)


def _field_of(net: Architecture) -> str:
    return "all" if net.receptive_field_px is None else str(net.receptive_field_px)


def show_models(models: Sequence[TrainedModel]) -> None:
    """Print the trained models, each with its scores on held-out sections."""
    table = Table(title="trained models")
    for column in ("name", "architecture", "scored on"):
        table.add_column(column)
    for column in ("IoU", "V_rand", "ECE"):
        table.add_column(column, justify="right")
    for model in models:
        names = (model.name, model.architecture or "unreadable")
        for score in model.scores:
            found = (_score(value) for value in (score.iou, score.v_rand, score.ece))
            table.add_row(*names, f"{score.volume} {_span(*score.sections)}", *found)
            names = ("", "")
        if not model.scores:
            table.add_row(*names, "-", "-", "-", "-")
    print_table(table)
    for model in models:
        stands = f" ({model.standing})" if model.standing else ""
        typer.echo(f"{model.name}: {model.unreadable or model.path}{stands}")


def _span(first: int, stop: int) -> str:
    return str(first) if stop - first == 1 else f"{first}-{stop - 1}"


def show_promotion(decided: Promotion, as_json: bool) -> None:
    """Print how a candidate compares with the incumbent, volume by volume, and the decision.

    Raises
    ------
    typer.Exit
        When it is kept aside, after one error line for each volume that speaks against it.
    """
    show(decided, as_json=True) if as_json else _show_judged(decided)
    if not decided.promoted:
        faults = ((volume.volume, volume.harm) for volume in decided.judged if volume.harm)
        complain((f"{decided.name} is kept aside, {name}", harm) for name, harm in faults)


def _show_judged(decided: Promotion) -> None:
    rival = _incumbent_of(decided) or "K-means"
    table = Table(title=f"{decided.name} beside {rival}")
    for column in ("volume", "score"):
        table.add_column(column)
    for column in ("sections", "blocks", rival, decided.name, "difference", f"{decided.gate.confidence:.0%} interval"):
        table.add_column(column, justify="right")
    table.add_column("passed")
    for volume in decided.judged:
        passed = "no" if volume.harm else "yes"
        scores = (
            ("IoU", volume.iou, volume.iou_interval),
            ("V_rand", volume.v_rand, volume.v_rand_interval),
            ("V_info", volume.v_info, None),
        )
        for name, pair, interval in scores:
            first = (volume.volume, name, _span(*volume.sections)) if name == "IoU" else ("", name, "")
            table.add_row(*first, *_compared(pair, interval), passed if name == "IoU" else "")
    print_table(table)
    typer.echo(f"The interval of V_rand is that of its difference within blocks of {decided.gate.block_px} px.")
    for line in _caveats_of(decided):
        typer.echo(line)
    if decided.promoted:
        forced = " by force" if decided.forced else ""
        typer.echo(f"promoted{forced}: {decided.name} now refers to version {decided.version}")


def _compared(pair: ScorePair | None, interval: DifferenceInterval | None) -> tuple[str, ...]:
    blocks, ends = (
        ("-", "-") if interval is None else (str(interval.blocks), f"{interval.low:+.4f} to {interval.high:+.4f}")
    )
    if pair is None:
        return blocks, "-", "-", "-", ends
    return blocks, f"{pair.incumbent:.4f}", f"{pair.candidate:.4f}", f"{pair.difference:+.4f}", ends


def _incumbent_of(decided: Promotion) -> str | None:
    if decided.incumbent is None:
        return None
    return decided.incumbent.name + (" (before)" if decided.incumbent.name == decided.name else "")


def _caveats_of(decided: Promotion) -> Iterator[str]:
    incumbent = _incumbent_of(decided)
    names = {"candidate": decided.name} | ({"incumbent": incumbent} if incumbent else {})
    clean = [name for side, name in names.items() if side not in decided.unknown_origin]
    if len(clean) == 2:
        yield "Neither model was trained on these sections or had its threshold chosen on them."
    elif clean:
        yield f"{clean[0]} was not trained on these sections, nor was its threshold chosen on them."
    for side in decided.unknown_origin:
        yield f"The card of {names[side]} does not say what it was trained on: it may have seen these sections."
    for volume in decided.judged:
        calibrated = {decided.name: volume.candidate_calibrated_on, incumbent: volume.incumbent_calibrated_on}
        for name, sections in calibrated.items():
            if sections:
                where = f"{name_sections(sections)} of {volume.volume}"
                yield f"{name} was calibrated on {where}: that changed its probabilities, not its mask."


def show_learning_curve(found: LearningCurveResult, chart: str) -> None:
    """Print the scores of a learning curve, and whether labelling more sections is worth it."""
    table = Table(title="membrane IoU on the test sections: mean and range over repeated trainings")
    table.add_column("sections", justify="right")
    for arm in found.arms:
        table.add_column(_started(arm), justify="right")
    for sections in sorted({point.sections for arm in found.arms for point in arm.points}):
        cells = []
        for arm in found.arms:
            scores = [point.iou for point in arm.points if point.sections == sections]
            cells.append(f"{sum(scores) / len(scores):.3f} ({min(scores):.3f} to {max(scores):.3f})")
        table.add_row(str(sections), *cells)
    print_table(table)
    if found.left_out:
        typer.echo(found.left_out)
    for arm in found.arms:
        if arm.gain is not None:
            interval = f"{found.config.confidence:.0%} interval {arm.gain.low:+.3f} to {arm.gain.high:+.3f}"
            more = f"{found.config.more} more sections should give {arm.gain.value:+.3f} IoU"
            typer.echo(f"{_started(arm)}: {more} ({interval})")
        typer.echo(f"{_started(arm)}: {arm.verdict}: {arm.why}")
    typer.echo(f"chart: {chart}")


def _started(arm: Arm) -> str:
    return "from scratch" if arm.digest is None else f"from {arm.start}"


def show_label_next(found: LabelNext, file: str) -> None:
    """Print the sections to label first."""
    most = 10
    table = Table(title=f"sections to label first, of {len(found.sections)}")
    table.add_column("volume")
    for column in ("section", "disagreement, bits", "membrane", "strongest in rows", "columns"):
        table.add_column(column, justify="right")
    for one in found.sections[:most]:
        (_, top, left), (_, bottom, right) = one.hottest.start, one.hottest.stop
        numbers = (str(one.section), f"{one.disagreement:.4f}", f"{one.membrane:.0%}")
        table.add_row(one.volume, *numbers, f"{top}-{bottom - 1}", f"{left}-{right - 1}")
    print_table(table)
    typer.echo(f"full list: {file}")
    for volume in dict.fromkeys(one.volume for one in found.sections[:most]):
        typer.echo(f"label them: segem review --label {volume} --next {found.name} --manifest {volume}-labels.yaml")


def show_runs(runs: Sequence[RunSummary]) -> None:
    """Print the runs of a workspace, and why the record of one cannot be read."""
    table = Table(title="runs")
    for column in ("run", "started (UTC)", "state", "volumes done", "model"):
        table.add_column(column, justify="right" if column == "volumes done" else "left")
    for run in runs:
        started = run.created[:16].replace("T", " ") or "-"
        table.add_row(run.run, started, run.state, f"{run.done} of {run.volumes}", run.model or "-")
    print_table(table)
    for run in runs:
        if run.reason:
            typer.echo(f"{run.run}: {run.reason}")


def show_old_runs(runs: Sequence[OldRun]) -> None:
    """Print the runs that are old enough to be removed, and why some of them stay."""
    if not runs:
        typer.echo("no run is that old")
        return
    table = Table(title="old runs")
    for column in ("run", "last written (UTC)", "size", "to be removed"):
        table.add_column(column, justify="right" if column == "size" else "left")
    for run in runs:
        table.add_row(
            run.run, f"{run.used:%Y-%m-%d %H:%M}", size_text(run.bytes), f"no: {run.kept}" if run.kept else "yes"
        )
    print_table(table)
    going = [run for run in runs if not run.kept]
    typer.echo(f"{len(going)} to be removed, {size_text(sum(run.bytes for run in going))}")


def show_public_sets(sets: Sequence[PublicSet]) -> None:
    """Print the public data sets that can be downloaded."""
    table = Table(title="public data sets")
    table.add_column("name")
    table.add_column("what")
    for column in ("MB", "voxel, nm"):
        table.add_column(column, justify="right")
    for column in ("licence", "checked by"):
        table.add_column(column)
    for each in sets:
        size, voxel = "-" if each.megabytes is None else str(each.megabytes), ",".join(f"{n:g}" for n in each.voxel_nm)
        table.add_row(each.name, each.what, size, voxel, each.licence, each.checked_by)
    print_table(table)
    typer.echo(
        "Voxels are z,y,x. `segem data get NAME --to FOLDER` says what is labelled and what to cite, and downloads."
    )
