"""What a service leaves in files and in the environment: its unit of systemd, and the settings of its flows."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flows.launch.service import Service
from flows.launch.systemd import install
from segem.config.service import ServeConfig


def test_workspaces_that_are_called_alike_have_a_unit_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folders = [Path("/data/fly/workspace"), Path("/data/mouse/workspace")]
    units = [install(folder, ServeConfig()).unit for folder in folders]
    assert Path(units[0]).name == "segem-workspace.service"
    assert units[1] != units[0]
    assert [install(folder, ServeConfig()).unit for folder in folders] == units, "each is written again where it is"
    for unit, folder in zip(units, folders, strict=True):
        assert f"--workspace {folder} " in Path(unit).read_text()


@pytest.mark.parametrize(
    ("folder", "written"),
    [
        ("/data/o'brien/w", '"/data/o\'brien/w"'),
        ("/data/$lab/w", "/data/$$lab/w"),
        ("/data/a ; b/w", '"/data/a ; b/w"'),
        ("/data/a\\b/w", '"/data/a\\\\b/w"'),
    ],
)
def test_a_folder_of_any_name_is_one_word_to_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, written: str
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    installed = install(Path(folder), ServeConfig())
    assert f"--workspace {written} --port" in Path(installed.unit).read_text()
    assert not shutil.which("systemd-analyze") or "finds nothing wrong" in installed.checked


@pytest.mark.parametrize(
    ("named", "spared"),
    [("", "127.0.0.1"), ("minio.lab, .lab", "minio.lab,.lab,127.0.0.1"), ("*", "*"), ("127.0.0.1", "127.0.0.1")],
)
def test_what_needs_no_proxy_needs_none_in_flows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, spared: str
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", named)
    service = Service(tmp_path)
    service.prepare()
    for environment in (service.client_environment(), service.server_environment()):
        assert (environment["NO_PROXY"], environment["no_proxy"]) == (spared, spared)
