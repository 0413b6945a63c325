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
    covered = pd.DataFrame([vars(each) for part in parts for each in part])
    options.output.mkdir(parents=True, exist_ok=True)
    rankings.as_table(said).to_csv(options.output / "sentences.csv", index=False)
    covered.to_csv(options.output / "coverage.csv", index=False)
    print(rankings.summary(said))
    print(rankings.as_table(said).to_string(index=False))
    print(covered.to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
