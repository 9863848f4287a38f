"""Says in one line what is wrong with a record."""

from __future__ import annotations

from pydantic import ValidationError


def describe_fault(error: ValueError) -> str:
    """Return the first error in a record that cannot be read, with the key it is about.

    Examples
    --------
    >>> from segem.records.label_next import Spot
    >>> try:
    ...     Spot.model_validate({"start": (0, 0, 0), "stop": (1, 1, 1)})
    ... except ValueError as error:
    ...     describe_fault(error)
    'disagreement: Field required'
    """
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    return f"{key}: {first['msg']}" if key else str(first["msg"])
