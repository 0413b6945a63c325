"""``python -m bench.claims``: runs what is missing, judges each statement, and writes the page.

No torch at the top: help comes at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from signal import SIGINT
from typing import TYPE_CHECKING

from bench import interruption, letters
from bench.claims import claim as claims
from bench.errors import BenchError
from bench.interruption import Interrupted

if TYPE_CHECKING:
    from bench.claims.make import Judged

PLACE = Path("runs", "claims")
REPORT = "report"


def main(arguments: Sequence[str] | None = None) -> int:
    interruption.heed_at_once()
    try:
        return answer(arguments)
    except (Interrupted, KeyboardInterrupt) as error:
        ended = error if isinstance(error, Interrupted) else Interrupted(SIGINT)
        print(f"interrupted{ended.where}", file=sys.stderr)
        return ended.status
    finally:
        interruption.forget()


def answer(arguments: Sequence[str] | None) -> int:
    names = claims.names()
    parser = argparse.ArgumentParser(
        prog="python -m bench.claims",
        description="Puts statements about optimizers to the test: makes what runs are missing, "
        "judges each statement by a rule that was fixed before, and writes a page.",
        epilog="Started again, it goes on, and repeats nothing.",
    )
    parser.add_argument(
        "--only", metavar="NAME", action="append", help="this claim; may be said several times"
    )
    parser.add_argument(
        "--budget", metavar="MINUTES", type=float, help="leave out what would take longer in all"
    )
    parser.add_argument("--list", action="store_true", help="say which there are, and end")
    parser.add_argument(
        "--place", type=Path, default=PLACE, help=f"directory of the runs (default: {PLACE})"
    )
    parser.add_argument(
        "--output", type=Path, help=f"directory of the page (default: {PLACE / REPORT})"
    )
    options = parser.parse_args(arguments)
    letters.never_fail()
    try:
        chosen = claims.in_groups(claims.load(name) for name in options.only or names)
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.list:
        _list(chosen)
        return 0
    judged, missing = _judge(chosen, options.place, options.budget)
    from bench.claims import page

    for each in judged:
        print(f"{each.verdict.value:9}  {each.claim.statement}")
        for effect in page.effects(each):
            print(f"           {effect}")
    for name, why in missing.items():
        print(f"not run    {name}: {why}")
    if judged:
        print(f"page       {page.write(judged, missing, options.output or options.place / REPORT)}")
    failed = [why for why in missing.values() if not why.startswith(OVER_BUDGET)]
    if failed:
        print(f"error: {len(failed)} of {len(chosen)} claims could not be tested", file=sys.stderr)
    return 1 if failed else 0


OVER_BUDGET = "about"


def _judge(
    chosen: Sequence[claims.Claim], place: Path, budget: float | None
) -> tuple[list[Judged], dict[str, str]]:
    from bench.claims import make

    judged, missing, studies = [], {}, set()
    left = budget
    for number, claim in enumerate(chosen, 1):
        again = make.is_measured(claim, place)
        minutes = 0 if claim.study in studies else claim.minutes
        if left is not None and not again:
            if minutes > left:
                missing[claim.name] = f"{OVER_BUDGET} {minutes:g} min, beyond the budget"
                continue
            left -= minutes
        studies.add(claim.study)
        took = "measured before" if again else f"about {minutes:g} min"
        print(f"{number}/{len(chosen)} {claim.name}: {took}", file=sys.stderr)
        try:
            judged.append(make.judged(claim, place))
        except BenchError as error:
            missing[claim.name] = str(error)
            print(f"{claim.name}: {error}", file=sys.stderr)
    return judged, missing


def _list(chosen: Sequence[claims.Claim]) -> None:
    for claim in chosen:
        print(f"{claim.name}: {claim.statement} ({claim.minutes:g} min)")
    of_each = {claim.study: claim.minutes for claim in chosen}  # which claims may share
    print(f"about {sum(of_each.values()):.0f} min in all, on two cores")


if __name__ == "__main__":
    sys.exit(main())
