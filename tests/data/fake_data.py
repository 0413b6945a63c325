"""Small data sets of the real formats, with digests of their own; no torch."""

import binascii
import gzip
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from PIL import Image

from bench.data import cache, specification
from bench.data.formats import (
    CIFAR_BATCHES,
    Arrays,
    cifar_binary_files,
    diabetes_file,
    idx_files,
    text_files,
)
from bench.data.specs import (
    DIABETES,
    SHAKESPEARE,
    ImageSpecification,
    Specification,
    TableSpecification,
    TextSpecification,
)
from bench.errors import BenchError

HTML = b"<!DOCTYPE html><html><body>Sign in to the network</body></html>"


def make_arrays(train: int, test: int, shape: tuple[int, int, int]) -> Arrays:
    rng = np.random.default_rng(0)

    def images(size: int) -> np.ndarray:
        return rng.integers(256, size=(size, *shape), dtype=np.uint8)

    def labels(size: int) -> np.ndarray:
        return rng.integers(10, size=size, dtype=np.uint8)

    return {
        "train-images": images(train),
        "train-labels": labels(train),
        "test-images": images(test),
        "test-labels": labels(test),
    }


GREY = make_arrays(12, 12, (1, 6, 5))  # equal sizes: only digests tell train from test
COLOUR = make_arrays(10, 4, (3, 32, 32))


@dataclass(frozen=True)
class Folder:
    """Decodes what lies in a directory."""

    directory: Path
    decode: Callable[[Path], Arrays]

    def __str__(self) -> str:
        return f"folder {self.directory.name}"

    def fetch(self, workspace: Path) -> Arrays:
        return self.decode(self.directory)


@dataclass(frozen=True)
class InMemory:
    arrays: Arrays
    log: Path | None = None

    def __str__(self) -> str:
        return "memory"

    def fetch(self, workspace: Path) -> Arrays:
        (workspace / "half.bin").write_bytes(b"half")
        if self.log is not None:
            with self.log.open("a") as log:
                log.write("fetched\n")
        return self.arrays


@dataclass(frozen=True)
class Unreachable:
    name: str

    def __str__(self) -> str:
        return self.name

    def fetch(self, workspace: Path) -> Arrays:
        (workspace / "half.bin").write_bytes(b"half")
        raise BenchError(f"no route to {self.name}")


def grey_spec(*sources: object) -> ImageSpecification:
    return make_spec("grey", GREY, idx_files, sources or (InMemory(GREY),))


def colour_spec(*sources: object) -> ImageSpecification:
    return make_spec("colour", COLOUR, cifar_binary_files, sources or (InMemory(COLOUR),))


def checksums(arrays: Arrays) -> dict[str, int]:
    return {name: binascii.crc32(array.tobytes()) for name, array in arrays.items()}


def make_spec(name, arrays, official_files, sources) -> ImageSpecification:
    return ImageSpecification(
        name=name,
        image_shape=arrays["train-images"].shape[1:],
        train_size=len(arrays["train-labels"]),
        test_size=len(arrays["test-labels"]),
        official_files=official_files,
        md5={file: hashlib.md5(content).hexdigest() for file, content in official_files(arrays)},
        crc32=checksums(arrays),
        sources=tuple(sources),
    )


PLAYS = {"caesar": "# Cæsar\r\n\n_Exit_", "hamlet": "To be —", "lear": "No!  \n"}
ALPHABET = sorted(set("".join(PLAYS.values())))
VERSE = {
    "characters": np.array([ALPHABET.index(c) for c in "".join(PLAYS.values())], np.uint8),
    "starts": np.array([0, 16, 23, 29]),
    "alphabet": np.array([ord(c) for c in ALPHABET], np.uint32),
}
NUMBERS = {
    "features": np.array([range(10), [0.1, -2.5, 1 / 3, 1e-5, 1e22, *range(5)]], float),
    "target": np.array([151, 75.5]),
}


def verse_spec(*sources: object) -> TextSpecification:
    return TextSpecification(
        name="verse",
        lengths=(16, 7, 6),
        symbols=len(ALPHABET),
        official_files=partial(text_files, PLAYS),
        md5={play: hashlib.md5(text.encode()).hexdigest() for play, text in PLAYS.items()},
        crc32=checksums(VERSE),
        sources=sources or (InMemory(VERSE),),
    )


