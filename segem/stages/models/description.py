"""The description of a model in a bioimage.io package: for programs, and a page for people."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

import segem
from segem.config import NAME_PATTERN
from segem.errors import ModelError
from segem.geometry import around, round_up
from segem.learn.artefact import CARD, WEIGHTS, Artefact, geometry_of
from segem.learn.models.registry import spec_of
from segem.learn.models.spec import Geometry

RECORD, README, COVER, INPUT, OUTPUT = "weights.torchscript.pt", "README.md", "cover.png", "input.npy", "output.npy"
FORMAT = "0.5.12"


def parse_spdx(licence: str) -> str:
    """Return the SPDX identifier that a licence begins with.

    Examples
    --------
    >>> parse_spdx("CC BY-NC-SA 3.0: trained on non-commercial data"), parse_spdx("MIT")
    ('CC-BY-NC-SA-3.0', 'MIT')

    Raises
    ------
    ModelError
        When it begins with none.
    """
    found = licence.partition(":")[0].strip().replace(" ", "-")
    if not re.fullmatch(NAME_PATTERN, found):
        raise ModelError(
            "others must know on what terms they may use the model",
            expected="the SPDX identifier of a licence",
            found=repr(licence[:100]),
            fix="name it, as in --licence CC-BY-4.0 (https://spdx.org/licenses)",
        )
    return found


def parse_citations(*sources: str) -> list[dict[str, str]]:
    """Return the publications in texts that give a DOI or an arXiv number, once each.

    Examples
    --------
    >>> text = "Gerhard et al. 2013, doi:10.6084/m9.figshare.856713; a note"
    >>> parse_citations(text, "Long et al. 2015, arXiv:1411.4038")[1]
    {'text': 'Long et al. 2015', 'doi': '10.48550/arXiv.1411.4038'}
    """
    found = {}
    for part in (part.strip() for source in sources for part in source.split(";")):
        doi, arxiv = re.search(r"10\.\d{4,9}/\S+", part), re.search(r"arXiv:(\d{4}\.\d{4,5})", part)
        number = doi[0].rstrip(".,") if doi else f"10.48550/arXiv.{arxiv[1]}" if arxiv else None
        if number is not None:
            text = re.split(r",?\s*(?:doi:|arXiv:|https?:|10\.\d{4})", part)[0]
            found[number] = {"text": text or number, "doi": number}
    return list(found.values())


def find_least_px(geometry: Geometry) -> int:
    """Return the smallest edge that leaves a core within the halo.

    Examples
    --------
    >>> find_least_px(Geometry(16, 96, 1)), find_least_px(Geometry(8, None, 1))
    (208, 8)
    """
    return round_up(2 * (geometry.halo_px or 0) + 1, geometry.stride_px)


def describe_package(
    model: Artefact, licence: str, authors: tuple[str, ...], sha256: dict[str, str], torch: str
) -> dict[str, Any]:
    """Return the content of ``rdf.yaml``.

    Parameters
    ----------
    model : Artefact
        The model.
    licence : str
        SPDX identifier.
    authors : tuple of str
        Whom to ask.
    sha256 : dict of str to str
        Digest of each file of the package.
    torch : str
        The version that recorded the net.
    """
    card, spec, geometry = model.card, spec_of(model.card.architecture), geometry_of(model.card)

    def file(name: str) -> dict[str, str]:
        return {"source": name, "sha256": sha256[name]}

    return {
        "format_version": FORMAT,
        "type": "model",
        "name": f"Neural membranes in EM ({card.name.replace('.', '-')})",
        "description": "Probability of neural membrane in sections of electron microscopy: "
        f"{spec.summary}, trained and exported by segem.",
        "authors": [{"name": name} for name in authors],
        "license": licence,
        "cite": parse_citations(card.citation, spec.source),
        "tags": ["electron-microscopy", "membrane", "neurons", "semantic-segmentation", "2d", "pytorch", "segem"],
        "documentation": file(README),
        "covers": [file(COVER)],
        "inputs": [_input(geometry, file(INPUT))],
        "outputs": [_output(geometry, file(OUTPUT))],
        "weights": {"torchscript": file(RECORD) | {"pytorch_version": torch}},
        "attachments": [file(WEIGHTS), file(CARD)],
        "config": {"segem": {"version": segem.__version__, "digest": model.digest, "threshold": card.threshold}},
    }


def _input(geometry: Geometry, test: dict[str, str]) -> dict[str, Any]:
    def space(axis: str) -> dict[str, Any]:
        size = {"min": find_least_px(geometry), "step": geometry.stride_px}
        # A net that sees all of its input gives other values for each part of a section than for the whole.
        return {"type": "space", "id": axis, "size": size, "concatenable": geometry.halo_px is not None}

    sections = [f"section{offset:+d}" if offset else "section" for offset in around(geometry.context_sections)]
    return {
        "id": "raw",
        "description": "Grey levels of a section, and of its neighbours where there are several channels",
        "axes": [
            {"type": "batch"},
            {
                "type": "channel",
                "id": "channel",
                "channel_names": sections,
                "description": "Adjacent sections by rising z; the one in the middle is segmented",
            },
            space("y"),
            space("x"),
        ],
        "data": {"type": "float32"},
        "preprocessing": [
            # With "batch", the statistics are those of all the data, as segem takes them of a whole volume.
            {"id": "zero_mean_unit_variance", "kwargs": {"axes": ["batch", "channel", "y", "x"]}}
        ],
        "test_tensor": test,
    }


def _output(geometry: Geometry, test: dict[str, str]) -> dict[str, Any]:
    halo = {"halo": geometry.halo_px} if geometry.halo_px else {}
    return {
        "id": "membrane",
        "description": "Probability of membrane, 0 to 1, of the section in the middle",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "id": "channel", "channel_names": ["membrane"]},
            *({"type": "space", "id": a, "size": {"tensor_id": "raw", "axis_id": a}, **halo} for a in "yx"),
        ],
        "data": {"type": "float32", "range": [0, 1]},
        "postprocessing": [{"id": "sigmoid"}],
        "test_tensor": test,
    }


def render_readme(model: Artefact, licence: str) -> str:
    """Return the content of ``README.md``."""
    # Text for people, not HTML, so nothing is escaped.
    environment = Environment(autoescape=False, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)  # noqa: S701
    environment.filters["span"] = lambda sections: f"{sections[0]} to {sections[1] - 1}"
    template = environment.from_string(
        files("segem.stages.models").joinpath("templates/model.md.j2").read_text("utf-8")
    )
    return template.render(
        card=model.card,
        geometry=geometry_of(model.card),
        paper=spec_of(model.card.architecture).source,
        licence=licence,
        segem=segem.__version__,
        record=RECORD,
        weights=WEIGHTS,
        facts=CARD,
    )
