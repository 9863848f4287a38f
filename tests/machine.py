"""What a machine must have for some of the tests."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Skip the test that needs what is missing; fail it where `CI` is set, since everything is installed there."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} (an error, since CI is set)", pytrace=False)
    pytest.skip(what)
