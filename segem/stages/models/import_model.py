"""Imports a model from others: numbers and facts, never code."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.config import parse
from segem.errors import ConfigError, ModelError
from segem.io.files import disk_errors, locked, new_directory, sweep_partials, write_text
from segem.io.package import Package, opened, refuse_harmful
from segem.io.versions import name_new_version
from segem.io.workspace import Workspace
from segem.learn.artefact import CARD, WEIGHTS, list_models, load_artefact, save_artefact
from segem.learn.exchange import fitted_net
from segem.learn.models.registry import ZOO, geometry, resolved
from segem.learn.predict import predict_section
from segem.learn.tensors import read_tensors
from segem.records.card import ModelCard
from segem.stages.models.zoo import check_new_name

PLAIN = (".safetensors", ".pt", ".pth")
_AGREEMENT = 1e-3
"""Largest difference of a probability from that of the package; other machines round differently."""


@dataclass(frozen=True)
class Foreign:
    """What segem has to be told about weights that it has not trained.

    Parameters
    ----------
    architecture : str
        Name in the zoo.
    options : dict
        Its options.
    threshold : float
        Probability from which a voxel is membrane.
    licence, citation : str
        For the card; a package may state its own.
    """

    architecture: str
    options: dict[str, Any]
    threshold: float = 0.5
    licence: str = ""
    citation: str = ""


@dataclass(frozen=True)
class ImportedModel:
    """A model that was imported."""

    path: Path
    name: str
    architecture: str
    digest: str


def import_model(source: Path, name: str, workspace: Workspace, foreign: Foreign | None = None) -> ImportedModel:
    """Take a package of bioimage.io, or a file of weights, as a model of the workspace.

    A package made by segem comes back as what it was. Of another one, and of a file of weights, the architecture must
    be told, and must be one of the zoo: what else a package brings to run its net is code, and segem runs none of it.

    Parameters
    ----------
    source : Path
        A package, or weights as ``.safetensors``, ``.pt`` or ``.pth``.
    name : str
        Name of the new model.
    workspace : Workspace
        Where it is written.
    foreign : Foreign, optional
        What the weights are, where segem has not trained them.

    Raises
    ------
    ConfigError
        When there is a model of this name, or more or less is said of the weights than is needed.
    ModelError
        When the source is damaged, made to do harm, or the weights do not fit or do not give what the package says.
    WorkspaceError
        When the disk refuses.
    """
    check_new_name(name)
    with locked(workspace.models / f".{name}.lock"):
        if name in {known for known, _ in list_models(workspace)}:
            raise ConfigError("there is a model of this name", where=name, fix="give another name by --out")
        if (workspace.models / name).exists():
            raise ConfigError(
                "this name is in use by a learning curve, or by a training that did not end",
                where=workspace.models / name,
                fix="give another name by --out",
            )
        sweep_partials(workspace.models, name)
        # The folder of the model is made together with its first version, so that a refused one leaves nothing.
        with new_directory(workspace.models / name) as partial:
            version = name_new_version(partial)
            if source.suffix.lower() in PLAIN:
                _take(version, _card(name, _told(source, foreign)), _weights(source, source), source)
            else:
                with opened(source) as package:
                    _import_package(package, version, name, foreign)
    made = load_artefact(workspace.models / name / version.name)
    return ImportedModel(made.path, name, made.card.architecture, made.digest)


def _import_package(package: Package, version: Path, name: str, foreign: Foreign | None) -> None:
    said = package.description()
    attached = {str(_get(file, "source")): _digest(file) for file in _list(said.get("attachments"))}
    if not {WEIGHTS, CARD} <= attached.keys():
        _import_foreign(package, said, version, name, foreign)
        return
    if foreign is not None:
        raise ConfigError(
            "the package says itself what its weights are", where=package.path, fix="leave out --model and its options"
        )
    with _said_of(package.path, version):
        with disk_errors(version):
            version.mkdir()
        for file in (WEIGHTS, CARD):
            if attached[file] is None:
                raise ModelError("the package gives no sha256", where=package.path, found=file, fix="export it again")
            package.unpack(file, attached[file], version / file)
        card = load_artefact(version).card
        fitted_net(card.architecture, card.options, read_tensors(version / WEIGHTS), package.path)
        write_text(version / CARD, card.model_copy(update={"name": name}).model_dump_json(indent=2) + "\n")


def _import_foreign(package: Package, said: dict[str, Any], version: Path, name: str, foreign: Foreign | None) -> None:
    weights = said.get("weights")
    found = _get(weights, "pytorch_state_dict")
    if found is None:
        formats = ", ".join(map(str, weights)) if isinstance(weights, dict) else "none"
        raise ModelError(
            "the package has no weights that segem can take",
            where=package.path,
            expected="pytorch_state_dict",
            found=formats,
            fix="other kinds bring code or a graph to be run, and segem runs nothing that a package brings; ask its "
            "authors for the state dict of the net",
        )
    told = _told(package.path, foreign)
    normalisation = [
        step.get("id", step.get("name"))
        for step in _list(_get(_first(said.get("inputs")), "preprocessing"))
        if step.get("id", step.get("name")) != "ensure_dtype"
    ]
    if normalisation != ["zero_mean_unit_variance"]:
        raise ModelError(
            "the net learned from intensities that are scaled otherwise",
            where=package.path,
            expected="zero_mean_unit_variance",
            found=normalisation or "none",
            fix="segem scales by mean and deviation of the volume; train a model with `segem train`",
        )
    with disk_errors(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory() as scratch:
        state = _member(package, found, Path(scratch) / "weights.pt")
        card = _card(name, told, str(said.get("license") or ""), _citation(said))
        net = _take(version, card, _weights(state, package.path), package.path)
        image = _tensor(package, said, "input", Path(scratch))
        expected = _tensor(package, said, "output", Path(scratch))
    context = geometry(card.architecture, card.options).context_sections
    if image.ndim != 4 or len(image) != 1 or image.shape[1] != context or expected.size != image[0, 0].size:
        raise ModelError(
            "the test tensors are not those of such a net",
            where=package.path,
            expected=f"one image of {context} channels, and one channel of its size",
            found=f"{image.shape} and {expected.shape}",
            fix="name the architecture and the options that the weights were trained with",
        )
    image = (image[0] - image.mean()) / max(float(image.std()), 1e-6)
    if expected.min() < 0 or expected.max() > 1:
        expected = np.asarray(1 / (1 + np.exp(-expected)), np.float32)
    off = float(np.abs(predict_section(net, image) - expected.reshape(image.shape[1:])).max())
    if not off <= _AGREEMENT:
        raise ModelError(
            "the net does not give what the package says",
            where=package.path,
            expected=f"its test output to {_AGREEMENT}",
            found=f"{off:.2g} off",
            fix="it is another architecture, or its output is not the probability or the logit of membrane",
        )


def _take(version: Path, card: ModelCard, state: dict[str, Any], source: Path) -> Any:
    net = fitted_net(card.architecture, card.options, state, source)
    save_artefact(version, card, net)
    return net


def _weights(path: Path, source: Path) -> dict[str, Any]:
    # torch writes zip files too; whether one is damaged, or none at all, is for its loader to say.
    with suppress(OSError, zipfile.BadZipFile, NotImplementedError), zipfile.ZipFile(path) as archive:
        refuse_harmful(source, archive)
    with _said_of(source, path):
        return read_tensors(path)


def _told(source: Path, foreign: Foreign | None) -> Foreign:
    if foreign is None:
        raise ConfigError(
            "segem did not make this, and runs no code of others to find out what net it is",
            where=source,
            found=f"known architectures: {', '.join(sorted(ZOO))}",
            fix="if it is one of these, name it, as in --model unet --option features=32",
        )
    return foreign


def _card(name: str, told: Foreign, licence: str = "", citation: str = "") -> ModelCard:
    values = {
        "name": name,
        "architecture": told.architecture,
        "options": resolved(told.architecture, told.options),
        "threshold": told.threshold,
        "licence": told.licence or licence,
        "citation": told.citation or citation,
    }
    return parse(ModelCard, values, where=name)


def _citation(said: dict[str, Any]) -> str:
    entries = [(entry.get("text"), entry.get("doi")) for entry in _list(said.get("cite"))]
    return "; ".join(f"{text}, doi:{doi}" if doi else str(text) for text, doi in entries)


def _tensor(package: Package, said: dict[str, Any], which: str, scratch: Path) -> NDArray[np.float32]:
    """Return a test tensor, as descriptions 0.5 or 0.4 name it."""
    found = _get(_first(said.get(f"{which}s")), "test_tensor")
    older = said.get(f"test_{which}s")
    if found is None and isinstance(older, list) and older:
        found = {"source": older[0]}
    if found is None:
        raise ModelError(
            "nothing shows that the weights belong to this net",
            where=package.path,
            expected=f"a test tensor of the {which}",
            fix="take the file of weights out of the package and import that, if you trust it",
        )
    file = _member(package, found, scratch / f"{which}.npy")
    try:
        with file.open("rb") as opened:
            tensor = np.asarray(np.load(opened, allow_pickle=False), np.float32)
    except Exception as error:
        # numpy raises a dozen types of errors for other files, those of zip files and of Python's parser too.
        raise ModelError(
            "a test tensor cannot be read", where=package.path, found=error, fix="fetch the package again"
        ) from None
    if not tensor.size or not np.isfinite(tensor).all():
        raise ModelError("a test tensor is not finite", where=package.path, fix="fetch the package again")
    return tensor


def _member(package: Package, file: Any, into: Path) -> Path:
    package.unpack(str(_get(file, "source")), _digest(file), into)
    return into


def _digest(file: Any) -> str | None:
    found = _get(file, "sha256")
    return None if found is None else str(found)


def _list(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _first(value: Any) -> dict[str, Any]:
    return next(iter(_list(value)), {})


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


@contextmanager
def _said_of(source: Path, hidden: Path) -> Iterator[None]:
    """Let errors about an unpacked temporary file name the package instead."""
    try:
        yield
    except ModelError as error:
        if str(hidden) not in str(error.where):
            raise
        raise ModelError(error.what, where=source, expected=error.expected, found=error.found, fix=error.fix) from None
