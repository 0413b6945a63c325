"""Which process this is, where Lightning or torchrun make one run by several.

Both number them by variables, but a shell or a batch job may have the same ones from elsewhere. No
torch here.
"""

import os
from collections.abc import Mapping
from typing import Any

RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK")
OTHERS = ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
STARTED_BY = "BENCH_STARTED_BY"  # the process that has Lightning start the others


def is_one_of_several() -> bool:
    """Whether Lightning or torchrun has started this process to make a run with others."""
    by_lightning = os.environ.get(STARTED_BY) == str(os.getppid())
    by_lightning &= os.environ.get("LOCAL_RANK", "0") != "0"  # the one that starts others has 0
    return by_lightning or "TORCHELASTIC_RUN_ID" in os.environ


def is_first(trainer: Mapping[str, Any]) -> bool:
    """Whether this is the first of the processes that make one run, by the ``trainer`` section of
    its configuration; it alone writes."""
    alone = trainer["devices"] == 1 or not is_one_of_several()
    return alone or all(os.environ.get(name, "0") == "0" for name in RANKS)


def start_others() -> None:
    """Prepares the environment for processes that Lightning starts: they will know who did, and
    numbers from elsewhere are gone."""
    for name in (*RANKS, *OTHERS):
        os.environ.pop(name, None)
    os.environ[STARTED_BY] = str(os.getpid())
