"""A person's arrays as splits of tensors on the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from bench.data.tensors import generator
from bench.errors import BenchError
from bench.workloads.workload import SPLITS, Place, len_of

Splits = dict[str, dict[str, Tensor]]


def checked(owner: str, arrays: Mapping[str, Mapping[str, Any]]) -> Splits:
    """As tensors on the CPU, where they are what `Arrays.arrays` says.

    Raises:
        BenchError: a split or an array is missing, or arrays of a split differ in length.
    """
    what = f"{owner}.arrays"
    if not isinstance(arrays, Mapping) or not {"train", "test"} <= arrays.keys() <= set(SPLITS):
        given = (
            ", ".join(map(str, arrays)) if isinstance(arrays, Mapping) else type(arrays).__name__
        )
        raise BenchError(f"{what}: gives {given}; train, test and perhaps val are needed")
    splits: Splits = {}
    for split, named in arrays.items():
        splits[split] = {name: _tensor(f"{what}: {split} {name}", x) for name, x in named.items()}
        lengths = {name: len(x) for name, x in splits[split].items()}
        if len(set(lengths.values())) != 1 or not next(iter(lengths.values())):
            said = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise BenchError(f"{what}: {split}: as many examples in each array, from 1: {said}")
        if named.keys() != arrays["train"].keys():
            raise BenchError(
                f"{what}: {split} has {', '.join(named)}, train {', '.join(arrays['train'])}"
            )
    return splits


def _tensor(what: str, values: Any) -> Tensor:
    try:
        tensor = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BenchError(f"{what}: is no array of numbers ({error})") from error
    if tensor.ndim == 0:
        raise BenchError(f"{what}: is one number; its first axis must go by examples")
    if not bool(tensor.isfinite().all()):
        raise BenchError(f"{what}: has values that are not finite")
    return tensor


def placed(arrays: Splits, val_size: int, split_seed: int, place: Place) -> Splits:
    """On the device, floating-point numbers in its dtype; ``val_size`` examples of ``train``,
    drawn by ``split_seed`` alone, are set aside as ``val``, both in their order."""
    splits: dict[str, Mapping[str, Tensor]] = dict(arrays)
    if val_size:
        order = torch.randperm(len_of(arrays["train"]), generator=generator(split_seed))
        val, train = (part.sort().values for part in order.tensor_split([val_size]))
        splits["val"] = {name: x[val] for name, x in arrays["train"].items()}
        splits["train"] = {name: x[train] for name, x in arrays["train"].items()}

    def put(x: Tensor) -> Tensor:
        return x.to(place.device, place.dtype if x.is_floating_point() else x.dtype)

    return {split: {name: put(x) for name, x in named.items()} for split, named in splits.items()}
