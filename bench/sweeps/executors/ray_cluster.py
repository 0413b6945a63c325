"""A Ray cluster of this machine, as a process: it says the cluster's address, and ends with all
that belongs to it when its input ends, as it does however the process ends that holds the other
end. Ray itself leaves processes behind where that was killed."""

import ctypes
import logging
import os
import secrets
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

PR_SET_CHILD_SUBREAPER = 36  # of linux/prctl.h
STORE = 100 * 2**20  # bytes of shared memory: jobs and what came of them are small
FAILED = "error: "


def prepare(address: str | None) -> None:
    """Sets the environment of this process, which Ray reads when it is imported, for a cluster that
    is there, or for one of its own.

    Who reaches a cluster's ports can have it run anything. So one of our own takes only who has its
    token, which is new each time; for another, Ray's own settings hold.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"  # without it, a warning
    if address is None:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def main(cpus: int) -> None:
    import ray

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they are for who uses the cluster to answer
    if sys.platform == "linux":  # whoever loses its parent becomes a child of this process
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    directory = mkdtemp(prefix="ray-")
    try:
        context: Any = ray.init(
            "local", num_cpus=cpus, include_dashboard=False, log_to_driver=False,
            logging_level=logging.ERROR, object_store_memory=STORE, _temp_dir=directory,
        )  # fmt: skip
        print(context.address_info["address"], flush=True)
        sys.stdin.read()
    except Exception as error:
        print(FAILED + (str(error).strip().splitlines() or [type(error).__name__])[0], flush=True)
    finally:
        if sys.platform == "linux":
            _kill_children()
        else:
            ray.shutdown()
        shutil.rmtree(directory, ignore_errors=True)
        os._exit(0)  # Ray's own end would look for what is gone


def _kill_children() -> None:
    while children := _children():
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        for child in children:
            with suppress(ChildProcessError):
                os.waitpid(child, 0)


def _children() -> list[int]:
    threads = Path("/proc/self/task").glob("*/children")
    return [int(number) for thread in threads for number in thread.read_text().split()]


if __name__ == "__main__":
    main(int(sys.argv[1]))
