"""``python -m bench.fuzz invocations --count 2000 --seed 0``: prints each fault; exits 1 if any."""

import argparse
import sys
from importlib import import_module


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.fuzz", description=__doc__)
    parser.add_argument("what", choices=["invocations", "records"])
    parser.add_argument("--count", type=int, default=1000, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: %(default)s)")
    asked = parser.parse_args(arguments)
    faults = import_module(f"bench.fuzz.{asked.what}").run(asked.count, asked.seed)
    for fault in faults:
        print(fault)
    print(f"{asked.count} {asked.what}, seed {asked.seed}: {len(faults)} faults")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
