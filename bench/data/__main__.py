"""`python -m bench.data`: lists, fetches and verifies data sets."""

import argparse
import logging
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.data import cache
from bench.data.specs import Specification, default_data_dir, specification, specifications
from bench.errors import BenchError


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.data",
        description="Fetch and verify data sets; without a name, list them.",
    )
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(specifications()))
    parser.add_argument(
        "--data-dir", type=Path, default=default_data_dir(), help="default: %(default)s"
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="compare with the official digests, too; fetch nothing",
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        specs = [specification(name) for name in options.names]
        if not options.verify:
            for spec in specs:
                cache.fetch(spec, options.data_dir)
    except BenchError as error:
        print(f"bench.data: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return show(
        specs or list(specifications().values()),
        options.data_dir,
        verify=options.verify,
        required=bool(specs),
    )


def show(specs: list[Specification], data_dir: Path, *, verify: bool, required: bool) -> int:
    """Prints the table; returns 1 if a data set is damaged, or missing though `required`."""
    table = Table("data set", "contents", "state")
    faults = []
    for spec in specs:
        try:
            cached = cache.open_arrays(spec, data_dir, official=verify) is not None
            state = ("verified" if verify else "intact") if cached else "not fetched"
            if required and not cached:
                faults.append(f"{spec.name}: not fetched")
        except cache.Damaged as damage:
            state = "damaged"
            command = f"python -m bench.data {spec.name} --data-dir {data_dir}"
            faults.append(f"{damage}; `{command}` fetches it again")
        table.add_row(spec.name, spec.contents, state)
    print(f"Data sets in {data_dir}")
    Console().print(table)
    for fault in faults:
        print(f"bench.data: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
