"""A dask scheduler of its own with workers, over TLS, as somebody else would start them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import Popen

import distributed  # noqa: F401 - before its configuration is changed, which it fills in when it is imported
import trustme

from tests.processes import clean_environment, started, wait_for

TLS = "distributed.comm.tls"


class Authority:
    """Certificates of one authority, in files."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        self.ca, self.cert, self.key = (folder / name for name in ("ca.pem", "cert.pem", "key.pem"))
        authority.cert_pem.write_to_path(self.ca)
        certificate.private_key_pem.write_to_path(self.key)
        for piece in certificate.cert_chain_pems:
            piece.write_to_path(self.cert, append=True)

    def options(self) -> list[str]:
        """What scheduler and workers are started with."""
        return ["--tls-ca-file", str(self.ca), "--tls-cert", str(self.cert), "--tls-key", str(self.key)]

    def settings(self) -> dict[str, str]:
        """What a client has in dask's configuration."""
        return {
            f"{TLS}.ca-file": str(self.ca),
            f"{TLS}.client.cert": str(self.cert),
            f"{TLS}.client.key": str(self.key),
        }


def scheduler_command(file: Path, options: list[str]) -> list[str]:
    """Return the command of a scheduler on loopback that tells its address in a file."""
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    return [*command, "--scheduler-file", str(file), "--dashboard-address", "127.0.0.1:0", "--no-show", *options]


def worker_command(file: Path, folder: Path, options: list[str]) -> list[str]:
    """Return the command of a worker with two threads."""
    command = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(file), "--nanny"]
    command += ["--host", "127.0.0.1", "--nthreads", "2", "--memory-limit", "0", "--local-directory", str(folder)]
    return [*command, "--dashboard-address", "127.0.0.1:0", "--no-dashboard", "--death-timeout", "60", *options]


@contextmanager
def tls_cluster(folder: Path, authority: Authority, workers: int) -> Iterator[tuple[Path, list[Popen[bytes]]]]:
    """Start a scheduler and workers; yield the scheduler file and the processes, the scheduler first."""
    file, environment = folder / "scheduler.json", clean_environment()
    options = ["--protocol", "tls", *authority.options()]
    with ExitStack() as stack:
        log = folder / "scheduler.log"
        processes = [stack.enter_context(started(scheduler_command(file, options), log, environment))]
        wait_for(file.is_file, 60, log)
        for number in range(workers):
            command = worker_command(file, folder, options)
            processes.append(stack.enter_context(started(command, folder / f"worker-{number}.log", environment)))
        yield file, processes
