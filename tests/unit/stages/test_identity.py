"""The code of a block is found by reading imports, whichever way they are written."""

from __future__ import annotations

from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from segem.errors import ConfigError
from segem.stages.segmentation.identity import code_digest, modules_of, reached_from, versions_of

START = "segem.stages.work"
IMPORTS = {
    "import segem.kernels.found": True,
    "import segem.kernels.found as f": True,
    "from segem.kernels import found": True,
    "from segem.kernels.found import thing": True,
    "from ..kernels import found": True,
    "from ..kernels.found import thing": True,
    "from .step import prepare": True,  # which imports it in turn
    "from . import step": True,
    "import segem.stages.step": True,
    "def f():\n    from segem.kernels import found": True,
    "async def f():\n    async with a() as b:\n        from segem.kernels import found": True,
    "class A:\n    from segem.kernels.found import thing": True,
    "try:\n    import segem.kernels.found\nexcept ImportError:\n    pass": True,
    "try:\n    a()\nexcept* ImportError:\n    import segem.kernels.found": True,
    "try:\n    a()\nfinally:\n    import segem.kernels.found": True,
    "for a in b:\n    pass\nelse:\n    import segem.kernels.found": True,
    "match a:\n    case 1:\n        import segem.kernels.found": True,
    "if a:\n    pass\nelif b:\n    import segem.kernels.found": True,
    "import importlib\nimportlib.import_module('segem.kernels.found')": True,
    "from importlib import import_module\nthing = import_module('..kernels.found', __package__).thing": True,
    "found = __import__('segem.kernels.found')": True,
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from segem.kernels import found": False,
    "import typing\nif typing.TYPE_CHECKING:\n    import segem.kernels.found": False,
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    import segem.kernels.found": True,
    "from typing import TYPE_CHECKING\nif not TYPE_CHECKING:\n    import segem.kernels.found": True,
    "'import segem.kernels.found'  # import segem.kernels.found": False,
    "from segem.kernels import other": False,
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return a package of the layers of segem, whose start imports nothing."""
    for name in ("__init__", "errors", "kernels/__init__", "stages/__init__", "stages/work"):
        put(tmp_path, name, "")
    put(tmp_path, "kernels/found", "thing = 1")
    put(tmp_path, "kernels/other", "thing = 2")
    put(tmp_path, "stages/step", "import segem.kernels.found")
    return tmp_path


def put(package: Path, name: str, source: str) -> None:
    file = package / f"{name}.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(source)


@pytest.mark.parametrize(("source", "found"), IMPORTS.items())
def test_an_import_counts_wherever_it_stands(package: Path, source: str, found: bool) -> None:
    compile(source, START, "exec")
    put(package, "stages/work", source)
    assert ("segem.kernels.found" in modules_of(START, package)) is found


def test_what_is_digested_is_the_start_and_the_layers_that_compute(package: Path) -> None:
    put(package, "geometry", "")
    put(package, "learn/__init__", "")
    put(package, "learn/models/__init__", "from segem.learn.models import net")
    put(package, "learn/models/net", "import segem.errors, segem.geometry")
    put(package, "stages/step", "import segem.learn.models.net")
    put(package, "stages/work", "import segem.stages.step")
    passed = {"segem", "segem.errors", "segem.stages", "segem.stages.step"}
    computing = {"segem.geometry", "segem.learn", "segem.learn.models", "segem.learn.models.net", START}
    assert set(modules_of(START, package)) == computing
    assert set(reached_from(START, package)) == computing | passed


def test_a_circle_of_imports_ends(package: Path) -> None:
    put(package, "kernels/found", "import segem.kernels.other")
    put(package, "kernels/other", "import segem.kernels.found")
    assert modules_of("segem.kernels.found", package) == ("segem.kernels", "segem.kernels.found", "segem.kernels.other")


def test_each_source_and_each_name_counts(package: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    put(package, "stages/work", "from segem.kernels import found, other")
    digests = {code_digest(START, package)}
    # Of functools.cache, which would not look at the sources again.
    again = code_digest.__wrapped__
    assert again(START, package) in digests
    for name in ("kernels/found", "kernels/other", "kernels/__init__", "stages/work"):
        with (package / f"{name}.py").open("a") as file:
            file.write("\n")
        assert again(START, package) not in digests
        digests.add(again(START, package))
    before = again(START, package)
    put(package, "stages/step", "import segem.kernels.found  # passed through, never digested")
    assert again(START, package) == before
    found, other = ((package / f"kernels/{name}.py").read_text() for name in ("found", "other"))
    put(package, "kernels/found", other)
    put(package, "kernels/other", found)
    assert again(START, package) != before


@pytest.mark.parametrize(
    "source", ["import segem.kernels.lost", "from segem.kernels.lost import a", "from .lost import a"]
)
def test_a_module_without_a_source_is_named(package: Path, source: str) -> None:
    put(package, "stages/work", source)
    with pytest.raises(ConfigError, match=r"segem\.(kernels|stages)\.lost: the source of a module is missing"):
        code_digest(START, package)


def test_versions_are_those_of_what_is_imported(package: Path) -> None:
    put(
        package,
        "kernels/found",
        "def f():\n    import scipy.ndimage, os.path, absent_package\n    from skimage import draw",
    )
    put(package, "stages/step", "import zarr")
    put(package, "stages/work", "import numpy as np\nimport segem.kernels.found\nimport segem.stages.step")
    assert set(versions_of(START, package)) == {"python", "numpy", "scipy", "scikit-image"}


def test_another_version_is_another_identity(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(package, "stages/work", "import numpy")
    before = code_digest(START, package)
    (tmp_path / "site" / "numpy-99.0.dist-info").mkdir(parents=True)
    (tmp_path / "site" / "numpy-99.0.dist-info" / "METADATA").write_text("Name: numpy\nVersion: 99.0\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert versions_of(START, package)["numpy"] == "99.0"
    assert code_digest.__wrapped__(START, package) != before


def test_distributions_go_by_the_names_they_are_installed_by(package: Path) -> None:
    imported = ("monai", "nncf", "numpy", "openvino", "pydantic", "safetensors", "scipy", "skimage", "sklearn")
    put(package, "stages/work", "\n".join(f"import {name}" for name in (*imported, "torch", "torchvision")))
    known = packages_distributions()
    assert set(versions_of(START, package)) - {"python"} == {
        known[name][0] for name in (*imported, "torch", "torchvision")
    }
