"""Where a learning curve lies on disk, and how it is read back."""

from __future__ import annotations

from pathlib import Path

from segem.config import check_name
from segem.errors import ConfigError, WorkspaceError
from segem.io.files import disk_errors
from segem.io.workspace import Workspace
from segem.records.fault import describe_fault
from segem.records.learning_curve import LearningCurveResult, SavedTrials

FOLDER, CURVE, CHART = "learning-curve", "learning-curve.json", "learning-curve.svg"
POINTS, RANKING = "points.json", "label-next.json"
"""The folder below that of the model, and the files in it."""


def locate_learning_curve(name: str, workspace: Workspace) -> Path:
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
    path = locate_learning_curve(name, workspace) / CURVE
    if not path.is_file():
        raise ConfigError(
            "no finished learning curve", where=path, fix=f"run `segem learning-curve MANIFEST --out {name}` first"
        )
    try:
        with disk_errors(path):
            return LearningCurveResult.model_validate_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(path, error) from None


def load_trials(home: Path, identity: str) -> SavedTrials:
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
        return SavedTrials(identity=identity)
    try:
        with disk_errors(path):
            kept = SavedTrials.model_validate_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(path, error) from None
    # Never mixed: points of other settings or sections do not lie on this curve.
    if kept.identity != identity:
        raise ConfigError(
            "a learning curve of other settings, sections or versions has this name",
            where=home,
            fix="give another --out",
        )
    return kept


def _damaged(path: Path, error: ValueError) -> WorkspaceError:
    return WorkspaceError(
        "the file cannot be read",
        where=path,
        found=describe_fault(error),
        fix="restore the file from a copy, or run `segem learning-curve` again with another --out",
    )
