"""What a result was made with, as far as it is code: versions, and the state of the source tree.

No torch here: a person who asks for the version does not wait for it.
"""

import functools
import hashlib
import inspect
import pkgutil
import platform
import subprocess
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import bench

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "numpy")
OURS = ("bench", "optimizers")
ROOT = Path(__file__).resolve().parents[1]  # of the repository, or what an installer put us into


def summary() -> str:
    """In one line."""
    packages = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    return f"optimizer-bench {bench.__version__} (Python {platform.python_version()}, {packages})"


@functools.cache
def code() -> dict[str, Any]:
    """All that can change a result beside its configuration, its data and the machine.

    ``source`` is a digest of our own files: where it is the same, so is our code, whatever was
    committed since, and whether there is a repository or not.
    """
    return {
        "python": platform.python_version(),
        "optimizer-bench": bench.__version__,
        **{package: _version(package) for package in PACKAGES},
        "source": _source(),
        **_git(),
    }


def inputs(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a configuration names and does not hold: its data, and classes that are not ours."""
    from bench.data import specification

    return {
        "data": specification(config["workload"]["dataset"]).checksum,
        "classes": classes(config),
    }


def classes(config: Mapping[str, Any]) -> dict[str, str | None]:
    """Of each class that a configuration names and that is not ours, a digest of its file; None
    where it has none, or is not found."""
    named = dict.fromkeys(_targets(config))
    return {name: _file_of(name) for name in named if name.partition(".")[0] not in OURS}


def _targets(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(target := value.get("_target_"), str):
            yield target
        value = list(value.values())
    for item in value if isinstance(value, list) else ():
        yield from _targets(item)


def _file_of(name: str) -> str | None:
    try:
        path = inspect.getsourcefile(pkgutil.resolve_name(name))
    except (ImportError, ValueError, AttributeError, TypeError):
        return None
    return path and hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _source() -> str:
    digest = hashlib.sha256()
    for package in OURS:
        for path in sorted((ROOT / package).rglob("*")):
            if path.suffix in (".py", ".cpp"):
                digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _git() -> dict[str, Any]:
    """None where these files are not those of a repository: installed, they may lie within one."""

    def git(*arguments: str) -> str | None:
        try:
            return subprocess.run(
                ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
            ).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return None

    if git("ls-files", "--error-unmatch", __file__) is None:
        return {"git_commit": None, "git_dirty": None}
    changes = git("status", "--porcelain", "--untracked-files=no")
    return {
        "git_commit": git("rev-parse", "HEAD"),
        "git_dirty": None if changes is None else bool(changes),
    }
