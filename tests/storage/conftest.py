"""A store for the tests of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.storage.server import Store, serve


@pytest.fixture(scope="module")
def served() -> Iterator[Store]:
    with serve() as store:
        yield store


@pytest.fixture
def store(served: Store) -> Iterator[Store]:
    """The store, at leisure again after the test."""
    yield served
    served.refuse_every, served.refuse_all = 0, False
