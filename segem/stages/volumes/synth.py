"""Writes a synthetic EM volume with its truth and a manifest, ready for ``segem run``."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
import yaml

from segem.config import SynthConfig
from segem.errors import ConfigError
from segem.io.files import disk_errors, new_file, write_text
from segem.kernels.synth import draw_sections
from segem.progress import track

_BIG_TIFF_BYTES = 2**31
_MARK = "# Written by segem synth, which replaces this folder's raw.tif, truth.tif and manifest.yaml when asked to."


@dataclass(frozen=True)
class SynthResult:
    """The files of a synthetic volume.

    Parameters
    ----------
    raw, truth : Path
        Multi-page TIFFs, uint8; 255 = membrane in the truth.
    manifest : Path
        Lists both as one volume.
    """

    raw: Path
    truth: Path
    manifest: Path


def synth(out: Path, config: SynthConfig) -> SynthResult:
    """Draw a synthetic volume into a folder, section by section; each file is written atomically.

    Parameters
    ----------
    out : Path
        The folder; created when missing. The files of an earlier synthetic volume are replaced, others never.
    config : SynthConfig
        Shape, voxel size and seed.

    Returns
    -------
    SynthResult

    Raises
    ------
    ConfigError
        When a file that segem did not write would be overwritten.
    WorkspaceError
        When the disk refuses.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = synth(Path(folder) / "tissue", SynthConfig(shape=(2, 32, 32), seed=4))
    ...     tifffile.imread(made.raw).shape, sorted(path.name for path in made.raw.parent.iterdir())
    ((2, 32, 32), ['manifest.yaml', 'raw.tif', 'truth.tif'])
    """
    drawn = draw_sections(config)
    result = SynthResult(out / "raw.tif", out / "truth.tif", out / "manifest.yaml")
    _check_ours(result)
    # A product of Python integers, which does not overflow.
    big = int(np.prod(config.shape, dtype=object)) > _BIG_TIFF_BYTES
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        with (
            new_file(result.raw) as raw,
            new_file(result.truth) as truth,
            tifffile.TiffWriter(raw, bigtiff=big) as raw_tiff,
            tifffile.TiffWriter(truth, bigtiff=big) as truth_tiff,
            track(f"synth {out.name}", config.shape[0], "section") as advance,
        ):
            for section in drawn:
                raw_tiff.write(section.image, contiguous=False, metadata=None)
                truth_tiff.write(section.truth * np.uint8(255), contiguous=False, metadata=None, compression="zlib")
                advance(1)
            # Written before the images get their names: after a kill in between, synth still knows they are its own.
            write_text(result.manifest, f"{_MARK}\n{yaml.safe_dump(_manifest(out, config), sort_keys=False)}")
    return result


def _check_ours(result: SynthResult) -> None:
    taken = [path for path in (result.raw, result.truth, result.manifest) if os.path.lexists(path)]
    if taken and not _is_marked(result.manifest):
        raise ConfigError(
            "the folder holds a file that is not from segem synth and would be overwritten",
            where=taken[0],
            fix="give another folder for the synthetic volume",
        )


def _is_marked(manifest: Path) -> bool:
    try:
        with manifest.open("rb") as file:
            return file.readline(len(_MARK) + 1).rstrip() == _MARK.encode()
    except OSError:
        return False


def _manifest(out: Path, config: SynthConfig) -> dict[str, object]:
    folder = re.sub(r"[^A-Za-z0-9._-]+", "-", out.resolve().name).lstrip("._-")[:80] or "synthetic"
    name = folder if folder.endswith(f"-{config.seed}") else f"{folder}-{config.seed}"
    volume = {
        "name": name,
        "source": "raw.tif",
        "voxel_nm": list(config.voxel_nm),
        "labels": {"source": "truth.tif", "membrane": "nonzero"},
    }
    return {"name": name, "volumes": [volume]}
