"""Where things lie in a workspace, and what counts as being there."""

from __future__ import annotations

from pathlib import Path

import pytest

from segem.errors import ConfigError, WorkspaceError
from segem.io.workspace import Workspace


def test_paths(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    found = [
        workspace.volume("v"),
        workspace.run("r"),
        workspace.result("r", "v"),
        workspace.ledger("r"),
        workspace.report("r"),
        workspace.models,
    ]
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        "volumes/v.ome.zarr",
        "runs/r",
        "runs/r/v.ome.zarr",
        "runs/r/ledger.sqlite",
        "runs/r/report",
        "models",
    ]


@pytest.mark.parametrize("name", ["../v", "a/b", "", ".v", "-v", "a b", "x" * 101, "v\0"])
def test_names_cannot_leave_the_workspace(tmp_path: Path, name: str) -> None:
    workspace = Workspace(tmp_path)
    for place in (workspace.volume, workspace.run, workspace.report, lambda n: workspace.result("r", n)):
        with pytest.raises(ConfigError):
            place(name)


def test_only_whole_volumes_are_listed(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert workspace.volumes() == []
    assert workspace.runs() == []
    workspace.prepare()
    for name in ("b.ome.zarr", "a.ome.zarr", ".c.ome.zarr.0123456789abcdef0123456789abcdef.partial", "other"):
        (tmp_path / "volumes" / name).mkdir()
        (tmp_path / "volumes" / name / "zarr.json").touch()
    (tmp_path / "volumes" / "empty.ome.zarr").mkdir()
    (tmp_path / "volumes" / ".a.ome.zarr.lock").touch()
    (tmp_path / "runs" / "r").mkdir()
    (tmp_path / "runs" / "r" / "run.json").touch()
    (tmp_path / "runs" / "stray").touch()
    assert workspace.volumes() == ["a", "b"]
    assert workspace.runs() == ["r"]


def test_a_workspace_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WorkspaceError, match="Fix: there is a file where a folder is needed"):
        Workspace(tmp_path / "file").prepare()
    with pytest.raises(WorkspaceError, match=r"no such file or folder; .* Fix: check the path"):
        Workspace(Path("/proc/segem")).prepare()


def test_preparing_twice_leaves_nothing_but_folders(tmp_path: Path) -> None:
    Workspace(tmp_path / "w").prepare()
    Workspace(tmp_path / "w").prepare()
    assert sorted(path.name for path in (tmp_path / "w").rglob("*")) == ["models", "runs", "volumes"]
