"""A command that fails says so in one line, and by its exit code."""

from __future__ import annotations

import pytest
import typer

from segem.cli.exits import complain, exit_code_of
from segem.errors import InputError


def test_an_error_is_one_line_and_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise InputError("broken\nfile", where="a.tif", fix="mend it")

    assert exit_code_of(fail) == 1
    assert capsys.readouterr().err == "error: a.tif: broken file. Fix: mend it\n"


def test_an_unexpected_error_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(lambda: 1 / 0) == 1
    assert capsys.readouterr().err.startswith("error: unexpected ZeroDivisionError: division by zero. Fix: ")


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("No such option: --nam Did you mean --name?", "No such option: --nam Did you mean --name?"),
        ("Value error, a box has three sides", "a box has three sides."),
        (
            "Invalid value for '--channel': Input should be a valid integer, unable to parse string as an integer",
            "Invalid value for '--channel': must be a whole number.",
        ),
    ],
)
def test_a_mistake_on_the_command_line_is_said_plainly(
    capsys: pytest.CaptureFixture[str], said: str, shown: str
) -> None:
    def fail() -> None:
        raise typer.BadParameter(said) if "'" not in said else typer.TyperException(said)

    assert exit_code_of(fail) == 2
    assert shown in capsys.readouterr().err


def test_faults_are_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    complain([])
    with pytest.raises(typer.Exit):
        complain([("a", "lost"), ("b", "torn")])
    assert capsys.readouterr().err == "error: a: lost\nerror: b: torn\n"
