"""A SLURM of two nodes on this host, for the tests: without munge and control groups, on loopback alone."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.machine import missing
from tests.processes import free_port, wait_for

_CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=500
EnforcePartLimits=ALL
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=15
KillWait=2
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobcomp.txt
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=100000
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={n1} CPUs=2 RealMemory=16000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={n2} CPUs=2 RealMemory=16000
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=30
"""
_SECONDS = 60


class Slurm:
    """The running SLURM, for the commands of its users and for the kills of its nodes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: list[int] = []

    def start(self, *daemon: str) -> None:
        """Start a daemon, which puts itself into the background."""
        subprocess.run(daemon, check=True, timeout=_SECONDS)
        file = self.folder / f"{daemon[0] if len(daemon) == 1 else f'{daemon[0]}-{daemon[-1]}'}.pid"
        # One that was killed has left its own.
        wait_for(lambda: file.is_file() and _lives(int(file.read_text() or 0)), _SECONDS)
        self.daemons.append(int(file.read_text()))

    def end(self, patience_s: float = 10.0) -> None:
        """End every job and every daemon, by force in the end."""
        with suppress(subprocess.SubprocessError):
            self.run("scancel", "--user", getpass.getuser())
            # A daemon that is told to end while it ends a job waits much longer; those of a dead node stay for ever.
            with suppress(AssertionError):
                wait_for(lambda: not self.jobs("running"), 5)
            self.run("scontrol", "shutdown")
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline and any(map(_lives, self.daemons)):
            time.sleep(0.1)
        for pid in filter(_lives, self.daemons):
            os.kill(pid, signal.SIGKILL)

    def run(self, *command: str) -> str:
        """Run a client of SLURM and return what it prints."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)
        return done.stdout.strip()

    def jobs(self, state: str = "running") -> list[str]:
        """Return the numbers of the jobs in a state, oldest first; tasks of an array as 12_3."""
        return sorted(self.run("squeue", "-h", "-o", "%i", "-t", state).split(), key=_number)

    def running(self, least: int = 1) -> list[str]:
        """Wait for so many jobs to run, and return them, oldest first."""
        found: list[str] = []

        def enough() -> bool:
            found[:] = self.jobs()
            return len(found) >= least

        wait_for(enough, 90)
        return found

    def state(self, job: str) -> str:
        """Return what has become of a job, also when it is over."""
        found = self.run("scontrol", "-o", "show", "job", job)
        return found.partition("JobState=")[2].split()[0]

    def node_of(self, job: str) -> str:
        """Return the node that a job runs on."""
        return self.run("squeue", "-h", "-o", "%N", "-j", job)

    def kill_node(self, node: str) -> None:
        """Kill the daemon of a node and all that it has started, as a power cut would."""
        daemon = psutil.Process(int((self.folder / f"slurmd-{node}.pid").read_text()))
        # Each job runs a script below the node's own folder, as a child of its step.
        spool = str(self.folder / "spool" / node)
        scripts = [one for one in psutil.process_iter(["cmdline"]) if spool in " ".join(one.info["cmdline"] or [])]
        steps = [step for step in (script.parent() for script in scripts) if step is not None]
        for process in (daemon, *(child for step in steps for child in (step, *step.children(recursive=True)))):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)

    def mend(self) -> None:
        """Start the nodes that were killed again."""
        for node in ("n1", "n2"):
            if not _lives(int((self.folder / f"slurmd-{node}.pid").read_text())):
                self.start("slurmd", "-N", node)
        self.wait_for_nodes()

    def wait_for_nodes(self) -> None:
        """Wait until every node takes jobs."""
        wait_for(lambda: set(self.run("sinfo", "-h", "-N", "-o", "%T").split()) <= {"idle", "mixed"}, 60)


@contextmanager
def slurm() -> Iterator[Slurm]:
    """Run a SLURM of two nodes while the body runs; whatever it has started is gone afterwards."""
    os.environ["PATH"] += os.pathsep + "/usr/sbin"
    if shutil.which("slurmctld") is None:
        missing(
            "no SLURM on this machine; as root: apt-get install --no-install-recommends slurmctld slurmd slurm-client"
        )
    # Short: the paths of unix sockets lie under it.
    with tempfile.TemporaryDirectory(prefix="slurm") as name:
        folder, ports = Path(name), [free_port() for _ in range(3)]
        names = {"host": socket.gethostname().partition(".")[0], "user": getpass.getuser(), "folder": folder}
        for part in ("state", "spool"):
            (folder / part).mkdir()
        (folder / "slurm.conf").write_text(_CONFIG.format(**names, port=ports[0], n1=ports[1], n2=ports[2]))
        os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
        machine = Slurm(folder)
        try:
            machine.start("slurmctld")
            for node in ("n1", "n2"):
                machine.start("slurmd", "-N", node)
            machine.wait_for_nodes()
            yield machine
        finally:
            machine.end()
            del os.environ["SLURM_CONF"]


def _lives(pid: int) -> bool:
    try:
        # Daemons that have ended stay zombies where nobody reaps them.
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _number(job: str) -> tuple[int, ...]:
    return tuple(int(part) for part in job.split("_") if part.isdigit())
