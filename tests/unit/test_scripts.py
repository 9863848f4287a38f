"""The scripts beside the code, which no other test runs: they parse, and name files that exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = [ROOT / ".ci" / name for name in ("run", "proof", "programs", "vendor")]


def test_every_script_is_looked_at() -> None:
    assert {path for path in (ROOT / ".ci").iterdir() if path.is_file()} == set(SCRIPTS)


@pytest.mark.parametrize("script", [path for path in SCRIPTS if "bash" in path.read_text().splitlines()[0]])
def test_a_script_parses(script: Path) -> None:
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_proofs_are_of_tests_that_exist() -> None:
    named = re.findall(r"\btests/[\w/.]+", (ROOT / ".ci" / "proof").read_text())
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_no_file_holds_two_versions_of_a_line() -> None:
    marks = re.compile(rf"^({'<' * 7}|{'>' * 7}) ", re.MULTILINE)
    folders = [ROOT / name for name in (".ci", "benchmarks", "data", "docs", "flows", "segem", "tests")]
    texts = [path for folder in folders for path in folder.rglob("*") if path.suffix in ("", ".py", ".md", ".yaml")]
    texts += [path for path in ROOT.iterdir() if path.suffix in ("", ".md", ".toml", ".txt", ".yaml")]
    found = [path for path in texts if path.is_file()]
    assert len(found) > 500
    assert [path for path in found if marks.search(path.read_text(encoding="utf-8", errors="replace"))] == []
