"""What a learning curve leaves on disk: the scores of its trainings, and what they say."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from segem.config import check_name
from segem.errors import ConfigError, WorkspaceError
from segem.io.files import disk_errors
from segem.io.workspace import Workspace
from segem.records.learning_curve import Kept, LearningCurveResult

FOLDER, CURVE, CHART = "learning-curve", "learning-curve.json", "learning-curve.svg"
POINTS, RANKING = "points.json", "label-next.json"
"""The folder below that of the model, and the files in it."""


def home_of(name: str, workspace: Workspace) -> Path:
    """Return the folder of a learning curve; it is not listed as a model."""
    return workspace.models / check_name(name, "model") / FOLDER


def load_learning_curve(name: str, workspace: Workspace) -> LearningCurveResult:
    """Read the finished curve of that name.

    Raises
    ------
    ConfigError
        When there is none.
    WorkspaceError
        When it cannot be read.
    """
    path = home_of(name, workspace) / CURVE
    if not path.is_file():
        raise ConfigError(
            "no finished learning curve", where=path, fix=f"run `segem learning-curve MANIFEST --out {name}` first"
        )
    try:
        with disk_errors(path):
            return LearningCurveResult.model_validate_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(path, error) from None


def kept_points(home: Path, identity: str) -> Kept:
    """Read the finished trainings of a curve, if there are any.

    Raises
    ------
    ConfigError
        When they are those of another curve.
    WorkspaceError
        When they cannot be read.
    """
    path = home / POINTS
    if not path.is_file():
        return Kept(identity=identity)
    try:
        with disk_errors(path):
            kept = Kept.model_validate_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(path, error) from None
    if kept.identity != identity:
        raise ConfigError(
            "a learning curve of other settings, sections or versions has this name",
            where=home,
            fix="give another --out, or remove this folder if it is no longer needed",
        )
    return kept


def _damaged(path: Path, error: ValueError) -> WorkspaceError:
    reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
    return WorkspaceError(
        "the file cannot be read",
        where=path,
        found=reason,
        fix="remove its folder and run `segem learning-curve` again",
    )
