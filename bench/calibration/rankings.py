"""What the sentences assert of studies with a known truth."""

import re
from collections import Counter
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from bench.calibration.studies import Spec, as_study, draw
from bench.report.contents import gather
from bench.report.findings import Finding
from bench.report.sections import summary as sentences


@dataclass(frozen=True)
class Outcome:
    """Of so many draws of a study: in how many a ranking was false, each must was found, a pattern
    was missing or had a match that must not be."""

    spec: Spec
    draws: int
    false: int
    found: Counter[tuple[str, str, str]]
    wrong_words: int

    @property
    def least_found(self) -> float:
        """The share of draws in which the hardest of the musts was found; NaN without any."""
        shares = [self.found[each] / self.draws for each in self.spec.must]
        return min(shares, default=float("nan"))


def outcome(spec: Spec, draws: int, seed: int = 0) -> Outcome:
    rng = np.random.default_rng([seed, *spec.name.encode()])
    false, found, wrong = 0, Counter[tuple[str, str, str]](), 0
    for _ in range(draws):
        said = findings(spec, rng)
        asserted = {(f.about, *pair) for f in said for pair in f.ranks}
        false += bool(asserted - spec.may)
        found.update(asserted & spec.must)
        text = " ".join(finding.sentence for finding in said)
        match = partial(re.search, string=text)
        wrong += not all(map(match, spec.says)) or any(map(match, spec.never))
    return Outcome(spec, draws, false, found, wrong)


def findings(spec: Spec, rng: np.random.Generator) -> list[Finding]:
    """What the report of one draw says."""
    contents = gather(as_study(draw(spec, rng), spec))
    return [f for workload in contents.workloads for f in sentences.findings(contents, workload)]


def as_table(outcomes: list[Outcome]) -> pd.DataFrame:
    """A row a study: in how many of its draws a ranking was false, what must be said was found
    (the least often), and the words were wrong."""
    return pd.DataFrame(
        [
            {
                "study": each.spec.name,
                "draws": each.draws,
                "false ranking": each.false,
                "found": round(each.least_found, 3),
                "wrong words": each.wrong_words,
            }
            for each in outcomes
        ]
    )


def summary(outcomes: list[Outcome]) -> str:
    null = [each for each in outcomes if each.spec.null]
    false, draws = (sum(getattr(each, name) for each in null) for name in ("false", "draws"))
    others = [each.least_found for each in outcomes if each.spec.must]
    return (
        f"{false} of {draws} draws of studies in which all optimizers are the same assert a "
        f"ranking ({false / draws:.1%}); where they differ by three intervals, the ranking is "
        f"found in at least {min(others):.0%} of draws."
    )
