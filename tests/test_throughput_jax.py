"""JAX, as a contender, trains what ours trains."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bench.throughput.loop import plain_model
from bench.throughput.problem import Problem
from tests.conftest import resolve

jax = pytest.importorskip("jax")
jax_model = pytest.importorskip("bench.throughput.jax_model")
