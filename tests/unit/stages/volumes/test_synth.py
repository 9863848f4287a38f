from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import tifffile

from segem.config import SynthConfig, load_manifest
from segem.errors import ConfigError, WorkspaceError
from segem.io.files import new_file
from segem.kernels.synth import draw_sections, synthesize
from segem.stages.volumes.synth import synth

CONFIG = SynthConfig(shape=(3, 48, 64), seed=3, voxel_nm=(40, 5, 5))


def test_files_hold_what_was_drawn(tmp_path):
    made = synth(tmp_path / "tissue", CONFIG)
    em = synthesize(CONFIG)
    np.testing.assert_array_equal(tifffile.imread(made.raw), em.image)
    np.testing.assert_array_equal(tifffile.imread(made.truth), em.truth * 255)
    with tifffile.TiffFile(made.raw) as tiff:
        assert len(tiff.pages) == 3


def test_manifest_lists_the_volume_with_sources_beside_it(tmp_path):
    made = synth(tmp_path / "tissue", CONFIG)
    assert str(tmp_path) not in made.manifest.read_text()
    (volume,) = load_manifest(made.manifest).volumes
    assert volume.name == "tissue-3"
    assert (volume.source, volume.labels.source) == (made.raw.resolve(), made.truth.resolve())
    assert volume.labels.membrane == "nonzero"
    assert volume.voxel_nm == (40, 5, 5)


@pytest.mark.parametrize(
    ("folder", "name"), [("tissue-3", "tissue-3"), ("my tissue/ä", "synthetic-3"), (".hidden (1)", "hidden-1--3")]
)
def test_volume_names_are_safe(tmp_path, folder, name):
    made = synth(tmp_path / folder, CONFIG.model_copy(update={"shape": (1, 8, 8)}))
    assert load_manifest(made.manifest).volumes[0].name == name


def test_the_same_bytes_again_and_nothing_else_in_the_folder(tmp_path):
    first = synth(tmp_path / "a", CONFIG)
    before = first.raw.read_bytes(), first.truth.read_bytes(), first.manifest.read_bytes()
    (tmp_path / "a" / "notes.txt").write_text("mine")
    again = synth(tmp_path / "a", CONFIG)
    assert before == (again.raw.read_bytes(), again.truth.read_bytes(), again.manifest.read_bytes())
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["manifest.yaml", "notes.txt", "raw.tif", "truth.tif"]


def test_a_file_in_the_way_is_a_workspace_error(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(WorkspaceError):
        synth(tmp_path / "taken", CONFIG)


def test_an_interrupted_run_leaves_no_file(tmp_path, monkeypatch):
    def stop_after_one(config):
        yield next(draw_sections(config))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("segem.stages.volumes.synth.draw_sections", stop_after_one)
    with pytest.raises(WorkspaceError, match="No space left"):
        synth(tmp_path / "full", CONFIG)
    assert list((tmp_path / "full").iterdir()) == []


@pytest.mark.parametrize("name", ["raw.tif", "truth.tif", "manifest.yaml"])
def test_files_of_others_are_never_overwritten(tmp_path, name):
    out = tmp_path / "cortex"
    out.mkdir()
    (out / name).write_text("name: cortex\n")
    with pytest.raises(ConfigError, match=f"{name}: .* Fix: give another folder"):
        synth(out, CONFIG)
    assert [(path.name, path.read_text()) for path in out.iterdir()] == [(name, "name: cortex\n")]


def test_a_link_to_nowhere_is_a_file_of_others_too(tmp_path):
    (tmp_path / "raw.tif").symlink_to(tmp_path / "unmounted")
    with pytest.raises(ConfigError, match="would be overwritten"):
        synth(tmp_path, CONFIG)


def test_synth_knows_its_own_files_after_being_killed_between_them(tmp_path, monkeypatch):
    @contextmanager
    def killed_after_truth(path):
        with new_file(path) as partial:
            yield partial
        if path.name == "truth.tif":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("segem.stages.volumes.synth.new_file", killed_after_truth)
        with pytest.raises(KeyboardInterrupt):
            synth(tmp_path / "a", CONFIG)
    assert (tmp_path / "a" / "truth.tif").exists()
    assert not (tmp_path / "a" / "raw.tif").exists()
    assert synth(tmp_path / "a", CONFIG).raw.exists()
