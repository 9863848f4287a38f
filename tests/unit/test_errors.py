"""What an error says, and that it survives the way between processes."""

from __future__ import annotations

import pickle

import pytest

from segem import errors
from segem.errors import InputError, SegemError


def test_message_names_place_expectation_finding_and_fix() -> None:
    error = InputError("wrong shape", where="a.tif", expected=(1, 2), found=(3, 4), fix="crop it")
    assert str(error) == "a.tif: wrong shape; expected (1, 2), found (3, 4). Fix: crop it"


def test_message_is_one_line() -> None:
    assert "\n" not in str(SegemError("first\nsecond", found="third\nfourth"))


@pytest.mark.parametrize("kind", [getattr(errors, n) for n in dir(errors) if n.endswith("Error")])
def test_every_error_survives_pickling_whole(kind: type[SegemError]) -> None:
    error = kind("what", where="here", expected=1, found=2, fix="this")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == str(error)
