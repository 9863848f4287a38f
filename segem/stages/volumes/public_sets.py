"""The public data sets that segem can download, as their publishers describe them.

A checksum stands here only where it was published, by the publisher or by a project that downloads the same file.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from segem.io.download import Remote


@dataclass(frozen=True)
class PublicVolume:
    """A stack of a set: what to tell `segem ingest`, with paths inside the folder of the set."""

    name: str
    source: str
    labels: str | None = None
    membrane: str | None = None
    border_nm: float | None = None
    zero_means: str | None = None
    dataset: str | None = None
    labels_dataset: str | None = None


@dataclass(frozen=True)
class PublicSet:
    """A public data set.

    Parameters
    ----------
    name : str
        What to ask for, and the name of its folder.
    what : str
        Tissue, microscope and extent.
    files : tuple of Remote
        What is downloaded; a zip is unpacked.
    megabytes : int or None
        Size of the download; None where it is not known before.
    voxel_nm : tuple of float
        Along (z, y, x).
    labels : str
        What is labelled, and which value means membrane.
    licence : str
        Terms of use.
    cite : tuple of str
        What to cite.
    volumes : tuple of PublicVolume
        What it holds for segem.
    """

    name: str
    what: str
    files: tuple[Remote, ...]
    megabytes: int | None
    voxel_nm: tuple[float, float, float]
    labels: str
    licence: str
    cite: tuple[str, ...]
    volumes: tuple[PublicVolume, ...]

    @property
    def checked_by(self) -> str:
        """How a download is checked."""
        return "checksum" if all(file.checksum for file in self.files) else "first download"

    def ingest_lines(self, folder: Path) -> tuple[str, ...]:
        """Return the commands that ingest the volumes of the set, which lies in a folder."""
        return tuple(_ingest_line(volume, self.voxel_nm, folder) for volume in self.volumes)


def _ingest_line(volume: PublicVolume, voxel_nm: tuple[float, ...], folder: Path) -> str:
    given = {
        "--name": volume.name,
        "--voxel-nm": ",".join(f"{nm:g}" for nm in voxel_nm),
        "--dataset": volume.dataset,
        "--labels": volume.labels and folder / volume.labels,
        "--labels-dataset": volume.labels_dataset,
        "--membrane": volume.membrane,
        "--border-nm": volume.border_nm and f"{volume.border_nm:g}",
        "--zero-means": volume.zero_means,
    }
    options = (f"{option} {shlex.quote(str(value))}" for option, value in given.items() if value is not None)
    return " ".join(("segem ingest", shlex.quote(str(folder / volume.source)), *options))


_CREMI = "https://cremi.org/static/data"
_ARGANDA, _CARDONA = "doi:10.3389/fnana.2015.00142", "doi:10.1371/journal.pbio.1000502"


def _make_cremi(sample: str, padding: str, checksum: str | None) -> PublicSet:
    name, file = f"cremi-{sample.lower()}", f"sample_{sample}{padding}_20160501.hdf"
    around = ", with more tissue around what is labelled" if padding else ""
    return PublicSet(
        name=f"{name}-padded" if padding else name,
        what=f"brain of an adult fly, ssTEM, sample {sample} of CREMI{around}",
        files=(Remote(file, (f"{_CREMI}/{file}",), checksum),),
        megabytes=None,
        voxel_nm=(40.0, 4.0, 4.0),
        labels="numbers of neurons, in volumes/labels/neuron_ids",
        licence="not stated",
        cite=("https://cremi.org",),
        volumes=(PublicVolume(name, file, dataset="volumes/raw"),),
    )


PUBLIC_SETS = (
    PublicSet(
        name="isbi2012",
        what="ventral nerve cord of a fly larva, ssTEM, 30 labelled and 30 other sections of 512 x 512",
        files=(Remote("ISBI-2012-challenge.zip", ("https://downloads.imagej.net/ISBI-2012-challenge.zip",)),),
        megabytes=None,
        voxel_nm=(50.0, 4.0, 4.0),
        labels="membrane 0, cells 255",
        licence="free for generating or testing non-commercial image segmentation software",
        cite=(_ARGANDA, _CARDONA),
        volumes=(
            PublicVolume("isbi", "train-volume.tif", "train-labels.tif", "zero"),
            PublicVolume("isbi-test", "test-volume.tif"),
        ),
    ),
    PublicSet(
        name="vnc",
        what="ventral nerve cord of a fly larva, ssTEM, 20 labelled and 20 other sections of 1024 x 1024",
        files=(
            Remote(
                "groundtruth-drosophila-vnc.zip",
                ("https://github.com/unidesigner/groundtruth-drosophila-vnc/archive/refs/heads/master.zip",),
                # Archives of a branch are made on request, so another checksum may only mean that it was packed anew.
                "sha256:f7bd0db03c86b64440a16b60360ad60c0a4411f89e2c021c7ee2c8d6af3d7e86",
            ),
        ),
        megabytes=45,
        voxel_nm=(50.0, 4.6, 4.6),
        labels="membrane 1 (white), cells 0",
        licence="CC-BY-NC-SA-3.0",
        cite=("doi:10.6084/m9.figshare.856713",),
        volumes=(
            PublicVolume("stack1", "stack1/raw", "stack1/membranes", "nonzero"),
            PublicVolume("stack2", "stack2/raw"),
        ),
    ),
    PublicSet(
        name="snemi3d",
        what="cortex of a mouse, ATUM-SEM, 100 labelled and 100 other sections of 1024 x 1024",
        files=(
            Remote(
                "snemi.zip",
                (
                    "https://zenodo.org/records/7142003/files/snemi.zip",
                    "http://rhoana.rc.fas.harvard.edu/dataset/snemi.zip",
                ),
                "md5:3d25a7025f66698f33c7850ace885939",
            ),
        ),
        megabytes=195,
        voxel_nm=(30.0, 6.0, 6.0),
        labels="numbers of neurons, in seg/train-labels.tif; 0 is membrane, the space between cells and myelin",
        licence="CC-BY-4.0",
        cite=("doi:10.5281/zenodo.7142003", "doi:10.1016/j.cell.2015.06.054"),
        volumes=(
            PublicVolume(
                "ac4",
                "image/train-input.tif",
                "seg/train-labels.tif",
                membrane="borders",
                border_nm=24.0,
                zero_means="membrane_with_border",
            ),
            PublicVolume("ac3", "image/test-input.tif"),
        ),
    ),
    _make_cremi("A", "", "sha256:4c563d1b78acb2bcfb3ea958b6fe1533422f7f4a19f3e05b600bfa11430b510d"),
    _make_cremi("B", "", "sha256:887e85521e00deead18c94a21ad71f278d88a5214c7edeed943130a1f4bb48b8"),
    _make_cremi("C", "", "sha256:2874496f224d222ebc29d0e4753e8c458093e1d37bc53acd1b69b19ed1ae7052"),
    _make_cremi("A", "_padded", None),
    _make_cremi("B", "_padded", None),
    _make_cremi("C", "_padded", None),
    PublicSet(
        name="lucchi",
        what="hippocampus of a mouse, FIB-SEM, two stacks of 165 sections of 1024 x 768 (Lucchi++)",
        files=(
            Remote(
                "lucchi_pp.zip",
                ("http://www.casser.io/files/lucchi_pp.zip",),
                "sha256:770ce9e98fc6f29c1b1a250c637e6c5125f2b5f1260e5a7687b55a79e2e8844d",
            ),
        ),
        megabytes=None,
        voxel_nm=(5.0, 5.0, 5.0),
        labels="mitochondria alone, no membrane",
        licence="not stated",
        cite=("doi:10.48550/arXiv.1812.06024",),
        volumes=(PublicVolume("lucchi-train", "Train_In"), PublicVolume("lucchi-test", "Test_In")),
    ),
)
