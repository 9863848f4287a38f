"""The errors that segem raises on purpose.

::

    SegemError
    ├── ConfigError       a manifest, an option or a setting is wrong
    ├── InputError        the source data are missing, damaged or inconsistent
    ├── WorkspaceError    the workspace cannot be read or written, or is in use
    │   └── StorageError  its arrays lie in an object store that cannot be used
    ├── ModelError        a model artefact is missing, damaged or unsuitable
    ├── BlockError        one block of a run could not be computed
    ├── ServerError       a server cannot start
    └── IncompleteError   a run ended without every voxel accounted for
"""

from __future__ import annotations


class SegemError(Exception):
    """An error that says what went wrong, where, and what to do about it.

    Parameters
    ----------
    what : str
        What went wrong, in one clause.
    where : object, optional
        The file, volume, section or block concerned.
    expected, found : object, optional
        What was expected, and what was found.
    fix : str, optional
        What the user can do now.

    Examples
    --------
    >>> print(SegemError("no such file", where="a.tif", fix="check the path"))
    a.tif: no such file. Fix: check the path
    """

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        expected: object = None,
        found: object = None,
        fix: str | None = None,
    ) -> None:
        self.what = spell_out(what)
        super().__init__(self.what)
        self.where = None if where is None else spell_out(str(where))
        self.expected = None if expected is None else spell_out(str(expected))
        self.found = None if found is None else spell_out(str(found))
        self.fix = None if fix is None else spell_out(fix)

    def __str__(self) -> str:
        text = self.what if self.where is None else f"{self.where}: {self.what}"
        if self.expected is not None:
            text += f"; expected {self.expected}"
        if self.found is not None:
            text += f"{',' if self.expected is not None else ';'} found {self.found}"
        if self.fix is not None:
            text += f". Fix: {self.fix}"
        return " ".join(text.split())

    def __reduce__(self) -> tuple[object, ...]:
        # Errors are sent between processes (dask workers, Prefect results), so keyword arguments must survive pickling.
        return (_rebuild, (type(self), self.what, self.where, self.expected, self.found, self.fix))


def spell_out(text: str) -> str:
    r"""Return a text with the bytes in it that are none, as of a file's name that is not UTF-8, written out.

    Neither a record nor a server takes them as they are.

    Examples
    --------
    >>> spell_out("Pr\udce4parat.tif")
    'Pr\\udce4parat.tif'
    """
    return text.encode(errors="backslashreplace").decode()


def _rebuild(
    kind: type[SegemError],
    what: str,
    where: str | None,
    expected: str | None,
    found: str | None,
    fix: str | None,
) -> SegemError:
    return kind(what, where=where, expected=expected, found=found, fix=fix)


class ConfigError(SegemError):
    """A manifest, an option or a setting is wrong."""


class InputError(SegemError):
    """The source data are missing, damaged or inconsistent."""


class WorkspaceError(SegemError):
    """The workspace cannot be read or written, or another run is using it."""


class StorageError(WorkspaceError):
    """The object store that holds the arrays of the workspace refuses or does not answer; no array is damaged by it."""


class ModelError(SegemError):
    """A model artefact is missing, damaged or unsuitable for what it is used for."""


class BlockError(SegemError):
    """One block of a run could not be computed."""


class ServerError(SegemError):
    """A server cannot listen at its address, or does not start."""


class IncompleteError(SegemError):
    """A run ended without every voxel accounted for."""
