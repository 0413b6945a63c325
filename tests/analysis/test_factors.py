"""What was varied on purpose, and what it is worth."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.analysis import tables
from bench.analysis.tables import factors
from tests.analysis.study_table import LOSS, by, make_runs

RNG = np.random.default_rng
LRS = (1e-3, 1e-2, 1e-1)


def lucky(value: float, *key: float) -> float:
    return value + RNG([int(1e6 * part) for part in key]).normal(0, 1e-3)


def hill(workload: str, optimizer: str, seed: int, lr: float, **other: float) -> float:
    """Best at 0.01, and 0.02 better with warmup."""
    lost = 0.02 * (np.log10(lr) + 2) ** 2
    return lucky(0.9 - lost + 0.02 * other.get("warmup", 0), seed, lr, *other.values())


def varied(runs: pd.DataFrame, *settings: str) -> list[str]:
    return list(tables.varied(runs, settings)["factor"].unique())


def drawn(runs: pd.DataFrame) -> pd.DataFrame:
    return runs.assign(lr=runs.groupby("trial")["lr"].transform(lambda lr: lr + RNG(0).random()))


def own_rates(runs: pd.DataFrame) -> pd.DataFrame:
    """Each value with learning rates that the others do not have."""
    return runs.assign(lr=runs["lr"] * 10.0 ** (4 * runs["warmup"]))


# What becomes of a grid of learning rates and warmup; the factors then.
DESIGNS = {
    "a grid": (lambda runs: runs, ["warmup"]),
    "one seed": (lambda runs: runs[runs["seed"] == 0], ["warmup"]),
    "with holes": (lambda runs: runs.drop(index=[0, 1, 2]), ["warmup"]),
    "one value": (lambda runs: runs[runs["warmup"] == 0], []),
    "drawn": (lambda runs: own_rates(runs).assign(sampler="random"), []),
    "proposed": (lambda runs: runs.assign(sampler="tpe"), []),
    "rates of their own": (lambda runs: own_rates(runs).assign(sampler="grid"), ["warmup"]),
    "rates of their own, unknown": (lambda runs: own_rates(runs).assign(sampler="unknown"), []),
    "tied to another": (lambda runs: runs.assign(decay=runs["warmup"], sampler="grid"), []),
}


@pytest.mark.parametrize(("change", "found"), DESIGNS.values(), ids=DESIGNS.keys())
def test_what_was_varied_on_purpose(change, found):
    runs = change(make_runs(hill, lr=LRS, warmup=(0.0, 1.0)))
    assert varied(runs, "lr", "warmup", *(["decay"] if "decay" in runs else [])) == found


@pytest.mark.parametrize("metric", [None, LOSS])
def test_a_choice_is_worth_the_difference_in_test_paired_by_seed(metric):
    runs = make_runs(hill, lr=LRS, warmup=(0.0, 1.0), seeds=range(5))
    runs = runs.assign(warmup=runs["warmup"].map({0.0: "none", 1.0: "long"}))
    runs = runs if metric is None else by(runs, metric)
    (row,) = tables.factor_differences(runs, ["lr", "warmup"]).to_dict("records")
    assert (row["quantity"], row["group"], row["x"], row["y"]) == (
        *("test by warmup", "adam", "long", "none"),
    )
    name = f"test/{runs['metric'].iloc[0].name}"
    scores = runs[runs["lr"] == 1e-2].pivot(index="seed", columns="warmup", values=name)
    test = stats.ttest_rel(scores["long"], scores["none"])
    assert row["p"] == pytest.approx(test.pvalue)
    assert (row["low"], row["high"]) == pytest.approx(tuple(test.confidence_interval()))
    assert row["difference"] == pytest.approx((scores["long"] - scores["none"]).mean())


def test_two_seeds_are_not_tested():
    runs = make_runs(hill, lr=LRS, warmup=(0.0, 1.0), seeds=(0, 1))
    runs = runs.assign(warmup=runs["warmup"].astype(str))
    (row,) = tables.factor_differences(runs, ["lr", "warmup"]).to_dict("records")
    assert np.isnan([row["p"], row["low"]]).all()
    assert row["why_not"] == "2 seeds"


@pytest.mark.parametrize(
    ("values", "held_to"),
    [
        (["cosine", "constant", "step"], "constant"),
        (["unit", "none"], "none"),
        (["False", "True"], "False"),
        (["gelu", "relu", "relu"], "relu"),
    ],
)
def test_what_a_choice_is_held_to(values, held_to):
    runs = pd.DataFrame({"x": values, "trial": range(len(values))})
    assert factors.reference(runs.assign(workload="w", optimizer="o"), "x") == held_to


# scores by value; the good region, whether its ends are those of the values, and the best.
REGIONS = {
    "decades": ({1e-4: 0.8, 1e-3: 0.9, 1e-2: 0.9, 1e-1: 0.8}, (1.2, False, False, 1e-3)),
    "cut off": ({1e-4: 0.9, 1e-3: 0.9, 1e-2: 0.8}, (1.1, True, False, 1e-4)),
    "none is as good": ({0: 0.9, 1e-3: 0.9, 1e-2: 0.7}, (0.05, False, False, 0)),
    "best at none": ({0: 0.9, 1e-3: 0.895, 1e-2: 0.795}, (0.05, False, False, 0)),
    "only none": ({0: 0.9, 1e-3: 0.8, 1e-2: 0.7}, (0, False, False, 0)),
    "not on a scale": ({0.8: 0.9, 0.9: 0.9, 1.0: 0.8}, (0.11, True, False, 0.8)),
    "from nothing": ({0.0: 0.9, 0.5: 0.9, 0.9: 0.9}, (0.9, True, True, 0.0)),
}


@pytest.mark.parametrize(("scores", "region"), REGIONS.values(), ids=REGIONS.keys())
def test_good_values(scores, region):
    runs = make_runs(lambda *_, x: scores[x], x=tuple(scores))
    found = factors.regions(runs, "x")["adam"]
    assert found.width == pytest.approx(region[0], abs=1e-9)
    assert (found.open_low, found.open_high, found.best) == region[1:]


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_the_power_that_the_best_rate_goes_with(power):
    def accuracy(workload, optimizer, seed, lr, size):
        best = -2 + power * np.log10(size / 100)
        return lucky(0.9 - 0.02 * (np.log10(lr) - best) ** 2, seed, lr, size)

    rates = tuple(10.0 ** np.arange(-4, 1.1, 0.5))
    runs = make_runs(accuracy, lr=rates, size=(32, 128, 512, 2048))
    found = factors.best_rates(runs, "size")
    assert found["edge"].isna().all()
    estimate, low, high = factors.exponent(found, "size")
    assert estimate == pytest.approx(power, abs=0.1)
    assert low < power < high < power + 1
    alone = factors.best_rates(runs[runs["seed"] == 0], "size")
    assert np.isnan(factors.exponent(alone, "size")[1:]).all()


def test_a_best_rate_at_the_end_of_those_tried_says_so():
    found = factors.best_rates(make_runs(hill, lr=(1e-4, 1e-3), warmup=(0, 1)), "warmup")
    assert found["edge"].tolist() == ["highest", "highest"]


def test_seeds_needed_are_found_to_do():
    row = {"difference": 1.0, "low": -1.484, "high": 3.484, "pairs": 3}  # a deviation of 1
    assert factors.seeds_needed(pd.Series(row), 1) == 10
    found = stats.ttest_1samp(RNG(0).normal(1, 1, (4000, 10)), 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.03)
    assert factors.seeds_needed(pd.Series(row | {"difference": 0.1}), 1) == 0
