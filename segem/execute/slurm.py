"""Blocks on workers that are jobs of SLURM, submitted by dask-jobqueue and submitted again when they end."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from segem.config import ExecutionConfig
from segem.errors import ConfigError, ServerError
from segem.execute.tasks import WorkerWatch, run_tasks, watched
from segem.execute.work import Outcomes, Sweep
from segem.io.files import write_text
from segem.progress import tell

LOOK_SECONDS = 10.0
"""How often jobs that have ended are replaced; SLURM's controller does not like to be asked much more often."""
COMMAND_SECONDS = 60
PEAK_BYTES = 3_000_000_000
"""What a worker takes at its peak without --memory."""
ALLOWED_FAILURES = 10
"""How many workers may end under a block before it counts as what kills them: jobs end for many good reasons."""


def run_slurm(sweep: Sweep, execution: ExecutionConfig, on_voxels: Callable[[int], None]) -> Outcomes:
    """Finish blocks on as many jobs of SLURM as there are to be workers; a job that ends is replaced by a new one."""
    _require_slurm()
    with _cluster(execution, sweep.scratch) as client:
        yield from run_tasks(client, sweep, on_voxels)


def _require_slurm() -> None:
    if find_spec("dask_jobqueue") is None:
        raise ConfigError(
            "dask-jobqueue is not installed",
            where="--cluster slurm",
            fix="run pip install -e '.[slurm]' in the clone of segem",
        )
    if shutil.which("sbatch") is None:
        raise ConfigError(
            "there is no sbatch on PATH",
            where="--cluster slurm",
            fix="run this on a host from which jobs are submitted",
        )


@contextmanager
def _cluster(execution: ExecutionConfig, scratch: Path) -> Iterator[Any]:
    import dask
    from dask_jobqueue import SLURMCluster
    from distributed import Client

    settings = {"distributed.scheduler.allowed-failures": ALLOWED_FAILURES}
    logs = scratch / "slurm"
    with (
        # Certificates for this sweep alone, on the disk that jobs share, in a folder that only their user can read.
        tempfile.TemporaryDirectory(dir=scratch, prefix=".dask-") as folder,
        dask.config.set(settings),
        SLURMCluster(
            **job_options(execution, dask.config.get), log_directory=logs, security=_certificates(Path(folder))
        ) as cluster,
        Client(cluster) as client,
    ):
        cluster.scale(execution.workers)
        tell(f"{execution.workers} jobs submitted to SLURM, their logs are in {logs}")
        warn = WorkerWatch(client, f"see squeue, and the logs in {logs}")

        def look() -> None:
            replace_ended(cluster, execution.workers)
            warn()

        with watched(look, LOOK_SECONDS):
            yield client


def _certificates(folder: Path) -> Any:
    """Return new certificates, in files that jobs can read: only who can read them speaks to scheduler and workers."""
    from distributed import Security

    # Written here: those that dask-jobqueue writes stay behind when the cluster is closed.
    made = Security.temporary()
    files = {name: folder / name for name in ("ca_file", "client_cert", "client_key")}
    for name, file in files.items():
        write_text(file, getattr(made, f"tls_{name}"))
    pairs = {
        f"tls_{role}_{part}": str(files[f"client_{part}"])
        for role in ("client", "scheduler", "worker")
        for part in ("cert", "key")
    }
    return Security(require_encryption=True, tls_ca_file=str(files["ca_file"]), **pairs)


def job_options(execution: ExecutionConfig, configured: Callable[..., Any]) -> dict[str, Any]:
    """Return what dask-jobqueue is told: settings that are given, then those of dask's configuration, then defaults.

    Parameters
    ----------
    execution : ExecutionConfig
        With the settings of jobs.
    configured : callable
        Takes the name of a setting of dask and a default, and returns its value.

    Returns
    -------
    dict
        Arguments of `dask_jobqueue.SLURMCluster`.

    Raises
    ------
    ConfigError
        When no network interface is named: scheduler and workers would listen on all.
    """
    slurm = execution.slurm

    def setting(name: str, default: Any = None) -> Any:
        return configured(f"jobqueue.slurm.{name}", default) or default

    interface = slurm.interface or setting("interface")
    if interface is None:
        raise ConfigError(
            "no network interface is named by which jobs reach this host",
            where="--cluster slurm",
            found=f"interfaces here: {', '.join(_interfaces())}",
            fix="give one, such as --interface ib0, that the nodes have too",
        )
    memory = slurm.job_memory or setting("memory") or (execution.memory or PEAK_BYTES) * 4 // 3
    # Jobs are replaced here; one that SLURM started again would be one too many.
    directives = ["--no-requeue", *([f"--gres=gpu:{slurm.gpus}"] if slurm.gpus else [])]
    given = {"queue": slurm.queue, "account": slurm.account, "walltime": slurm.walltime}
    return {
        **{name: value for name, value in given.items() if value is not None},
        "cores": slurm.cores or setting("cores", 1),
        "processes": 1,
        "memory": str(memory),
        "interface": interface,
        "job_extra_directives": [*setting("job-extra-directives", []), *directives],
        "protocol": "tls://",
        # Without an address, each dashboard would listen on all interfaces.
        "scheduler_options": {"dashboard_address": "127.0.0.1:0", **setting("scheduler-options", {})},
        "worker_extra_args": [
            *setting("worker-extra-args", []),
            *("--dashboard-address", "127.0.0.1:0", "--no-dashboard"),
        ],
    }


def replace_ended(cluster: Any, jobs: int) -> None:
    """Submit a new job for each one that has ended, whether its worker ever came or not.

    Parameters
    ----------
    cluster : dask_jobqueue.SLURMCluster
    jobs : int
        How many there are to be.
    """
    # dask forgets a worker that it has seen and lost. A job that was cancelled before its worker came would count for
    # ever, and so would all of them.
    there = {str(worker["name"]) for worker in cluster.scheduler_info["workers"].values()}
    missing = {name: job.job_id for name, job in list(cluster.workers.items()) if str(name) not in there}
    if missing:
        queued = _queued()
        for name in (name for name, job in missing.items() if job is not None and job not in queued):
            cluster.worker_spec.pop(name, None)
    cluster.scale(jobs)


def _queued() -> set[str]:
    """Return the numbers of the user's jobs that wait or run."""
    command = ["squeue", "--noheader", "--me", "--format=%A"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=True)  # noqa: S603 - no input
    except (OSError, subprocess.SubprocessError) as error:
        raise ServerError("SLURM does not answer", where="squeue", found=error, fix="see sinfo") from error
    return set(found.stdout.split())


def _interfaces() -> list[str]:
    return [name for _, name in socket.if_nameindex()]
