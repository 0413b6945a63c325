"""Which jobs of a sweep can train as one stack, and which way of running them is fastest here.

No torch at the top, as in the rest of what plans.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, count, pairwise
from math import gcd
from typing import Any, Literal

from bench.settings.identity import NEUTRAL, leaves
from bench.settings.jobs import Job
from bench.settings.schema import rule_of
from bench.settings.workloads import workload_of

Strategy = Literal["parallel", "stacked", "auto"]


def refusal(config: Mapping[str, Any]) -> str | None:
    """Why a run of this configuration cannot be stacked; None when it can."""
    optimizer, trainer = config["optimizer"], config["trainer"]
    reasons = {
        f"{optimizer['name']} has no rule to stack": rule_of(optimizer) is None,
        "its gradient is numeric": optimizer.get("gradient", "autograd") != "autograd",
        "a full batch leaves nothing to gain": workload_of(config).batch_size == "full",
        "it trains on several devices": trainer["devices"] != 1 or trainer["strategy"] != "auto",
        f"its precision is {trainer['precision']}": trainer["precision"] != "32-true",
        "diagnostics are measured run by run": config["diagnostics"],
        "weights are averaged run by run": trainer["ema_decay"] is not None,
        "callbacks and loggers are a run's own": bool(trainer["callbacks"] or trainer["loggers"]),
        "steps_per_execution=1 asks for the plain way": trainer["steps_per_execution"] == 1,
    }
    return next((reason for reason, applies in reasons.items() if applies), None)


def own_refusal(config: Mapping[str, Any]) -> str | None:
    """Why a workload cannot be stacked; None when it can. May need its data, and PyTorch."""
    return workload_of(config).stacks()


def stack_key(config: Mapping[str, Any], known: dict[tuple[str, int], str] | None = None) -> str:
    """Equal for runs that can share a stack: the seed, the numbers of optimizer and schedule, and
    what the workload says may differ.

    Args:
        known: what each section said, by its name and identity; to be kept while the sections are.
    """
    known = {} if known is None else known
    said = []
    for name in sorted(config):
        place = name, id(config[name])
        if place not in known:
            known[place] = _fixed(name, config)
        said.append(known[place])
    return "\n".join(said)


def _fixed(name: str, config: Mapping[str, Any]) -> str:
    """What all runs of a stack share of a section, or of a value that stands alone."""
    own = {"seed"}
    if name == "workload":
        own = {f"workload.{key}" for key in workload_of(config).varies}

    def free(key: str, value: Any) -> bool:
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        return key in own or (numeric and key.startswith(("optimizer.", "schedule.")))

    values = leaves({name: config[name]})
    fixed = {k: None if free(k, v) else v for k, v in values if k not in NEUTRAL}
    return json.dumps(fixed, sort_keys=True)


def most_that_fit(
    config: Mapping[str, Any], device: str, *, share: int, memory: int | None = None
) -> int:
    """How many runs of this kind half of the free memory holds, divided by ``share`` stacks; or
    half of ``memory``, which each of them has for itself."""
    from bench.training.stack import bytes_per_run

    if memory is not None:
        free, share = memory, 1
    elif device == "cuda":
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
    refusal_of_workload: Callable[[Mapping[str, Any]], str | None] = own_refusal,
    say: Callable[[str], None] = print,
) -> list[list[Job]]:
    """Puts jobs together: each list is one task, to be trained as a stack if it holds several.

    Args:
        strategy: ``parallel`` leaves every job alone.
        device: ``cpu`` or ``cuda``.
        workers: how many tasks run at a time; the last stacks are smaller, so
            that they end together.
        max_stack: the most runs of a stack; None for as many as memory holds.
        capacity: how many that are; called as `most_that_fit`.
        refusal_of_workload: called as `own_refusal`.
        say: is told what is not stacked, though it was asked for, and why.
    """
    groups: dict[str, list[Job]] = {}
    known: dict[tuple[str, int], str] = {}  # of sections, which jobs share
    for job in jobs:
        groups.setdefault(stack_key(job.config, known), []).append(job)
    fitting: dict[str, int] = {}
    alone: list[list[Job]] = []
    refused: dict[str, list[list[Job]]] = {}
    stacked: dict[str, list[list[Job]]] = {}
    for key, group in groups.items():
        config = group[0].config
        reason = "it stands alone" if len(group) == 1 else refusal(config)
        sharing = max(Counter(job.config["seed"] for job in group).values())
        pays = sharing >= workload_of(config).sharing_that_pays(device)
        if reason is None and (strategy == "stacked" or (strategy == "auto" and pays)):
            reason = refusal_of_workload(config)
        if strategy == "parallel" or (strategy == "auto" and not pays) or reason is not None:
            if strategy == "stacked":
                refused.setdefault(str(reason), []).append(group)
            alone += [[job] for job in group]
        else:
            workload = json.dumps(config["workload"])
            if workload not in fitting:
                fitting[workload] = capacity(config, device, share=workers)
            most = min(fitting[workload], max_stack or len(group))
            apart = device == "cpu" and sharing > 1
            stacked[key] = [
                part
                for runs in (by_seed(group) if apart else [group])
                for part in up_to(most, runs)
            ]
    for reason, refusals in refused.items():
        name, others = _name(refusals[0][0].config), len(refusals) - 1
        like_it = f" and {others} more" if others else ""
        say(f"{name}{like_it}: {sum(map(len, refusals))} run(s) not stacked: {reason}")
    stacks = sum(map(len, stacked.values()))
    over = stacks % workers  # when each process has had as many; each of these is for several
    place, parts = count(over - stacks), workers // gcd(over, workers)
    for key, whole in stacked.items():
        stacked[key] = [
            part for runs in whole for part in divided(runs, parts if next(place) >= 0 else 1)
        ]
    return [*chain.from_iterable(stacked.values()), *alone]


def _name(config: Mapping[str, Any]) -> str:
    return f"{config['workload']['name']}, {config['optimizer']['name']}"


def by_seed(jobs: Sequence[Job]) -> list[list[Job]]:
    """The jobs of each seed: as a stack they share every batch."""
    found: dict[int, list[Job]] = {}
    for job in jobs:
        found.setdefault(job.config["seed"], []).append(job)
    return [found[seed] for seed in sorted(found)]


def up_to(most: int, jobs: Sequence[Job]) -> list[list[Job]]:
    """In parts of at most so many jobs, those of a seed beside each other."""
    ordered = sorted(jobs, key=lambda job: job.config["seed"])
    return divided(ordered, -(-len(jobs) // most))


def divided(jobs: Sequence[Job], parts: int) -> list[list[Job]]:
    """In consecutive parts of nearly the same size, none of them empty."""
    bounds = [len(jobs) * n // parts for n in range(parts + 1)]
    return [list(jobs[a:b]) for a, b in pairwise(bounds) if a < b]
