"""Data sets on disk: `<data_dir>/<name>/` holds an `.npy` file for each array, and a manifest.

Data are verified before they are cached, so what a file holds follows from the data set alone.
Files can therefore be moved into place one by one, the manifest last: whoever writes one writes the
same.

They are read into memory, and it is there that their content is verified, each time: what happens
to a file later neither changes nor ends what was begun with it. Mapped files would be shared by the
processes of a sweep, and end them all when one is cut short.
"""

import hashlib
import json
import logging
import math
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from bench.data.formats import Arrays
from bench.data.specs import Kind, Specification, default_data_dir, specification
from bench.errors import BenchError

MANIFEST = "manifest.json"

log = logging.getLogger(__name__)


class Damaged(BenchError):
    """What lies in the cache is not what was put there."""


def arrays(name: str, data_dir: Path | None = None) -> Mapping[str, NDArray[Any]]:
    """The arrays of a data set of any kind, as its specification has them, read from the cache in
    `data_dir` and verified; fetched first if they are not there, or damaged.

    Raises:
        BenchError: no such data set, or no source that can be reached.
    """
    return obtain(specification(name), data_dir)


def obtain(spec: Specification, data_dir: Path | None) -> Arrays:
    """The cached arrays, as `open_arrays` gives them; fetched first if they are not there, or
    damaged.

    Raises:
        BenchError: no source gave the data.
    """
    place = (data_dir or default_data_dir()).expanduser()
    damage = None
    try:
        if (arrays := open_arrays(spec, place)) is not None:
            return arrays
    except Damaged as error:
        damage = error
        log.warning("%s; it is fetched again", damage)
    try:
        fetch(spec, place)
    except BenchError as error:
        if damage is None:
            raise
        raise BenchError(f"{damage}, and cannot be fetched again: {error}") from error
    fetched = open_arrays(spec, place)
    assert fetched is not None
    return fetched


def open_arrays(spec: Specification, data_dir: Path, *, official: bool = False) -> Arrays | None:
    """The cached arrays, in memory and verified; None if the data set is not cached.

    Args:
        official: compare them with the official digests, too, as was done before they were cached.

    Raises:
        Damaged: a file is missing, truncated, altered or foreign.
    """
    directory = data_dir / spec.name
    path = directory / MANIFEST
    arrays = {}
    try:
        if not path.exists():
            return None
        sizes = read_manifest(spec, path)
        for name, kind in spec.arrays.items():
            path = directory / f"{name}.npy"
            if (found := path.stat().st_size) != sizes[name]:
                raise ValueError(f"{sizes[name]:,} bytes expected, found {found:,}")
            array = arrays[name] = read_array(path, kind)
            if (digest := zlib.crc32(array.data)) != spec.crc32[name]:
                raise ValueError(f"CRC-32 {spec.crc32[name]:08x} expected, found {digest:08x}")
        if official:
            path = directory
            check_official(spec, arrays)
    except (OSError, ValueError, BenchError) as error:
        problem = error.strerror if isinstance(error, OSError) else error
        raise Damaged(f"{path}: damaged or unreadable ({problem})") from error
    return arrays


def read_manifest(spec: Specification, path: Path) -> dict[str, int]:
    """The size of each file, if they were stored under the official digests."""
    try:
        manifest = json.loads(path.read_text())
        files = manifest["files"]
        sizes = {name: files[name]["bytes"] for name in spec.arrays}
        if manifest["md5"] == spec.md5:
            return sizes
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"not the manifest of {spec.name}")


def read_array(path: Path, kind: Kind) -> NDArray[Any]:
    """What `np.load` gives, unless the header, which may be damaged, is that of another kind."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if (found := Kind(str(dtype), shape)) != kind:
            raise ValueError(f"{kind} expected, found {found}")
        return np.fromfile(file, dtype, math.prod(shape)).reshape(shape)


def fetch(spec: Specification, data_dir: Path) -> None:
    """Gets the data set from the first source that has it, unless it is there and intact.

    Raises:
        BenchError: `data_dir` cannot be written, or no source gave the right data.
    """
    directory = (data_dir / spec.name).resolve()  # package clients run in another directory
    try:
        with workspace(directory) as partial:
            if intact(spec, data_dir):
                return
            arrays, source = from_sources(spec, partial)
            store(spec, arrays, source, directory, partial)
    except OSError as error:
        raise BenchError(
            f"{error.filename or directory}: cannot be written ({error.strerror}); "
            "choose another directory for the data with data_dir (--data-dir)"
        ) from error


def intact(spec: Specification, data_dir: Path) -> bool:
    try:
        return open_arrays(spec, data_dir, official=True) is not None
    except BenchError:
        return False


@contextmanager
def workspace(directory: Path) -> Iterator[Path]:
    """An empty directory on the file system of the cache; one process at a time has it."""
    directory.mkdir(parents=True, exist_ok=True)
    partial = directory / "partial"
    with FileLock(directory / "lock"):
        shutil.rmtree(partial, ignore_errors=True)  # what a killed process left
        partial.mkdir()
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def from_sources(spec: Specification, partial: Path) -> tuple[Arrays, str]:
    """The verified data set and the name of its source."""
    reasons = []
    for number, source in enumerate(spec.sources):
        downloads = partial / str(number)
        downloads.mkdir()
        log.info("%s: fetching from %s", spec.name, source)
        try:
            arrays = source.fetch(downloads)
            check_official(spec, arrays)
            return arrays, str(source)
        except BenchError as error:
            reasons.append(f"{source}: {error}")
    raise BenchError(
        f"{spec.name}: no source gave the data. Tried {'; '.join(reasons)}. Check the network, or "
        f"copy {partial.parent} from a machine that has it"
    )


def check_official(spec: Specification, arrays: Arrays) -> None:
    """Compares the data with the official digests.

    Raises:
        BenchError: they differ; it names the first official file that would.
    """
    for name, kind in spec.arrays.items():
        if (found := Kind.of(arrays[name])) != kind:
            raise BenchError(f"{name}: {kind} expected, found {found}")
    for file, content in spec.official_files(arrays):
        if (digest := hashlib.md5(content, usedforsecurity=False).hexdigest()) != spec.md5[file]:
            raise BenchError(f"{file}: MD5 {spec.md5[file]} expected, found {digest}")


def store(spec: Specification, arrays: Arrays, source: str, directory: Path, partial: Path) -> None:
    files = {}
    for name, array in arrays.items():
        path = partial / f"{name}.npy"
        np.save(path, np.ascontiguousarray(array))
        files[name] = {
            "bytes": path.stat().st_size,
            "shape": array.shape,
            "dtype": str(array.dtype),
            "sha256": sha256(path),
        }
    manifest = {"dataset": spec.name, "source": source, "md5": dict(spec.md5), "files": files}
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    for file in (*(f"{name}.npy" for name in arrays), MANIFEST):
        with (partial / file).open("rb") as written:
            os.fsync(written.fileno())
        os.replace(partial / file, directory / file)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
