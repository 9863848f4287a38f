"""Packages of bioimage.io: zip files that are written atomically, and read as untrusted input."""

from __future__ import annotations

import hashlib
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from segem.errors import ConfigError, ModelError
from segem.io.files import disk_errors, new_file

DESCRIPTION = "rdf.yaml"
_DESCRIPTIONS = (DESCRIPTION, "bioimageio.yaml")
# Limits far above any honest package: a package comes from a stranger.
_MOST_MEMBERS = 1000
_LONGEST_DESCRIPTION = 2**20
_MOST_NODES = 100_000
_MOST_TIMES, _ALWAYS_ALLOWED = 100, 2**24
"""Weights hardly compress; a member beyond 16 MB that unpacks to a hundred times its size is meant to fill the disk."""
_PIECE = 2**20


def write_package(folder: Path, path: Path, *, force: bool = False) -> None:
    """Put the files of a folder into a package; it is written atomically.

    Parameters
    ----------
    folder : Path
        Holds ``rdf.yaml`` and all files that it refers to.
    path : Path
        The zip to create.
    force : bool
        Replace an existing one.

    Raises
    ------
    ConfigError
        When it exists and `force` is false.
    WorkspaceError
        When the disk refuses.
    """
    refuse_existing(path, force)
    # Stored without compression: weights hardly get smaller.
    with disk_errors(path), new_file(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)


def refuse_existing(path: Path, force: bool) -> None:
    """Raise when a file exists and may not be replaced.

    Raises
    ------
    ConfigError
        When it exists and `force` is false, or is no file.
    """
    if path.exists() and not (force and path.is_file()):
        fix = "give another name, or --force to replace it" if path.is_file() else "give the name of a file"
        raise ConfigError("something of this name exists", where=path, fix=fix)


@contextmanager
def opened(path: Path) -> Iterator[Package]:
    """Open a package to read from it.

    Members are never unpacked under their own names, so none can be written outside the target folder; a package with
    such names is refused anyway.

    Raises
    ------
    ModelError
        When it is no zip, is damaged, or is malicious.
    """
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise ModelError("no such package", where=path, fix="check the path") from None
    except IsADirectoryError:
        raise ModelError(
            "not a package of bioimage.io",
            where=path,
            expected="a zip file, or weights as .pt, .pth or .safetensors",
            found="a folder",
            fix="zip what it holds, with rdf.yaml at the top, or name the file of its weights",
        ) from None
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise ModelError(
            "not a package of bioimage.io",
            where=path,
            expected="a zip file, or weights as .pt, .pth or .safetensors",
            found=error,
            fix="check the file, or fetch it again",
        ) from None
    with archive:
        refuse_harmful(path, archive)
        yield Package(path, archive)


@dataclass(frozen=True)
class Package:
    """An open package, which is not trusted."""

    path: Path
    archive: zipfile.ZipFile

    def description(self) -> dict[str, Any]:
        """Return the description of the package.

        Raises
        ------
        ModelError
            When there is none, or it cannot be read.
        """
        name = next((name for name in _DESCRIPTIONS if name in self.archive.namelist()), None)
        if name is None:
            raise self._broken("not a package of bioimage.io: it has no description", expected=DESCRIPTION)
        if self.archive.getinfo(name).file_size > _LONGEST_DESCRIPTION:
            raise self._broken("the description is too long", where=name, expected="at most 1 MB")
        try:
            loader = yaml.SafeLoader(b"".join(self._pieces(name)))
            # Measured before it is constructed: a few hundred bytes of nested aliases can expand to gigabytes.
            node = loader.get_single_node()
            if _grows(node):
                raise _harmful(self.path, f"{name} whose aliases expand to a huge document")
            found = loader.construct_document(node) if node is not None else None
        except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
            raise self._broken("the description cannot be read", where=name, found=str(error)[:160]) from None
        if not isinstance(found, dict) or found.get("type") != "model":
            raise self._broken("the package holds no model", where=name, expected="type: model")
        return found

    def unpack(self, name: str, sha256: str | None, into: Path) -> None:
        """Copy one member into a file.

        Parameters
        ----------
        name : str
            Name of the member.
        sha256 : str or None
            The digest it must have; None where it is unknown.
        into : Path
            The file to write.

        Raises
        ------
        ModelError
            When it is missing, damaged or has another digest.
        WorkspaceError
            When the disk refuses.
        """
        if name not in self.archive.namelist():
            raise self._broken("a file of the package is missing", expected=name)
        digest = hashlib.sha256()
        with disk_errors(into), into.open("wb") as file:
            # In pieces, since weights may be larger than the memory.
            for piece in self._pieces(name):
                digest.update(piece)
                file.write(piece)
        if sha256 is not None and digest.hexdigest() != sha256:
            raise self._broken(
                "a file of the package is not the one it describes",
                where=name,
                expected=f"sha256 {sha256:.64}",
                found=digest.hexdigest(),
            )

    def _pieces(self, name: str) -> Iterator[bytes]:
        try:
            with self.archive.open(name) as file:
                while piece := file.read(_PIECE):
                    yield piece
        except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            # RuntimeError: encrypted, or compressed in a way that Python does not know.
            raise self._broken("a file of the package is damaged", where=name, found=error) from None

    def _broken(self, what: str, *, where: str = "", expected: object = None, found: object = None) -> ModelError:
        place = f"{self.path}, {where}" if where else self.path
        return ModelError(what, where=place, expected=expected, found=found, fix="fetch or export the package again")


def refuse_harmful(path: Path, archive: zipfile.ZipFile) -> None:
    """Raise when a zip would write outside its folder or fill the disk, before anything is unpacked.

    Raises
    ------
    ModelError
        When a name or a size is suspicious.
    """
    harm = find_harm(archive)
    if harm is not None:
        raise _harmful(path, harm)


def find_harm(archive: zipfile.ZipFile) -> str | None:
    """Return what in a zip would write outside its folder or fill the disk, or None."""
    members = archive.infolist()
    names = [member.filename for member in members]
    if len(members) > _MOST_MEMBERS or len(set(names)) < len(names):
        return f"{len(members)} members of {len(set(names))} names"
    for member in members:
        # As Windows would read it too: backslashes separate folders, and a colon ends a drive.
        parts = PurePosixPath(member.filename.replace("\\", "/")).parts
        if ".." in parts or parts[:1] == ("/",) or ":" in (parts or ("",))[0]:
            return f"a member with the name {member.filename[:100]!r}"
        if member.file_size > max(_ALWAYS_ALLOWED, _MOST_TIMES * member.compress_size):
            return f"{member.compress_size} bytes that unpack to {member.file_size}"
        # The upper half holds the mode that Unix gave the file.
        if stat.S_ISLNK(member.external_attr >> 16):
            return f"a link with the name {member.filename[:100]!r}"
    return None


def _grows(root: yaml.Node | None) -> bool:
    """Return whether a description becomes too large when its aliases are expanded."""
    left, nodes = [root], 0
    while left and nodes <= _MOST_NODES:
        node, nodes = left.pop(), nodes + 1
        if isinstance(node, yaml.SequenceNode):
            left += node.value
        elif isinstance(node, yaml.MappingNode):
            left += [part for pair in node.value for part in pair]
    return nodes > _MOST_NODES


def _harmful(path: Path, found: str) -> ModelError:
    return ModelError(
        "the package is malicious", where=path, found=found, fix="do not use it, and tell whoever gave it to you"
    )
