"""Outside of a workload nothing knows what an image is judged by."""

import re
from pathlib import Path

import bench

PACKAGE = Path(bench.__file__).parent
APART = ("workloads", "data", "throughput", "calibration")
WORDS = re.compile(r"accuracy|cross_entropy")


def test_no_metric_and_no_loss_is_named_outside_of_the_workloads() -> None:
    """But for what a record said before it told its metric."""
    found = [
        f"{path.relative_to(PACKAGE)}: {line.strip()}"
        for path in sorted(PACKAGE.rglob("*.*"))
        if path.suffix in (".py", ".jinja", ".js", ".css", ".cpp")
        and path.relative_to(PACKAGE).parts[0] not in APART
        for line in path.read_text("utf-8").splitlines()
        if WORDS.search(line)
    ]
    assert [line for line in found if not line.startswith("records.py: ")] == []
    assert found  # or the words above are misspelt
