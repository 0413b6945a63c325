"""What a report says, of studies with a known truth; ``bench.calibration`` draws many of each."""

import re
from dataclasses import replace

import numpy as np
import pytest

from bench.calibration import coverage, rankings
from bench.calibration.studies import SAME, Spec, Truth, as_study, draw, specs
from bench.report.contents import Contents, gather
from bench.report.sections import commands, summary, verdicts

SPECS = {spec.name: spec for spec in specs()}


def drawn(spec: Spec, seed: int = 3) -> Contents:
    return gather(as_study(draw(spec, np.random.default_rng(seed)), spec))


def test_there_is_a_study_of_every_kind():
    assert len(SPECS) >= 30
    assert {spec.seeds for spec in SPECS.values()} >= {1, 2, 3, 10}
    assert sum(spec.null for spec in SPECS.values()) >= 10


@pytest.mark.parametrize("name", SPECS)
def test_says_what_may_be_said(name: str):
    outcome = rankings.outcome(SPECS[name], draws=1, seed=3)
    assert outcome.false == 0
    assert outcome.wrong_words == 0
    assert not outcome.spec.must or outcome.least_found == 1


def test_an_outcome_counts_what_is_false():
    """The other way round: a truth that the sentences contradict, and words that are not there."""
    spec = SPECS["one better, 10 seeds"]
    wrong = replace(spec, may=frozenset(), must=frozenset({("Tuned", "adamw", "adam")}))
    outcome = rankings.outcome(replace(wrong, says=("no such words",)), draws=2)
    assert (outcome.false, outcome.wrong_words, outcome.least_found) == (2, 2, 0)
    same = rankings.outcome(SPECS["exact ties"], draws=1)
    said = rankings.summary([same, outcome])
    assert said.startswith("0 of 1 draws")
    assert "at least 0% of draws" in said


def test_the_headline_is_the_answer():
    assert verdicts.headline(drawn(SPECS["one better, 10 seeds"])).startswith(
        "Tuned, adam is best on synthetic"
    )
    same = verdicts.headline(drawn(SPECS["all the same, 3 seeds"]))
    assert "cannot be told apart on synthetic" in same
    assert "these runs cannot tell" in same
    wider = verdicts.headline(drawn(SPECS["one wider, 10 seeds"]))
    assert "adam forgives a wrong learning rate more than" in wider
    assert verdicts.headline(drawn(SPECS["all diverged"])) == "Every run on synthetic diverged."
    assert verdicts.headline(drawn(SPECS["one optimizer"])).startswith("On synthetic, adam gives")


def test_a_sentence_that_cannot_tell_names_the_sweep_that_would():
    contents = drawn(SPECS["all the same, 3 seeds"])
    found = {finding.about: finding for finding in summary.findings(contents, "synthetic")}
    more = "python -m bench -m study=synthetic 'seed=range(0,10)'"
    assert found["Tuned"].command == found["Learning rate"].command == more
    cut = drawn(SPECS["all the same, cut off"])
    (about,) = (f for f in summary.findings(cut, "synthetic") if f.about == "Learning rate")
    first = about.command.splitlines()[0]
    assert "optimizer=momentum optimizer.lr=0.032,0.1" in first


def test_what_is_like_the_first_need_not_be_alike():
    """The best by validation lies between two on test, which differ clearly from one another."""
    contents = drawn(SPECS["one better, 10 seeds"])
    rows = contents.differences
    first = rows["x"].eq("adam") | rows["y"].eq("adam")
    contents.differences = rows.assign(p_holm=rows["p_holm"].mask(first, 1.0).where(first, 0.001))
    (said,) = (f for f in verdicts.of_workload(contents, "synthetic") if f.about == "Tuned")
    assert said.sentence.startswith("adam cannot be told from ")
    assert not said.ranks


def test_commands_give_a_key_once():
    contents = drawn(SPECS["all the same, 3 seeds"])
    contents.study.commands[:] = [(["experiment=quickstart", "seed=0,1", "optimizer.lr=1"], 9)]
    assert commands.more_seeds(contents, 10) == (
        "python -m bench experiment=quickstart optimizer.lr=1 'seed=range(0,30)'"
    )
    contents.study.commands.clear()
    assert commands.more_seeds(contents, 3) == ""


def test_intervals_stay_within_the_metric():
    spec = Spec(name="", truths={name: Truth(best=0.999) for name in SAME}, noise=0.004)
    for finding in summary.findings(drawn(spec), "synthetic"):
        for low, high in re.findall(r"interval ([\d.]+) to ([\d.]+)", finding.sentence):
            assert 0 <= float(low) <= float(high) <= 100


def test_coverage_is_counted():
    (part,) = (p for p in coverage.PARTS if p == ("seeds", 5))
    found = {each.interval: each for each in coverage.of_part(part, repeats=3)}
    assert set(found) >= {
        *("score at the selected setting", "difference of scores", "interquartile mean"),
        *("decades of good learning rates", "difference of widths"),
    }
    assert all(0 <= each.covered <= 1 and each.level == 0.95 for each in found.values())
