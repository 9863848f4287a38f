"""Sources in a store of S3, by moto's server."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import tifffile
import zarr

from segem.config import Selection, Url
from segem.errors import InputError
from segem.geometry import Box
from segem.io.readers import fingerprint_files, open_stack
from tests.machine import missing

pytestmark = [
    pytest.mark.slow,
    # Of botocore, which moto's server uses.
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]

DATA = np.random.default_rng(0).integers(1, 256, (6, 40, 60), np.uint8)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Url]:
    """Serve a public bucket with a zarr group and a TIFF in it."""
    try:
        import s3fs
        from moto import server as moto_server
    except ImportError as error:
        missing(f"{error.name} is not installed")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    folder = tmp_path_factory.mktemp("bucket")
    group = zarr.create_group(str(folder / "a.zarr"))
    array = group.create_array("raw", shape=DATA.shape, dtype=np.uint8, chunks=(2, 20, 20), fill_value=3)
    array[:, 20:] = DATA[:, 20:]
    tifffile.imwrite(folder / "a.tif", DATA, photometric="minisblack")
    with pytest.MonkeyPatch.context() as environment:
        for name in ("no_proxy", "NO_PROXY"):
            environment.setenv(name, host)
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        files = s3fs.S3FileSystem(key="k", secret="s", skip_instance_cache=True)
        files.mkdir("bucket", acl="public-read")
        files.put(str(folder / "a.zarr"), "bucket/a.zarr", recursive=True, ACL="public-read")
        files.put(str(folder / "a.tif"), "bucket/a.tif", ACL="public-read")
        yield Url("s3://bucket")
    server.stop()


def test_a_store_of_s3(bucket: Url) -> None:
    source = Url(f"{bucket}/a.zarr")
    # A store can be listed, so the only array is found without its name.
    with open_stack(source, Selection(unwritten="fill")) as stack:
        assert np.array_equal(stack.read(Box((0, 20, 0), (6, 40, 60))), DATA[:, 20:])
        assert not stack.warnings
        assert (stack.read(Box((0, 0, 0), (2, 20, 60))) == 3).all()
        assert "3 of 12 chunks" in stack.warnings[0]
    with open_stack(source) as stack, pytest.raises(InputError, match="3 of 3 chunks are missing"):
        stack.read(Box((0, 0, 0), (2, 20, 60)))
    assert fingerprint_files(source) == fingerprint_files(source)


def test_a_file_in_a_store_of_s3(bucket: Url) -> None:
    with open_stack(Url(f"{bucket}/a.tif")) as stack:
        assert np.array_equal(stack.read(Box.of_shape(stack.shape)), DATA)
    for name in ("gone.tif", "gone.zarr"):
        with pytest.raises(InputError, match=r"nothing at this address|unknown kind of file"):
            open_stack(Url(f"{bucket}/{name}"))
