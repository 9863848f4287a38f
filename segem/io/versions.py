"""Which version of a model counts: the promoted one, or else the newest that was not kept aside."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from pydantic import ValidationError

from segem.config import NAME_PATTERN
from segem.errors import ModelError
from segem.io.files import disk_errors, write_text
from segem.io.run import now
from segem.records.fault import describe_fault
from segem.records.promotion import Promotion

PROMOTION, CURRENT, UNJUDGED = "promotion.json", "current", "unjudged"
"""In the folder of a version: what was decided about it. In the folder of a model: the name of the version in use. In
the folder of a candidate that awaits its decision: a digest of all that made it."""


def name_new_version(model: Path) -> Path:
    """Return a folder for a new version, named by the time so that the newest sorts last, and never one in use."""
    stamp = now().replace(":", "").replace("+0000", "Z")
    # Two versions may be made within a second.
    names = (stamp if turn == 1 else f"{stamp}-{turn:03}" for turn in count(1))
    return next(model / name for name in names if not (model / name).exists())


def record_decision(version: Path, promotion: Promotion) -> None:
    """Record what was decided about a version and, if it was promoted, put it in use.

    Each of the two files is replaced in one step, the record first: whenever the process is killed, a version is in use
    only if its record says why.

    Raises
    ------
    WorkspaceError
        When the disk refuses.
    """
    # In this order: the decision, then the mark that kept the version out of use, then the name of the one in use.
    write_text(version / PROMOTION, json.dumps(promotion.model_dump(mode="json"), indent=2) + "\n")
    with disk_errors(version):
        (version / UNJUDGED).unlink(missing_ok=True)
    if promotion.promoted:
        write_text(version.parent / CURRENT, version.name + "\n")


def find_version_in_use(versions: Sequence[Path]) -> Path | None:
    """Return which of the versions of one model its name refers to.

    Parameters
    ----------
    versions : sequence of Path
        Their folders, newest first.

    Returns
    -------
    Path or None
        The promoted version if there is one, whether or not it is among them, else the newest that was not kept aside;
        None where all were.

    Raises
    ------
    ModelError
        When what was decided cannot be read.
    """
    if not versions:
        return None
    promoted = find_promoted(versions[0].parent)
    return promoted or next((version for version in versions if not _kept_aside(version)), None)


def find_promoted(model: Path) -> Path | None:
    """Return the version of a model that was promoted last; None where none was.

    Raises
    ------
    ModelError
        When the file that names it is damaged, or names a version that is gone.
    """
    try:
        name = (model / CURRENT).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(model / CURRENT, error) from None
    # The name becomes part of a path, so it must not lead anywhere else.
    if not re.fullmatch(NAME_PATTERN, name) or not (model / name).is_dir():
        raise ModelError(
            "the version in use is gone",
            where=model / CURRENT,
            found=repr(name[:100]),
            fix="put its folder back, or move this file elsewhere: the newest version not kept aside then counts",
        )
    return model / name


def read_promotion(version: Path) -> Promotion | None:
    """Return what was decided about a version; None where nothing was.

    Raises
    ------
    ModelError
        When the record cannot be read.
    """
    try:
        return Promotion.model_validate_json((version / PROMOTION).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise _unreadable(version / PROMOTION, describe_fault(error)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(version / PROMOTION, error) from None


def find_unjudged(versions: Sequence[Path], digest: str) -> Path | None:
    """Return the candidate of this digest that a killed `segem retrain` has left without a decision.

    Raises
    ------
    ModelError
        When what was decided cannot be read.
    """
    for version in versions:
        try:
            same = (version / UNJUDGED).read_text(encoding="utf-8") == digest
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise _unreadable(version / UNJUDGED, error) from None
        # A kill between the decision and the removal of the mark leaves both: the decision counts.
        if same and read_promotion(version) is None:
            return version
    return None


def describe_standing(version: Path) -> str:
    """Return ``current``, or ``kept aside:`` and the reason, or nothing where no version of the model was promoted.

    A version that was promoted once and replaced since is ``promoted before``; one that was never judged, of a model
    whose name refers to another that was promoted, is ``not in use: not promoted``.

    Raises
    ------
    ModelError
        When what was decided cannot be read.
    """
    promoted = find_promoted(version.parent)
    if promoted == version:
        return "current"
    promotion = read_promotion(version)
    if promotion is None:
        if _is_candidate(version):
            return "kept aside: not judged yet"
        return "not in use: not promoted" if promoted is not None else ""
    return "promoted before" if promotion.promoted else f"kept aside: {promotion.reason}"


def _kept_aside(version: Path) -> bool:
    promotion = read_promotion(version)
    return not promotion.promoted if promotion is not None else _is_candidate(version)


def _is_candidate(version: Path) -> bool:
    return (version / UNJUDGED).exists()


def _unreadable(path: Path, reason: object) -> ModelError:
    return ModelError(
        "what was decided about a model cannot be read",
        where=path,
        found=reason,
        fix="check the rights of the file; if it is damaged move it elsewhere, and promote the model again",
    )
