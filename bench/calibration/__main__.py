"""``python -m bench.calibration``: draws studies, and writes what was said and covered."""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import pandas as pd
from rich.progress import track

from bench.calibration import coverage, rankings
from bench.calibration.studies import specs

OUTPUT = Path("docs", "results", "calibration")
PAGE = """# What a report says, held against the truth

```sh
{command}
```

Studies are drawn from a truth that is known, {draws} of each kind, and go through the statistics
and the sentences of a report. {summary}

*False ranking* counts draws in which any sentence calls one optimizer better than another that is
not; *found* is the share of draws in which the hardest of the rankings that must be found was;
*wrong words* counts draws without what must be said, or with what must not ("inf", a rank of a
region that is cut off).

{sentences}

## Intervals

The share of {repeats} draws in which an interval held the truth: for other seeds, or for other
draws of the trials. Where several things were tried (how much runs scatter, how wide a region is,
how many trials are bought) the least is given. Studies are of three optimizers and ten learning
rates.

{coverage}
"""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.calibration",
        description="How often a report's sentences are false, and its intervals miss: simulated.",
    )
    parser.add_argument("--draws", type=int, default=100, help="of each study (default: 100)")
    parser.add_argument("--repeats", type=int, default=400, help="of each interval (default: 400)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"default: {OUTPUT}")
    options = parser.parse_args(arguments)
    cases = specs()
    with ProcessPoolExecutor(options.jobs) as pool:
        said = list(
            track(
                pool.map(partial(rankings.outcome, draws=options.draws), cases),
                "sentences",
                total=len(cases),
            )
        )
        parts = list(
            track(
                pool.map(partial(coverage.of_part, repeats=options.repeats), coverage.PARTS),
                "intervals",
                total=len(coverage.PARTS),
            )
        )
    options.output.mkdir(parents=True, exist_ok=True)
    covered = pd.DataFrame([vars(each) for part in parts for each in part])
    tables = {"sentences": rankings.as_table(said), "coverage": covered}
    for name, table in tables.items():
        table.to_csv(options.output / f"{name}.csv", index=False)
    page = PAGE.format(
        summary=rankings.summary(said),
        draws=options.draws,
        repeats=options.repeats,
        command=f"python -m bench.calibration --draws {options.draws} --repeats {options.repeats}",
        **{name: _as_markdown(table) for name, table in tables.items()},
    )
    (options.output / "README.md").write_text(page, encoding="utf-8")
    print(page)
    return 0


def _as_markdown(table: pd.DataFrame) -> str:
    rows = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in rows)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.3g}"
    return str(value)


if __name__ == "__main__":
    sys.exit(main())
