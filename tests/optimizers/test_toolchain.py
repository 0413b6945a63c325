"""Where C++ becomes a library: one place, which the kernels of both packages use."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from bench.training.environment import device_name
from optimizers import toolchain

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def read_anew() -> Iterator[None]:
    toolchain.processor.cache_clear()
    yield
    toolchain.processor.cache_clear()


@pytest.mark.parametrize(
    ("text", "features", "name"),
    [
        ("processor\t: 0\nmodel name\t: A: B\nflags\t\t: x y\n\nmodel name\t: C\n", "x y", "A: B"),
        ("processor\t: 0\nFeatures\t: fp asimd\nvmx flags\t: z\n", "fp asimd", None),
        ("", None, None),
        (None, None, None),
    ],
)
def test_what_is_said_of_the_processor(
    text: str | None,
    features: str | None,
    name: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "cpuinfo"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(toolchain, "Path", lambda *_: file)
    assert toolchain.features() == (features or torch.backends.cpu.get_cpu_capability())
    expected = name or platform.processor() or platform.machine()
    assert device_name(torch.device("cpu")) == expected


def test_nobody_else_reads_it_or_calls_a_compiler() -> None:
    files = [f for package in ("optimizers", "bench") for f in (ROOT / package).rglob("*.py")]
    for word in ("/proc/cpuinfo", "march=native"):
        assert [f.name for f in files if word in f.read_text("utf-8")] == ["toolchain.py"]


# --- what lies in the cache -----------------------------------------------------------------

SEVEN = 'extern "C" int step() { return 7; }'
OTHER = 'extern "C" int walk() { return 8; }'


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "optimizer-bench" / "kernels"


def step_of(text: str) -> int | None:
    library = toolchain.load_library(text, "A step", "step")
    return None if library is None else library.step()


def cut_in_half(library: Path) -> None:
    os.truncate(library, library.stat().st_size // 2)


def flip_a_byte(library: Path) -> None:
    content = bytearray(library.read_bytes())
    content[len(content) // 2] ^= 1
    library.write_bytes(content)


def put_another_in_its_place(library: Path) -> None:
    """One that was built for something else, and is whole."""
    content = toolchain.build(OTHER, library.parent / "elsewhere").read_bytes()
    key = library.stem.partition("-")[0]
    library.with_name(f"{key}-{toolchain.digest(content)}.so").write_bytes(content)
    library.unlink()


@pytest.mark.parametrize(
    "damage", [cut_in_half, lambda library: os.truncate(library, 0), flip_a_byte]
)
def test_a_damaged_library_is_built_again(kernels: Path, damage: Callable[[Path], None]) -> None:
    library = toolchain.build(SEVEN)
    whole = library.read_bytes()
    damage(library)
    assert step_of(SEVEN) == 7
    (again,) = kernels.iterdir()
    assert again.read_bytes() == whole


def test_a_library_without_its_function_is_built_again(
    kernels: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put_another_in_its_place(toolchain.build(SEVEN))
    assert step_of(SEVEN) == 7
    assert list(kernels.glob("*.so")) == []
    assert step_of(SEVEN) == 7
    assert len(list(kernels.glob("*.so"))) == 1
    assert caplog.messages == []


def test_a_text_without_its_function_runs_uncompiled(
    kernels: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert step_of(OTHER) is None
    (said,) = caplog.messages
    assert said.startswith("A step runs uncompiled, which is slower: ")
    assert said.endswith("has no function step")
    assert list(kernels.iterdir()) == []


def test_a_cache_that_cannot_be_written(kernels: Path, caplog: pytest.LogCaptureFixture) -> None:
    kernels.parent.write_text("in its place")
    assert step_of(SEVEN) == 7
    assert caplog.messages == []


def test_who_builds_at_once_gets_the_same(kernels: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        built = list(pool.map(toolchain.build, [SEVEN] * 3))
    for library in built:
        assert library.stem.endswith(toolchain.digest(library.read_bytes()))
    assert set(kernels.iterdir()) == set(built)
