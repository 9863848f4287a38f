"""The notebooks of the documentation run from their first cell to their last."""

from __future__ import annotations

import re
from ast import literal_eval
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from traitlets.config import Config

START = Path(__file__).resolve().parents[2] / "docs" / "start"
NOTEBOOKS = sorted(START.glob("*.ipynb"))


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(START / name, as_version=4)


def run(notebook: nbformat.NotebookNode, folder: Path) -> list[Any]:
    """Execute a notebook and return its outputs."""
    # Over files instead of ports: nothing listens.
    over_files = Config({"AsyncKernelManager": {"transport": "ipc", "ip": str(folder / "kernel")}})
    resources = {"metadata": {"path": str(folder)}}
    done = NotebookClient(notebook, timeout=600, resources=resources, config=over_files).execute()
    return [output for cell in done.cells for output in cell.get("outputs", [])]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_stored_without_outputs(path: Path) -> None:
    nbformat.validate(read(path.name))
    for cell in read(path.name).cells:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None


@pytest.mark.slow
def test_the_notebook_of_the_steps_runs(tmp_path: Path) -> None:
    shown = run(read("segem.ipynb"), tmp_path)
    texts = [output["data"]["text/plain"] for output in shown if "data" in output]
    assert "(0, 1)" in texts, "nothing is computed twice"
    assert any("image/png" in output.get("data", {}) for output in shown), "a section is seen"
    assert any("no such volume" in text for text in texts)


@pytest.mark.slow
def test_the_notebook_of_the_zoo_runs(tmp_path: Path) -> None:
    notebook = read("zoo.ipynb")
    (place,) = [at for at, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", [])]
    # So short that nothing is learned: here all that counts is that everything is called as it wants to be.
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell("STEPS, VGG_STEPS, CROP_PX, SIZE_PX = 2, 2, 32, 96"))
    shown = run(notebook, tmp_path)

    data = [output["data"] for output in shown if "data" in output]
    (told,) = [literal_eval(one["text/plain"]) for one in data if "IoU by hand" in one["text/plain"]]
    assert 0 < told["IoU by hand"] == told["IoU by segem"] < 1
    speeds, scores = (one["text/markdown"] for one in data if "text/markdown" in one)
    rates = [float(rate.replace(",", "")) for rate in re.findall(r"^\| [a-z].*? \| ([\d,]+) \|", speeds, re.MULTILINE)]
    # Measured one after the other on a busy machine, and hundreds of times apart.
    assert min(rates[2:]) > 10 * max(rates[:2]), "windows one by one are slow"
    # Every score is a number, and the systems come in the order of the lecture.
    rows = re.findall(r"^\| `(\S+)` .* \| (0\.\d{3}) \| ([01]\.\d{3}) \|$", scores, re.MULTILINE)
    lecture = "kmeans patchnet fullres segnet unet fcn32s fcn16s fcn8s fcn-modified deeplab-v1 deeplab-v1-msc"
    lecture += " crf deeplab-v2-vgg deeplab-v3-resnet50"
    assert [name for name, *_ in rows] == lecture.split()
    assert sum("image/png" in one for one in data) == 14
