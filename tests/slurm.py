"""A Slurm of this machine alone: its controller and two nodes of one processor each, with ports,
keys and state of their own, that are there while a block runs."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
NODES = ("n1", "n2")
UP, DOWN = 60, 30  # seconds

# A job that is requeued waits until its credential has expired, two minutes by default.
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmctldPidFile={place}/slurmctld.pid
SlurmctldLogFile={place}/slurmctld.log
StateSaveLocation={place}/state
SlurmUser={user}
SlurmdUser={user}
SlurmdPidFile={place}/slurmd-%n.pid
SlurmdLogFile={place}/slurmd-%n.log
SlurmdSpoolDir={place}/spool-%n
AuthType=auth/munge
AuthInfo=socket={place}/munge.socket,cred_expire=5
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0
ReturnToService=2
KillWait=15
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 State=UNKNOWN\n"


def missing() -> str | None:
    """Why there cannot be one here; None where there can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "Slurm's daemons want root, on Linux"
    absent = [program for program in PROGRAMS if found(program) is None]
    packages = "slurmctld slurmd slurm-client munge"
    return f"{', '.join(absent)} not there (Debian: {packages})" if absent else None


def found(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


@contextmanager
def cluster() -> Iterator[Mapping[str, str]]:
    """The environment in which its commands know it.

    Raises:
        RuntimeError: it does not come up.
    """
    with TemporaryDirectory(prefix="slurm") as directory, ExitStack() as stack:
        place = Path(directory)
        (place / "state").mkdir()
        host = socket.gethostname().partition(".")[0]
        ports = free_ports(1 + len(NODES))
        text = CONFIGURATION.format(host=host, ports=ports, place=place, user="root")
        for name, port in zip(NODES, ports[1:], strict=True):
            (place / f"spool-{name}").mkdir()
            text += NODE.format(name=name, host=host, port=port)
        (place / "slurm.conf").write_text(text)
        environment = {"SLURM_CONF": str(place / "slurm.conf")}
        key = place / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        start(
            "munged", f"--socket={place}/munge.socket", f"--key-file={key}", "--force",
            f"--pid-file={place}/munged.pid", f"--log-file={place}/munged.log",
            f"--seed-file={place}/munged.seed", environment=environment,
        )  # fmt: skip
        stack.callback(end, place / "munged.pid")
        start("slurmctld", "-i", environment=environment)
        stack.callback(end, place / "slurmctld.pid")
        for name in NODES:
            start("slurmd", "-N", name, environment=environment)
            stack.callback(end, place / f"slurmd-{name}.pid")
        deadline = time.monotonic() + UP
        while idle(environment) < len(NODES):
            if time.monotonic() > deadline:
                logs = "\n".join(path.read_text() for path in place.glob("*.log"))
                raise RuntimeError(f"Slurm does not come up:\n{logs}")
            time.sleep(0.2)
        stack.callback(empty, environment)
        yield environment


def free_ports(n: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def start(program: str, *arguments: str, environment: Mapping[str, str]) -> None:
    """One that goes to the background by itself."""
    path = found(program)
    assert path is not None
    made = subprocess.run(
        [path, *arguments], env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=UP,
    )  # fmt: skip
    if made.returncode:
        raise RuntimeError(f"{program}: {made.stderr or made.stdout}")


def say(environment: Mapping[str, str], *command: str) -> str:
    """What one of Slurm's commands answers; nothing where it fails."""
    made = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=UP
    )
    return made.stdout if made.returncode == 0 else ""


def idle(environment: Mapping[str, str]) -> int:
    return say(environment, "sinfo", "--noheader", "--Node", "--format=%t").split().count("idle")


def empty(environment: Mapping[str, str]) -> None:
    """Ends every job, before the nodes that would end them."""
    say(environment, "scancel", "--user=root", "--signal=KILL")
    say(environment, "scancel", "--user=root")
    deadline = time.monotonic() + DOWN
    while say(environment, "squeue", "--noheader") and time.monotonic() < deadline:
        time.sleep(0.2)


def end(pid_file: Path) -> None:
    with suppress(OSError, ValueError):
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + DOWN
        while is_there(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        if is_there(pid):
            os.kill(pid, signal.SIGKILL)


def is_there(pid: int) -> bool:
    """One that has ended, and of which nobody has taken note, is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
