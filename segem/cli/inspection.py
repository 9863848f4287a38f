"""The command that looks at a source before it is ingested."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from segem.amounts import size_text
from segem.cli.command import Theme
from segem.cli.exits import refuse
from segem.cli.options import Options
from segem.cli.shared import DATA, CommonOptions, workspace_at
from segem.cli.show import show
from segem.cli.steps import IngestOptions
from segem.config import NAME_PATTERN, Url
from segem.config.inspection import InspectConfig, InspectedLabels
from segem.config.segment import BUNDLED_MODEL

if TYPE_CHECKING:
    from segem.records.inspection import InspectedLabelSource, Inspection

theme = Theme("Single steps", typer.Typer())

INGEST: Options = get_args(IngestOptions)[1]
"""The options of ingest, which inspect takes too, and of which the command is made that it proposes."""
COLUMNS, INDENT = 80, 15
_MOST_LISTED, _FEWEST = 4, 3
_MOST_CLASSES = 16
"""Labels with more values are numbers of cells rather than kinds of tissue."""
_SAYING_NOTHING = ("raw", "image", "images", "sections", "data")


@theme.command("inspect", "segem inspect stack.tif", "segem inspect stack.tif --labels truth.tif --picture stack.png")
def inspect(
    config: Annotated[InspectConfig, INGEST],
    common: CommonOptions,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--picture",
            metavar="OUT.png",
            help="Write a picture of the first, middle and last section there, with the labels.",
            rich_help_panel=DATA,
        ),
    ] = None,
) -> None:
    """Look at a stack before it is ingested: what it holds, what is doubtful, and the command to run next.

    Nothing is changed. At most 24 sections are read.
    """
    from segem.stages.volumes.inspect import inspect as stage

    found = stage(config, workspace_at(common.workspace), picture=picture)
    following = propose_look(config) if found.looks_like_labels else propose_ingest(config, found)
    if common.as_json:
        show({**found.model_dump(mode="json"), "next": " ".join(following)}, as_json=True)
    else:
        _show(found, following)
    if found.refusal is not None:
        refuse(found.refusal)


def _show(found: Inspection, following: list[str]) -> None:
    typer.echo(found.source)
    for name, text in _describe(found):
        lines = wrap(text, COLUMNS - INDENT, break_long_words=False, break_on_hyphens=False) or [""]
        typer.echo(f"  {name:<{INDENT - 2}}{lines[0]}")
        for line in lines[1:]:
            typer.echo(" " * INDENT + line)
    typer.echo("\nnext:")
    typer.echo(_fold(following))


def propose_look(config: InspectConfig) -> list[str]:
    """Return the words of the command that looks at an image with what looks like its labels."""
    return ["segem", "inspect", "IMAGE", "--labels", _shortest(config.source)]


def propose_ingest(config: InspectConfig, found: Inspection) -> list[str]:
    """Return the words of the command that ingests what was inspected; what is still to be said is in capitals.

    Parameters
    ----------
    config : InspectConfig
        What was given to inspect: it is given to ingest too.
    found : Inspection
        What was found.
    """
    stated = (found.voxel.z_nm, found.voxel.y_nm, found.voxel.x_nm) if found.voxel else (None, None, None)
    # What the source states need not be said again; but where it states a part, all must be said.
    voxel = ",".join(axis if size is None else _say_nm(size) for axis, size in zip("ZYX", stated, strict=True))
    told = dict.fromkeys(found.tentative, "VALUE") | {
        "name": config.name or _name_after(config.source),
        "voxel_nm": config.voxel_nm or (voxel if None in stated else None),
        "labels.membrane": _name_membrane(config.labels),
    }
    words = ["segem", "ingest", _shortest(config.source)]
    positional = {option if isinstance(option, str) else option.key for option in INGEST.arguments}
    for option in INGEST:
        if option.key in positional:
            continue
        value, default = _setting(config, option.key)
        value = told.get(option.key, value if value != default else None)
        if value is True:
            words.append(option.flag)
        elif value is not None and value is not False:
            words += [option.flag, _typed(value)]
    return words


def _name_membrane(labels: InspectedLabels | None) -> Any:
    if labels is None:
        return None
    # Which may be 0.
    return "VALUE" if labels.membrane is None else labels.membrane


def _setting(config: Any, key: str) -> tuple[Any, Any]:
    """Return the value of a setting and its default; of one of an absent group, nothing."""
    first, _, rest = key.partition(".")
    value = getattr(config, first)
    if rest:
        return (None, None) if value is None else _setting(value, rest)
    return value, type(config).model_fields[first].default


def _typed(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(f"{part:g}" if isinstance(part, float) else str(part) for part in value)
    if isinstance(value, float):
        return f"{value:g}"
    return _shortest(value) if isinstance(value, Path | Url) else shlex.quote(str(value))


def _shortest(path: Path | Url) -> str:
    """Return a source as one would type it here."""
    if isinstance(path, Url):
        return shlex.quote(path)
    relative = os.path.relpath(path)
    return shlex.quote(relative if len(relative) < len(str(path)) else str(path))


def _name_after(source: Path | Url) -> str:
    named = source
    # "raw" names nothing: the folder around it does.
    if isinstance(source, Path) and source.stem.lower() in _SAYING_NOTHING:
        named = source.parent
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", named.name.split(".")[0]).strip("-._")
    return name if re.fullmatch(NAME_PATTERN, name) else "NAME"


def _fold(words: list[str]) -> str:
    """Return a command over several lines of a shell, an option and its value never apart."""
    parts = [" ".join(words[:3])]
    for word in words[3:]:
        if word.startswith("--"):
            parts.append(word)
        else:
            parts[-1] += f" {word}"
    lines = [f"  {parts[0]}"]
    for part in parts[1:]:
        if len(lines[-1]) + len(part) + 3 <= COLUMNS:
            lines[-1] += f" {part}"
        else:
            lines[-1] += " \\"
            lines.append(f"      {part}")
    return "\n".join(lines)


def _describe(found: Inspection) -> Iterator[tuple[str, str]]:
    z, y, x = found.shape
    files = f"{found.files} file{'' if found.files == 1 else 's'}"
    yield "format", f"{found.format}, {files}, {size_text(found.stored_bytes)}" if found.files else found.format
    named = "nobody names them, taken for z, y, x" if "?" in found.axes else found.axes
    yield "axes", f"{named} ({found.axes_from})"
    if found.tentative:
        chosen = " ".join(f"--{key} {value}" for key, value in found.tentative.items())
        yield "shown with", f"{chosen}, for this look only"
    yield "shape", f"{z} section{'' if z == 1 else 's'} of {y} x {x} px, {found.dtype}"
    yield "voxel size", _describe_voxel(found)
    low, high = (found.percentiles[key] for key in ("0", "100"))
    shown = ", ".join(f"{percent} %: {found.percentiles[percent]:g}" for percent in ("1", "5", "50", "95", "99"))
    yield "intensities", f"{low:g} to {high:g}; {shown}"
    if found.outside and not found.looks_like_labels:
        yield "outside", f"{found.outside:.1%} of the pixels show no tissue"
    if found.numbers:
        gaps = f"missing between {'; '.join(found.gaps[:_MOST_LISTED])}" if found.gaps else "none missing"
        yield "numbers", f"{found.numbers[0]:g} to {found.numbers[1]:g}, {gaps}"
    yield "first", Path(found.first_section).name
    yield "last", Path(found.last_section).name
    if found.labels is not None:
        most = ", ".join(f"{value.value:g} {value.share:.1%}" for value in found.labels.values)
        more = found.labels.distinct - len(found.labels.values)
        yield (
            "labels",
            f"{found.labels.dtype}, {found.labels.distinct} values: {most}{f', {more} more' if more else ''}",
        )
        if found.labels.membrane_share is not None:
            yield "membrane", f"{found.labels.membrane_share:.1%} of what is labelled"
        else:
            yield "membrane", f"not said: give {_say_choice(found.labels)}"
    if found.looks_like_labels:
        # Its quality as tissue, and how long a model takes, would only mislead.
        yield from (("warning", warning) for warning in found.warnings[:_MOST_LISTED])
        if found.picture:
            yield "picture", found.picture
        return
    of = "all" if len(found.sampled) == z else f"{len(found.sampled)} of {z}"
    if len(found.sampled) < _FEWEST:
        yield "quality", "too few sections to compare"
    elif not found.flags:
        yield "quality", f"no section stands out ({of} sections looked at)"
    for turn, flag in enumerate(found.flags[:_MOST_LISTED]):
        yield "" if turn else "quality", f"section {flag.section}: {flag.reason}"
    if len(found.flags) > _MOST_LISTED:
        yield "", f"and {len(found.flags) - _MOST_LISTED} more ({of} sections looked at)"
    for warning in found.warnings[:_MOST_LISTED]:
        yield "warning", warning
    yield "job", _describe_job(found)
    if found.picture:
        yield "picture", found.picture


def _describe_voxel(found: Inspection) -> str:
    voxel = found.voxel
    if voxel is None:
        said = f"{found.unitless} is stated without a unit" if found.unitless else "not stated"
        return f"{said}: give --voxel-nm Z,Y,X"
    sizes = " x ".join("?" if size is None else _say_nm(size) for size in (voxel.z_nm, voxel.y_nm, voxel.x_nm))
    missing = [axis for axis, size in zip("ZYX", (voxel.z_nm, voxel.y_nm, voxel.x_nm), strict=True) if size is None]
    lacking = f"; {' and '.join(missing)} not stated: give --voxel-nm Z,Y,X" if missing else ""
    offset = "" if found.offset_nm is None else f"; starts at {', '.join(f'{n:g}' for n in found.offset_nm)} nm"
    return f"{sizes} nm ({voxel.origin}){lacking}{offset}"


def _say_nm(size: float) -> str:
    """Return a size as one would write it: that a source states 6.00002, its unit and its factor have left over."""
    near = round(size, 3)
    return f"{near:g}" if abs(near - size) < 1e-5 * size else f"{size:g}"


def _say_choice(labels: InspectedLabelSource) -> str:
    """Return how to say what is membrane."""
    if labels.distinct > _MOST_CLASSES:
        return "--membrane borders, with --border-nm and --zero-means, if each cell has a number of its own"
    return "--membrane and the value, or several; the picture shows where they are"


def _describe_job(found: Inspection) -> str:
    job = found.estimate
    tight = "" if job.volume_bytes + job.run_bytes < job.free_bytes else "; THAT IS TOO LITTLE"
    return (
        f"estimated: ingest {_duration(job.ingest_seconds)} and {size_text(job.volume_bytes)}; segment "
        f"{_duration(job.segment_seconds)} by {BUNDLED_MODEL}, at most {size_text(job.run_bytes)}; "
        f"{size_text(job.free_bytes)} are free{tight}"
    )


def _duration(seconds: float) -> str:
    if seconds < 1:
        return "1 s"
    return f"{seconds:.0f} s" if seconds < 120 else str(timedelta(minutes=round(seconds / 60)))[:-3] + " h"