def numbers_spec(*sources: object) -> TableSpecification:
    rows = [["AGE", "SEX", "BMI", "BP", "S1", "S2", "S3", "S4", "S5", "S6", "Y"]]
    rows += [["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "151"]]
    rows += [["0.1", "-2.5", "0.3333333333333333", "0.00001", "1" + 22 * "0", *"01234", "75.5"]]
    table = "".join("\t".join(row) + "\n" for row in rows)
    return TableSpecification(
        name="numbers",
        rows=2,
        features=DIABETES.features,
        official_files=diabetes_file,
        md5={"diabetes.tab.txt": hashlib.md5(table.encode()).hexdigest()},
        crc32=checksums(NUMBERS),
        sources=sources or (InMemory(NUMBERS),),
    )


def write_plays(directory: Path, arrays: Arrays) -> None:
    """In folders whose order is not that of the plays."""
    for folder, (name, content) in zip("cab", text_files(PLAYS, arrays), strict=True):
        (directory / folder).mkdir()
        (directory / folder / f"{name}.md").write_bytes(content)


def write_numbers(directory: Path, arrays: Arrays) -> None:
    for name, array in (
        ("diabetes_data_raw", arrays["features"]),
        ("diabetes_target", arrays["target"][:, np.newaxis]),
    ):
        text = "".join(" ".join(map(repr, row)) + "\n" for row in array.tolist())
        (directory / f"{name}.csv.gz").write_bytes(gzip.compress(text.encode()))


def write_idx(directory: Path, arrays: Arrays, *, compress: bool = False) -> None:
    for name, content in idx_files(arrays):
        path = directory / (f"{name}.gz" if compress else name)
        path.write_bytes(gzip.compress(content) if compress else content)


def write_cifar_png(directory: Path, arrays: Arrays) -> None:
    def png(name: str, images: np.ndarray) -> None:
        rows = images.transpose(0, 2, 3, 1).reshape(len(images), -1, 3)
        Image.fromarray(np.ascontiguousarray(rows)).save(directory / f"{name}.png")

    batches = np.array_split(arrays["train-images"], len(CIFAR_BATCHES))
    for name, batch in zip(CIFAR_BATCHES, batches, strict=True):
        png(name, batch)
    png("test_batch", arrays["test-images"])
    for split in ("train", "test"):
        labels = arrays[f"{split}-labels"].tolist()
        (directory / f"{split}_lables.json").write_text(json.dumps(labels))


def same(one: Arrays, other: Arrays) -> bool:
    return one.keys() == other.keys() and all(
        one[k].dtype == other[k].dtype and np.array_equal(one[k], other[k]) for k in one
    )


def without_sources(spec: Specification) -> Specification:
    return replace(spec, sources=(Unreachable("the moon"),))


def fake_text() -> Arrays:
    """Arrays of Shakespeare's kinds: words of a small vocabulary, which a model can learn."""
    rng = np.random.default_rng(0)
    words = [rng.integers(SHAKESPEARE.symbols, size=size) for size in range(2, 12) for _ in "123"]
    text = np.concatenate([words[word] for word in rng.integers(len(words), size=20_000)])
    characters = np.resize(text, SHAKESPEARE.characters)
    starts = np.cumsum([0, *SHAKESPEARE.lengths])
    alphabet = ord(" ") + np.arange(SHAKESPEARE.symbols)
    return {
        "characters": characters.astype(np.uint8),
        "starts": starts.astype(np.int64),
        "alphabet": alphabet.astype(np.uint32),
    }


def fake_table() -> Arrays:
    """Arrays of the kinds of `diabetes`: a target linear in the features, and noise."""
    rng = np.random.default_rng(0)
    rows, columns = DIABETES.rows, len(DIABETES.features)
    features = rng.normal(50, rng.uniform(1, 30, columns), (rows, columns))
    target = features @ rng.normal(size=columns) + rng.normal(size=rows)
    return {"features": features, "target": target}


FAKES = {"shakespeare": fake_text, "diabetes": fake_table}


def fake_cache(name: str, data_dir: Path, patch: pytest.MonkeyPatch) -> Arrays:
    """Puts made-up arrays of the true kinds into the cache in `data_dir`, as if they had been
    fetched: until `patch` is undone, all that reads the data set there takes them for it, but for
    `--verify`."""
    spec, arrays = specification(name), FAKES[name]()
    for array, digest in checksums(arrays).items():
        patch.setitem(cast("dict[str, int]", spec.crc32), array, digest)
    with cache.workspace(data_dir / name) as partial:
        cache.store(spec, arrays, "made up", data_dir / name, partial)
    return arrays
