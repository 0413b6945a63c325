"""Where C++ becomes a library: one place, which the kernels of both packages use."""

from __future__ import annotations

import platform
from collections.abc import Iterator
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
