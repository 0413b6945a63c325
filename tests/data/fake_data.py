"""Small data sets of the real formats, with digests of their own; no torch."""

import gzip
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from bench.data import cache, specification
from bench.data.formats import CIFAR_BATCHES, Arrays, cifar_binary_files, idx_files
from bench.data.specs import DIABETES, SHAKESPEARE, ImageSpecification, Specification
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


def make_spec(name, arrays, official_files, sources) -> ImageSpecification:
    return ImageSpecification(
        name=name,
        image_shape=arrays["train-images"].shape[1:],
        train_size=len(arrays["train-labels"]),
        test_size=len(arrays["test-labels"]),
        official_files=official_files,
        md5={file: hashlib.md5(content).hexdigest() for file, content in official_files(arrays)},
        sources=tuple(sources),
    )


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
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


def without_sources(spec: Specification) -> Specification:
    return replace(spec, sources=(Unreachable("the moon"),))


def fake_text() -> Arrays:
    """Arrays of Shakespeare's kinds: words of a small vocabulary, which a model can learn."""
    rng = np.random.default_rng(0)
    words = [rng.integers(SHAKESPEARE.symbols, size=size) for size in range(2, 12) for _ in "123"]
    text = np.concatenate([words[word] for word in rng.integers(len(words), size=20_000)])
    characters = np.resize(text, SHAKESPEARE.characters)
    starts = np.linspace(0, len(characters), len(SHAKESPEARE.plays) + 1)
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


def fake_cache(name: str, data_dir: Path) -> Arrays:
    """Puts made-up arrays of the true kinds into the cache in `data_dir`, as if they had been
    fetched: all that reads the data set there takes them for it, but for `--verify`."""
    spec, arrays = specification(name), FAKES[name]()
    with cache.workspace(data_dir / name) as partial:
        cache.store(spec, arrays, "made up", data_dir / name, partial)
    return arrays
