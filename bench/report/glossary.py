"""The words of a report that have a meaning of their own, and how a page marks them."""

import re
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

TERMS = {
    "validation": (
        r"validation",
        "Data that no run trains on. A setting is chosen by its score on them, which therefore "
        "flatters it a little.",
    ),
    "test": (
        r"\btest\b(?! that)",
        "Data that neither train nor choose anything: what a choice is worth. Only reported.",
    ),
    "trial": (r"\btrials?\b", "One setting of all hyperparameters; it has one run for each seed."),
    "seed": (
        r"\bseeds?\b",
        "The number that all chance of a run follows from: its first weights and the order of its "
        "data. How much seeds differ is how much luck is worth.",
    ),
    "diverged": (
        r"\bdiverged?\b",
        "The loss stopped being a finite number. Such a run counts as bad as guessing, not as "
        "missing.",
    ),
    "good learning rates": (
        r"good learning rates(?:, decades)?|decades within",
        "How many powers of ten a learning rate may be wrong by, in all, before the score falls "
        "out of what is near the optimizer's own best: 1 decade is from 0.001 to 0.01.",
    ),
    "95 % interval": (
        r"95 % (?:[\w-]+ ){0,2}interval",
        "Of 100 studies like this one, about 95 would have intervals that hold the true value. "
        "Where two of them overlap widely, the study cannot tell which is better.",
    ),
    "expected best": (
        r"expected best|after \d+ trials?",
        "What the best of k trials gives on average, if that many are drawn at random from those "
        "that were run: what tuning with that budget buys.",
    ),
    "tunability": (r"tunability", "The mean of the expected best over all budgets, in one number."),
    "Holm": (
        r"Holm(?:'s (?:method|correction))?",
        "Among many comparisons some look large by luck alone; Holm's method raises each p so that "
        "a false find stays as unlikely over all of them as it is said to be for one.",
    ),
    "p": (
        r"\bp(?:-values)?(?=, (?:paired|Wilcoxon)| are)",
        "How often a difference at least this large would appear if there were none. It says "
        "nothing of how large the difference is.",
    ),
    "P(better run)": (
        r"P\(better run\)",
        "The chance that one run of the first optimizer beats one run of the other: 0.5 is a draw.",
    ),
    "interquartile mean": (
        r"interquartile mean",
        "The mean of the middle half of all runs: robust as a median, steadier than it.",
    ),
    "performance profile": (
        r"performance profiles?|profile score",
        "For each factor, on how many workloads an optimizer is within that factor of the fastest.",
    ),
    "mean rank": (r"mean ranks?", "Its place among the optimizers, averaged: 1 is always best."),
}

ANY = re.compile(
    "|".join(f"(?P<t{i}>{pattern})" for i, (pattern, _) in enumerate(TERMS.values())), re.IGNORECASE
)


@dataclass
class Marker:
    """Marks the terms of a page's texts, and keeps which there were.

    As a filter of a template, it gives HTML in which all else is escaped.
    """

    found: set[str] = field(default_factory=set)

    def __call__(self, words: Any) -> Markup:
        names, marked, end, text = list(TERMS), Markup(), 0, str(words)
        here: set[str] = set()
        for match in ANY.finditer(text):
            name = names[int(str(match.lastgroup)[1:])]
            if name in here:  # once in a sentence is enough
                continue
            here.add(name)
            link = Markup('<a class="term" href="#{0}" aria-describedby="{0}">{1}</a>')
            marked += text[end : match.start()] + link.format(anchor(name), match[0])
            end = match.end()
        self.found |= here
        return marked + text[end:]

    def entries(self) -> list[tuple[str, str, str]]:
        """An anchor, a term and its meaning for each that was marked."""
        return [(anchor(name), name, TERMS[name][1]) for name in TERMS if name in self.found]


def anchor(name: str) -> str:
    return "term-" + re.sub(r"\W+", "-", name.lower()).strip("-")
