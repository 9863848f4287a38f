"""What an error says, and that it survives the way between processes."""

from __future__ import annotations

import ast
import os
import pickle
from pathlib import Path

import pytest

from segem import errors
from segem.errors import InputError, SegemError
from segem.io.run import load_run, note_failure
from segem.stages.campaign import describe_failure
from tests.fabricate import new_workspace


def test_message_names_place_expectation_finding_and_fix() -> None:
    error = InputError("wrong shape", where="a.tif", expected=(1, 2), found=(3, 4), fix="crop it")
    assert str(error) == "a.tif: wrong shape; expected (1, 2), found (3, 4). Fix: crop it"


def test_message_is_one_line() -> None:
    assert "\n" not in str(SegemError("first\nsecond", found="third\nfourth"))


def test_a_name_that_is_not_text_is_told_and_kept(tmp_path: Path) -> None:
    name = os.fsdecode(b"Pr\xe4p.tif")
    told = str(InputError("damaged", where=Path(name), expected=name, found=f"{name}: short", fix=f"export {name}"))
    assert (
        told == r"Pr\udce4p.tif: damaged; expected Pr\udce4p.tif, found Pr\udce4p.tif: short. Fix: export Pr\udce4p.tif"
    )
    for reason in (told, describe_failure(ValueError(name))):
        space = new_workspace(tmp_path)
        note_failure(space, "r", "v", reason)
        assert load_run(space, "r").volumes["v"].failure == reason


@pytest.mark.parametrize("kind", [getattr(errors, n) for n in dir(errors) if n.endswith("Error")])
def test_every_error_survives_pickling_whole(kind: type[SegemError]) -> None:
    error = kind("what", where="here", expected=1, found=2, fix="this")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == str(error)


ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for folder in ("segem", "flows") for path in (ROOT / folder).rglob("*.py"))
KINDS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, SegemError)}


def without_fix(source: str) -> list[int]:
    """Return the lines that make an error of segem without a fix; ``**more`` may hold one."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [
        call.lineno
        for call in calls
        if (call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", None)) in KINDS
        and not any(keyword.arg in ("fix", None) for keyword in call.keywords)
    ]


def test_an_error_without_a_fix_is_found() -> None:
    assert without_fix('raise InputError("no", where=1)\nraise errors.ModelError("no")') == [1, 2]
    assert without_fix('raise InputError("no", fix="do")\nraise ValueError("no")\nexcept_(InputError)') == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_error_says_what_to_do(path: Path) -> None:
    assert without_fix(path.read_text(encoding="utf-8")) == []
