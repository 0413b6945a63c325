"""Which jobs of a sweep can train as one stack, and which way of running them is fastest here.

No torch at the top, as in the rest of what plans.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from bench.identity import NEUTRAL, leaves
from bench.jobs import Job
from optimizers.rules import RULES

Strategy = Literal["parallel", "stacked", "auto"]

# What differs between runs of one stack: these, and the numbers of optimizer and schedule.
FREE = {"seed", "workload.l2", "workload.model.init"} | {
    f"workload.model.init_{what}" for what in ("std", "bias")
}

# Kinds of workload for which a stack was faster than parallel processes, by device; measured with
# scripts/benchmark_throughput. On a CPU vmap turns small convolutions into grouped ones, which are
# many times slower; on a GPU small models wait for kernel launches, which a stack shares.
STACK_IS_FASTER = {
    ("cpu", "mlp"): False,
    ("cpu", "cnn"): False,
    ("cuda", "mlp"): True,
    ("cuda", "cnn"): True,
}


def refusal(config: Mapping[str, Any]) -> str | None:
    """Why a run of this configuration cannot be stacked; None when it can."""
    optimizer, workload, trainer = config["optimizer"], config["workload"], config["trainer"]
    reasons = {
        f"{optimizer['name']} has no rule to stack": optimizer["name"] not in RULES,
        "its gradient is numeric": optimizer.get("gradient", "autograd") != "autograd",
        "dropout draws from one random stream": workload["model"]["dropout"] > 0,
        "a full batch leaves nothing to gain": workload["batch_size"] == "full",
        "it trains on several devices": trainer["devices"] != 1 or trainer["strategy"] != "auto",
        f"its precision is {trainer['precision']}": trainer["precision"] != "32-true",
        "diagnostics are measured run by run": config["diagnostics"],
        "steps_per_execution=1 asks for the plain way": trainer["steps_per_execution"] == 1,
    }
    return next((reason for reason, applies in reasons.items() if applies), None)


def stack_key(config: Mapping[str, Any]) -> str:
    """Equal for runs that can share a stack."""

    def free(key: str, value: Any) -> bool:
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        return key in FREE or (numeric and key.startswith(("optimizer.", "schedule.")))

    fixed = {k: None if free(k, v) else v for k, v in leaves(config) if k not in NEUTRAL}
    return json.dumps(fixed, sort_keys=True)


def most_that_fit(config: Mapping[str, Any], device: str, *, share: int) -> int:
    """How many runs of this kind half of the free memory holds, divided by ``share`` stacks."""
    from bench.training.stack import bytes_per_run

    if device == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info()
    else:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, int(free / 2 / share / bytes_per_run(config)))


def tasks(
    jobs: Sequence[Job],
    *,
    strategy: Strategy,
    device: str,
    workers: int,
    max_stack: int | None,
    capacity: Callable[..., int] = most_that_fit,
    say: Callable[[str], None] = print,
) -> list[list[Job]]:
    """Puts jobs together: each list is one task, to be trained as a stack if it holds several.

    Args:
        strategy: ``parallel`` leaves every job alone.
        device: ``cpu`` or ``cuda``.
        workers: how many tasks run at a time; a group is divided so that each has some.
        max_stack: the most runs of a stack; None for as many as memory holds.
        capacity: how many that are; called as `most_that_fit`.
        say: is told of each group what is done with it, and why.
    """
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(stack_key(job.config), []).append(job)
    result = []
    for group in groups.values():
        config = group[0].config
        name = f"{config['workload']['name']}, {config['optimizer']['name']}"
        reason = "it stands alone" if len(group) == 1 else refusal(config)
        faster = STACK_IS_FASTER[device, config["workload"]["model"]["family"]]
        if strategy == "parallel" or (strategy == "auto" and not faster) or reason is not None:
            if strategy == "stacked":
                say(f"{name}: {len(group)} run(s) not stacked: {reason}")
            result += [[job] for job in group]
            continue
        size = min(
            -(-len(group) // workers),
            capacity(config, device, share=workers),
            max_stack or len(group),
        )
        group.sort(key=lambda job: job.config["seed"])  # so that runs of a stack share batches
        result += [group[start : start + size] for start in range(0, len(group), size)]
        say(f"{name}: {len(group)} runs in stacks of up to {size}")
    return result
