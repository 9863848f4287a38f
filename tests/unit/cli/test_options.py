"""Options made of configurations: what is shown of them, and what a command is given."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from pydantic import Field
from typer.testing import CliRunner

from segem.cli.options import Option, Options, Values, expanded
from segem.config import Config
from segem.errors import ConfigError


class Inner(Config):
    """A configuration within."""

    weight: float = Field(default=1.5, ge=0)
    """How much it counts."""


class Settings(Config):
    """All kinds of settings."""

    name: str
    """What it is called."""
    shape: tuple[int, int, int] = (8, 512, 512)
    """Voxels along (z, y, x)."""
    kind: Literal["near", "far"] = "near"
    """``near`` or ``far``."""
    views: Literal[1, 2, 4] = 1
    """How often."""
    size_px: int | None = Field(default=None, ge=16)
    """Edge in pixels."""
    options: dict[str, Any] = {}
    """More of it."""
    careful: bool = False
    """Whether care is taken."""
    inner: Inner = Inner()
    """What is within."""
    hidden: int = 3
    """No option."""


class Extra(Config):
    """What may be absent."""

    model: str
    """The model."""
    share: float = 0.5
    """The share."""


def settle(values: Values) -> None:
    if values.get("kind") == "far" and "shape" not in values:
        values["shape"] = (1, 1, 1)


Taken = Annotated[
    Settings,
    Options(
        {
            "": ("name",),
            "Shape": ("shape", "kind", "views", Option("size_px", "--size")),
            "Other": (Option("options", "--option"), "careful", Option("inner.weight", default="as it comes")),
        },
        settle=settle,
    ),
]


class Tool:
    """A command line of one command that keeps what it was given."""

    def __init__(self) -> None:
        self.given: list[Any] = []
        self.app = typer.Typer(rich_markup_mode="markdown")

        def command(
            file: Annotated[Path, typer.Argument(help="A file.")],
            settings: Taken,
            extra: Annotated[Extra | None, Options({"Extra": ("model", "share")})],
            force: Annotated[bool, typer.Option("--force", help="By force.")] = False,
        ) -> None:
            self.given = [file, settings, extra, force]

        self.app.command()(expanded(command, "tool"))

    def __call__(self, *words: str) -> list[Any]:
        result = CliRunner().invoke(self.app, words, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return self.given

    def refused(self, *words: str) -> str:
        with pytest.raises(ConfigError) as caught:
            CliRunner().invoke(self.app, words, catch_exceptions=False)
        return str(caught.value)


@pytest.fixture
def tool() -> Tool:
    return Tool()


def test_what_is_not_given_is_left_to_the_configuration(tool: Tool) -> None:
    file, settings, extra, force = tool("a.txt", "--name", "n")
    assert (file, settings, extra, force) == (Path("a.txt"), Settings(name="n"), None, False)
    assert settings.model_fields_set == {"name"}


def test_what_is_given_arrives_with_its_type(tool: Tool) -> None:
    words = "a.txt --name n --shape 1,2,3 --kind far --views 4 --size 32 --option depth=3 --option up=no --careful"
    _, settings, extra, force = tool(*words.split(), "--weight", "2", "--model", "m", "--force")
    assert settings == Settings(
        name="n",
        shape=(1, 2, 3),
        kind="far",
        views=4,
        size_px=32,
        options={"depth": "3", "up": "no"},
        careful=True,
        inner=Inner(weight=2),
    )
    assert (extra, force) == (Extra(model="m"), True)


def test_a_default_that_is_given_counts_as_given(tool: Tool) -> None:
    assert tool("a", "--name", "n", "--views", "1")[1].model_fields_set == {"name", "views"}


def test_options_that_hang_together_are_settled_before_they_are_checked(tool: Tool) -> None:
    assert tool("a", "--name", "n", "--kind", "far")[1].shape == (1, 1, 1)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            "--size 3",
            "tool: --size: must be greater than or equal to 16; found 3. Fix: correct --size (Edge in pixels)",
        ),
        ("--weight -1", "tool: --weight: must be greater than or equal to 0; found -1.0. Fix: correct --weight"),
        ("--views 3", "tool: --views: must be 1, 2 or 4; found 3"),
        ("--shape 1,2", "--shape needs three numbers; expected Z,Y,X, found '1,2'. Fix: for example"),
        ("--shape 1,2,x", "tool: --shape: must be a whole number; found 'x'"),
        ("--option depth", "--option needs a name and a value; expected NAME=VALUE, found 'depth'"),
        ("--share 0.1", "tool: --model is missing; found --share. Fix: add --model (The model)"),
    ],
)
def test_a_wrong_value_is_told_by_its_option(tool: Tool, words: str, told: str) -> None:
    assert tool.refused("a", "--name", "n", *words.split()).startswith(told)


def test_help_shows_panels_defaults_and_what_the_configuration_says(tool: Tool) -> None:
    text = CliRunner().invoke(tool.app, ["--help"], env={"COLUMNS": "100"}).output
    for part in ("Shape", "Other", "Extra", "8,512,512", "near or far.", "<1|2|4>", "Z,Y,X", "NAME=VALUE"):
        assert part in text
    assert "(as it comes)" in text
    assert "1.5" not in text
    assert "No option." not in text
    assert "--no-careful" not in text
