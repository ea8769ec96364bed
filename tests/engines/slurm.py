"""A SLURM of this machine alone, started for the tests: munged, slurmctld, and a slurmd for each of its nodes."""

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from subprocess import Popen

from tests.helpers import free_ports, wait_until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
CONFIG = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=30
InactiveLimit=0
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=8000"


class Slurm:
    """A running SLURM.

    Args:
        folder: of its configuration, state and logs.
    """

    def __init__(self, folder: Path) -> None:
        self.env = {"SLURM_CONF": str(folder / "slurm.conf"), "OMP_NUM_THREADS": "1"}

    def run(self, *command: str) -> str:
        """The output of one of SLURM's commands."""
        done = subprocess.run(command, env={**os.environ, **self.env}, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def jobs(self) -> dict[str, str]:
        """The state of each job, or element of an array, that has not ended."""
        lines = self.run("squeue", "--noheader", "--array", "--format=%i %T").splitlines()
        return dict(line.split() for line in lines)

    def hurry(self) -> None:
        """Start the jobs that were requeued now; SLURM may wait for two minutes."""
        for job in [job for job, state in self.jobs().items() if state == "PENDING"]:
            with suppress(subprocess.CalledProcessError):  # it has started by itself
                self.run("scontrol", "update", f"JobId={job}", "StartTime=now")


@contextmanager
def running(folder: Path, nodes: Sequence[str] = ("n1", "n2")) -> Iterator[Slurm]:
    """Start SLURM with its files in a folder, and end it."""
    ports = free_ports(1 + len(nodes))
    host, user = socket.gethostname().partition(".")[0], getpass.getuser()
    lines = [NODE.format(name=name, host=host, port=port) for name, port in zip(nodes, ports[1:], strict=True)]
    text = CONFIG.format(folder=folder, host=host, user=user, ports=ports, nodes="\n".join(lines))
    (folder / "slurm.conf").write_text(text)
    (folder / "state").mkdir()
    slurm = Slurm(folder)
    daemons = [["slurmctld", "-D"], *(["slurmd", "-D", "-N", name] for name in nodes)]
    with ExitStack() as stack:
        stack.enter_context(_munged(folder / "munge"))
        for command in daemons:
            stack.enter_context(_process(command, slurm.env))
        wait_until(lambda: _idle(slurm) == len(nodes), 60)
        try:
            yield slurm
        finally:  # or the jobs of a test that failed would go on without SLURM
            slurm.run("scancel", f"--user={user}")
            wait_until(lambda: not slurm.jobs(), 60)


def _idle(slurm: Slurm) -> int:
    try:
        return slurm.run("sinfo", "--noheader", "--Node", "--format=%t").split().count("idle")
    except subprocess.CalledProcessError:  # slurmctld is not there yet
        return 0


@contextmanager
def _munged(folder: Path) -> Iterator[None]:
    """SLURM's authentication, with a key of its own; it refuses to run as root."""
    user = "munge" if os.geteuid() == 0 else None
    folder.mkdir(mode=0o755)
    (folder / "key").write_bytes(os.urandom(128))
    (folder / "key").chmod(0o600)
    if user:
        for path in (folder, folder / "key"):
            shutil.chown(path, user, user)
    names = ("socket", "key-file", "pid-file", "log-file", "seed-file")
    options = [f"--{name}={folder / name.removesuffix('-file')}" for name in names]
    with _process(["munged", "--foreground", *options], {}, user=user):
        wait_until((folder / "socket").exists, 60)
        yield


@contextmanager
def _process(command: Sequence[str], env: dict[str, str], user: str | None = None) -> Iterator[Popen[bytes]]:
    path = shutil.which(command[0], path=f"{os.environ['PATH']}:/usr/sbin")
    output = subprocess.DEVNULL
    process = Popen(
        [str(path), *command[1:]], env={**os.environ, **env}, user=user, group=user, stdout=output, stderr=output
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)
