"""The notebook of the documentation runs from its first cell to its last."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from traitlets.config import Config

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "start" / "segem.ipynb"


def notebook() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_the_notebook_is_stored_without_outputs() -> None:
    nbformat.validate(notebook())
    for cell in notebook().cells:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path) -> None:
    # Over files instead of ports: nothing listens.
    over_files = Config({"AsyncKernelManager": {"transport": "ipc", "ip": str(tmp_path / "kernel")}})
    folder = {"metadata": {"path": str(tmp_path)}}
    done = NotebookClient(notebook(), timeout=600, resources=folder, config=over_files).execute()
    shown = [output for cell in done.cells for output in cell.get("outputs", [])]
    texts = [output["data"]["text/plain"] for output in shown if "data" in output]
    assert "(0, 1)" in texts, "nothing is computed twice"
    assert any("image/png" in output.get("data", {}) for output in shown), "a section is seen"
    assert any("no such volume" in text for text in texts)
