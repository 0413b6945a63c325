import math
import time
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.analysis import budget, selection, significance, tables
from bench.analysis.sensitivity import good_region
from bench.metrics import Metric
from tests.analysis.study_table import ACCURACY, LOSS, by, make_runs

LRS = tuple(np.logspace(-5, 0, 11))
BEST = {"adam": -3.0, "sgd": -1.0, "adamw": -2.5}
WIDTH = {"adam": 1.0, "sgd": 0.7, "adamw": 1.5}
MIXED = {"cifar10": replace(LOSS, chance=None), "mnist": ACCURACY}
FUNCTIONS = [
    getattr(tables, name)
    for name in tables.__all__
    if name not in ("Unit", "corrected", "drawn_together")
]
OF_DRAWS = (tables.expected_best, tables.tunability, tables.probability_best)


def bell(workload: str, optimizer: str, seed: int, lr: float, **other: float) -> float | None:
    """Accuracy against learning rate; it diverges 1.5 decades above the best."""
    distance = math.log10(lr) - BEST[optimizer]
    if distance > 1.6:
        return None
    decay = other.get("weight_decay", 0.0)
    noise = np.random.default_rng([seed, int(1e7 * lr), len(optimizer)]).normal(scale=0.002)
    return 0.1 + 0.85 * math.exp(-((distance / WIDTH[optimizer]) ** 2)) - decay + noise


def study(**changes) -> pd.DataFrame:
    settings = {
        "workloads": ("cifar10", "mnist"),
        "optimizers": ("adam", "adamw", "sgd"),
        "lr": LRS,
        "weight_decay": (0.0, 0.01, 0.1),
    }
    return make_runs(bell, **(settings | changes))


def call(function, runs: pd.DataFrame) -> pd.DataFrame:
    """On settings as if they were drawn, where only those answer."""
    return function(runs.assign(sampler="random") if function in OF_DRAWS else runs)


@cache
def broken_studies() -> dict[str, pd.DataFrame]:
    runs = study(optimizers=("adam", "sgd"), lr=LRS[2::2], weight_decay=(0.0, 0.1))
    rng = np.random.default_rng(0)
    return {
        "whole": runs,
        "empty": runs.iloc[:0],
        "one run": runs.iloc[:1],
        "one trial": runs.iloc[:3],
        "one seed": runs[runs["seed"] == 0],
        "all diverged": make_runs(lambda *_, **__: None, lr=LRS, weight_decay=(0.0, 0.1)),
        "all failed": runs.assign(status="failed"),
        "holes": runs.sample(len(runs) // 2, random_state=1),
        "every seed is another": runs.drop_duplicates("trial").assign(seed=range(10)),
        "nothing measured": runs.drop(
            columns=[name for name in runs if "/" in name and "target" not in name]
        ),
        "no targets": runs.assign(**{"target/step": np.nan, "target/value": np.nan}),
        "no target columns": runs.drop(columns=[name for name in runs if "target" in name]),
        "not a number": runs.assign(
            **{"val/accuracy": rng.choice([np.nan, np.inf, -np.inf, 0.5], len(runs))}
        ),
        "all alike": runs.assign(
            **{"val/accuracy": 0.5, "test/accuracy": 0.5, "status": "completed"}
        ),
        "only names vary": runs.drop(columns=["lr", "weight_decay"]),
        "one optimizer on each workload": runs[
            (runs["workload"] == "mnist") == (runs["optimizer"] == "adam")
        ],
        "random draws": runs.assign(
            lr=runs.groupby("trial")["lr"].transform(lambda _: rng.random()), sampler="random"
        ),
        "old records": runs.drop(columns="sampler"),
        "integers": runs.assign(lr=(1e5 * runs["lr"]).astype(int)),
    }


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
@pytest.mark.parametrize("name", broken_studies())
def test_any_study_gets_a_table(function, name: str):
    found = call(function, broken_studies()[name])
    expected = call(function, broken_studies()["empty"])
    if function is tables.response:  # it carries the hyperparameters that vary, if any do
        found = found.drop(columns="weight_decay", errors="ignore")
    assert list(found.columns) == list(expected.columns)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_a_study_by_loss(function):
    assert not call(function, by(broken_studies()["whole"], LOSS)).empty


SCORES = {  # columns in units of the metric; the ends of an interval change places in a mirror
    *("score", "std", "expected", "spread", "test", "test_std", "low", "high", "value"),
    *("iqm", "iqm_low", "iqm_high", "target"),
}
ENDS = {"low": "high", "iqm_low": "iqm_high"}
ENDS |= {high: low for low, high in ENDS.items()}


ELSEWHERE: dict[str, set[str]] = {  # where these names are of something else
    "times_to_target": {"target"},
    "sensitivity": {"score"},
    "interactions": set(),
    "ranks": set(),
    "improvements": set(),
    "profile_scores": set(),
}


EXACT = {"score", "std", "test", "time", "target", "width", "expected", "share_diverged"}


def turned(runs: pd.DataFrame, factor: float, chance: float | None) -> pd.DataFrame:
    """Every value times ``factor``: where it is negative, lower is better."""
    metric = Metric("m", "u", higher_is_better=factor > 0, chance=chance and factor * chance)
    values = {f"{split}/m": factor * runs[f"{split}/accuracy"] for split in ("val", "test")}
    values["target/value"] = factor * runs["target/value"]
    return by(runs.assign(**values), metric)


@pytest.mark.parametrize("factor", [-1.0, 2.0**20, -(2.0**-30)])
@pytest.mark.parametrize("chance", [0.1, None])
@pytest.mark.parametrize(
    "function",
    [f for f in FUNCTIONS if f not in (tables.differences, tables.factor_differences)],
    ids=lambda function: function.__name__,
)
def test_the_other_direction_and_another_scale(function, chance: float | None, factor: float):
    runs = study(optimizers=("adam", "sgd"), lr=LRS[::2], weight_decay=(0.0, 0.1))
    expected, found = (call(function, turned(runs, f, chance)) for f in (1.0, factor))
    assert not expected.empty
    for name in expected:
        values = found[name]
        if name in ELSEWHERE.get(function.__name__, SCORES) and pd.api.types.is_numeric_dtype(
            values
        ):
            other = ENDS.get(name, name) if factor < 0 else name
            wide = name in ("std", "test_std", "spread")
            values = found[other] / (abs(factor) if wide else factor)
        if name != "metric":
            pd.testing.assert_series_equal(
                values, expected[name], check_exact=name in EXACT, rtol=1e-7, check_names=False
            )


@pytest.mark.parametrize("factor", [-1.0, 2.0**20, -(2.0**-30)])
def test_differences_in_the_other_direction_and_on_another_scale(factor: float):
    runs = study(optimizers=("adam", "sgd"), lr=LRS[::2], weight_decay=(0.0, 0.1))
    one, other = (tables.differences(turned(runs, f, 0.1)) for f in (1.0, factor))
    scale = np.where(one["quantity"].isin(["test", "budget"]), factor, 1.0)
    np.testing.assert_allclose(other["difference"], scale * one["difference"], atol=1e-12)
    np.testing.assert_allclose(other["p"], one["p"])
    assert list(other["why_not"]) == list(one["why_not"])


def test_workloads_of_different_metrics_do_not_touch_each_other():
    runs = study()
    mixed = pd.concat(
        [by(runs[runs["workload"] == name], metric) for name, metric in MIXED.items()]
    )
    for function in (tables.response, tables.expected_best, tables.times_to_target):
        apart = [
            call(function, by(runs[runs["workload"] == name], metric))
            for name, metric in MIXED.items()
        ]
        pd.testing.assert_frame_equal(call(function, mixed), pd.concat(apart, ignore_index=True))
    means = tables.interquartile_means(mixed)
    assert means["iqm"].isna().all()
    assert means["normalised"].between(0, 1.1).all()
    ranks = tables.ranks(mixed).set_index("optimizer")["mean_rank"]
    pd.testing.assert_series_equal(ranks, tables.ranks(runs).set_index("optimizer")["mean_rank"])


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_order_of_rows(function):
    runs = study()
    first = call(function, runs)
    shuffled = runs.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(first, call(function, shuffled), check_exact=False, rtol=1e-9)


def test_response_takes_the_best_of_the_other_hyperparameters():
    runs = study(optimizers=("adam",), workloads=("mnist",))
    found = tables.response(runs)
    assert list(found["lr"]) == sorted(LRS)
    alone = runs[runs["weight_decay"] == 0].groupby("lr")["val/accuracy"]
    np.testing.assert_allclose(found["score"], alone.mean().fillna(0.1).clip(lower=0.1))
    np.testing.assert_allclose(found["high"].iloc[3:8], alone.max().iloc[3:8])
    assert list(found["share_diverged"]) == [0.0] * 8 + [1.0] * 3


def test_sensitivity():
    runs = study()
    found = tables.sensitivity(runs, deltas=(0.02, 0.1))
    assert len(found) == 2 * 3 * 2
    adam = found[(found["workload"] == "mnist") & (found["optimizer"] == "adam")]
    curve = tables.response(runs[(runs["workload"] == "mnist") & (runs["optimizer"] == "adam")])
    for delta, row in zip((0.02, 0.1), adam.itertuples(), strict=True):
        region = good_region(curve["lr"].to_numpy(), curve["score"].to_numpy(), delta)
        assert row.width == pytest.approx(region.width)
        assert row.width_low <= row.width <= row.width_high
        assert row.best == pytest.approx(1e-3)
    width = found[found["delta"] == 0.1].groupby("optimizer")["width"].mean()
    assert width["adamw"] > width["adam"] > width["sgd"]
    assert (adam["share_diverged"] == 3 / 11).all()


def test_sensitivity_says_what_is_wrong():
    runs = study(optimizers=("adam",), workloads=("mnist",), seeds=(0,))
    cut = runs[(runs["lr"] <= 1e-3) & (runs["lr"] != LRS[2])]
    notes = tables.sensitivity(cut)["notes"].iloc[0]
    assert "reaches the end of the grid" in notes
    assert "a gap of 1.00 decades" in notes
    assert "one seed" in notes
    level = make_runs(lambda *_, **__: 0.05, lr=LRS)
    notes = tables.sensitivity(level)["notes"]
    assert notes.str.contains("no run did better than chance").all()
    assert tables.sensitivity(make_runs(lambda *_, **__: None, lr=LRS)).empty


def test_width_is_of_values_that_were_given():
    assert not tables.sensitivity(make_runs(bell, lr=LRS)).empty
    assert tables.sensitivity(make_runs(bell, lr=LRS, sampler="random")).empty
    assert tables.sensitivity(make_runs(bell, lr=LRS, sampler="tpe")).empty
    rng = np.random.default_rng(0)  # an old record, which does not say it
    settings = pd.DataFrame({"lr": 10 ** rng.uniform(-5, -2, 20), "weight_decay": rng.random(20)})
    runs = make_runs(bell, lr=tuple(settings["lr"])).merge(settings, on="lr")
    assert tables.sensitivity(runs.drop(columns="sampler")).empty


def test_expected_best():
    accuracy = {1.0: 0.1, 2.0: 0.5, 3.0: 0.9}
    runs = make_runs(
        lambda w, o, seed, lr: accuracy[lr] + seed / 100, lr=(1.0, 2.0, 3.0), sampler="random"
    )
    found = tables.expected_best(runs).set_index("k")
    assert found.loc[2, "expected"] == pytest.approx(0.766667 + 0.01, abs=1e-6)
    assert found["low"].isna().all()  # so few trials say nothing of others
    assert found.loc[3, "spread"] == pytest.approx(0)
    assert found.loc[3, "test"] == pytest.approx(0.9)
    assert found["notes"].str.contains("only 3 trials").all()
    assert (found["trials"] == 3).all()


@pytest.mark.parametrize("sampler", ["grid", "single", "tpe", "unknown"])
def test_only_drawn_trials_answer_for_a_budget(sampler: str):
    runs = make_runs(bell, lr=LRS, sampler=sampler)
    for function in OF_DRAWS:
        assert function(runs).empty
        assert function(runs.drop(columns="sampler")).empty


def test_expected_best_of_a_loss_falls():
    found = tables.expected_best(by(study(sampler="random"), LOSS))
    for _, curve in found.groupby(["workload", "optimizer"]):
        assert (np.diff(curve["expected"]) <= 1e-12).all()
        known = curve.dropna(subset="low")
        assert list(known["k"]) == [1, 2, 3, 4]  # of 33
        assert (known["low"] <= known["expected"]).all()
        assert (known["expected"] <= known["high"]).all()


def test_missing_runs_shorten_the_budget():
    runs = make_runs(bell, lr=LRS, optimizers=("adam", "sgd"), sampler="random")
    missing = (runs["lr"].isin(LRS[:3])) & (runs["seed"] == 1) & (runs["optimizer"] == "adam")
    for found in (
        tables.expected_best(runs[~missing]),
        tables.probability_best(runs[~missing]),
    ):
        adam = found[found["optimizer"] == "adam"]
        assert adam["k"].max() == 8
        assert (adam["seeds"] == 3).all()
        assert adam.drop(columns=["low", "high"], errors="ignore").notna().all(axis=None)
    assert (tables.tunability(runs[~missing])["T"] == 8).all()


def test_diverged_trials_cost_budget():
    fine = make_runs(lambda *_, lr: 0.9, lr=LRS, sampler="random")
    half = make_runs(lambda *_, lr: 0.9 if lr < 1e-2 else None, lr=LRS, sampler="random")
    for runs, expected in ((fine, 0.9), (half, (6 * 0.9 + 5 * 0.1) / 11)):
        found = tables.expected_best(runs, budgets=[1])
        np.testing.assert_allclose(found["expected"], expected)


def test_tunability_compares_equal_budgets():
    runs = study(sampler="random")
    runs = runs[(runs["optimizer"] != "sgd") | (runs["weight_decay"] == 0)]
    found = tables.tunability(runs)
    assert (found["T"] == 11).all()
    adam = runs[(runs["optimizer"] == "adam") & (runs["workload"] == "mnist")]
    expected = tables.expected_best(adam, budgets=range(1, 12))
    incumbent = expected["expected"].to_numpy()
    row = found[(found["optimizer"] == "adam") & (found["workload"] == "mnist")]
    np.testing.assert_allclose(row["value"], np.array(budget.tunability(incumbent)))


def test_probability_best():
    found = tables.probability_best(study(sampler="random"))
    total = found.groupby(["workload", "k"])["probability"].sum()
    np.testing.assert_allclose(total, 1)
    first = found[(found["k"] == 1) & (found["workload"] == "mnist")].set_index("optimizer")
    assert first["probability"].idxmax() == "adamw"


def test_times_to_target():
    runs = study(optimizers=("adam",), workloads=("mnist",))
    found = tables.times_to_target(runs).iloc[0]
    times = runs.groupby("trial")["target/step"].agg(["median", "count"])
    times = times[times["count"] == 3]
    assert found["time"] == times["median"].min()
    assert found["trial"] == times["median"].idxmin()
    assert (found["reached"], found["seeds"], found["target"]) == (3, 3, 0.8)
    for unit, factor in (("epochs", 0.01), ("seconds", 0.02)):
        assert tables.times_to_target(runs, unit).iloc[0]["time"] == pytest.approx(
            factor * found["time"]
        )


def test_times_when_some_seeds_never_get_there():
    runs = make_runs(lambda w, o, seed, lr: (0.85, 0.85, 0.2)[seed], lr=(1e-3,))
    most = tables.times_to_target(runs).iloc[0]
    assert most["time"] == pytest.approx(100 / 0.85)
    assert most["high"] == np.inf
    assert most["notes"] == "2 of 3 seeds reached it"
    runs.loc[0, "status"] = "diverged"  # after it had reached the target
    few = tables.times_to_target(runs).iloc[0]
    assert (few["time"], few["reached"]) == (np.inf, 1)


def test_seconds_of_a_stack_are_marked():
    runs = study().assign(**{"timing/runs_together": 8})
    assert tables.times_to_target(runs, "seconds")["notes"].str.contains("stack").all()
    assert not tables.times_to_target(runs)["notes"].str.contains("stack").any()


def test_profiles():
    accuracy = {("a", "adam"): 1.0, ("a", "sgd"): 0.8, ("b", "adam"): 0.5, ("b", "sgd"): 0.9}
    runs = make_runs(
        lambda w, o, seed, lr: accuracy.get((w, o), 0.2),
        workloads=("a", "b", "c"),
        optimizers=("adam", "sgd"),
        lr=(1e-3,),
    )
    # Ratios: adam 1, never, never; sgd 1.25, 1, never.
    found = tables.profile_scores(runs).set_index("optimizer")
    assert found.loc["adam", "score"] == pytest.approx(1 / 3)
    assert found.loc["sgd", "score"] == pytest.approx((2.75 / 3 + 1) / 3)
    curve = tables.performance_profiles(runs).set_index(["optimizer", "tau"])["share"]
    np.testing.assert_allclose(curve["adam"], [1 / 3, 1 / 3, 1 / 3])
    np.testing.assert_allclose(curve["sgd"], [1 / 3, 2 / 3, 2 / 3])
    partial = runs[(runs["workload"] != "b") | (runs["optimizer"] != "sgd")]
    assert (tables.profile_scores(partial)["workloads"] == 2).all()


def test_comparisons_use_the_test_scores_of_the_trials_picked_by_validation():
    runs = study(workloads=("mnist",))
    runs["test/accuracy"] = np.where(runs["val/accuracy"] < 0.5, 1.0, 0.3 + runs["seed"] / 10)
    found = tables.interquartile_means(runs)
    np.testing.assert_allclose(found["iqm"], 0.4)
    np.testing.assert_allclose(found["normalised"], 1)


def test_a_method_that_always_diverges_comes_last_and_is_not_left_out():
    runs = study()
    lost = (runs["optimizer"] == "sgd") & (runs["workload"] == "mnist")
    runs.loc[lost, "status"] = "diverged"
    means = tables.interquartile_means(runs).set_index("optimizer")
    assert means.loc["sgd", "workloads"] == 2
    assert means.loc["sgd", "iqm"] < 0.6
    ranks = tables.ranks(runs)
    assert (ranks["blocks"] == 2).all()
    assert ranks["optimizer"].iloc[-1] == "sgd"
    tests = tables.differences(runs)
    tests = tests[tests["quantity"] == "test"]
    on_mnist = tests[(tests["workload"] == "mnist") & (tests["y"] == "sgd")]
    assert (on_mnist["difference"] > 0.8).all()


def test_differences_are_paired_by_seed_and_corrected_together():
    runs = study()
    found = tables.corrected(tables.differences(runs))
    of_tests = found[found["quantity"] == "test"].set_index(["workload", "x", "y"])
    assert len(of_tests) == 2 * 3
    assert (of_tests["pairs"] == 3).all()
    chosen = selection.selected_runs(runs, by=["workload", "optimizer"])
    for (workload, x, y), row in of_tests.iterrows():
        one, other = (
            chosen[(chosen["workload"] == workload) & (chosen["optimizer"] == name)]
            .set_index("seed")
            .sort_index()["test"]
            for name in (x, y)
        )
        oracle = stats.ttest_rel(one, other)
        assert row["difference"] == pytest.approx((one - other).mean())
        assert row["p"] == pytest.approx(oracle.pvalue)
        ends = oracle.confidence_interval()
        assert (row["low"], row["high"]) == pytest.approx((ends.low, ends.high))
    np.testing.assert_allclose(found["p_holm"], significance.holm(found["p"]))
    assert found["p"].notna().sum() > 2 * 3
    assert (found["p"].isna() == (found["why_not"] != "")).all()


def test_widths_are_compared_by_the_jackknife():
    runs = study(workloads=("mnist",), optimizers=("adam", "adamw"), weight_decay=(0.0,))
    found = tables.differences(runs, delta=0.1).set_index("quantity").loc["width"]

    def width(part: pd.DataFrame, optimizer: str) -> float:
        rows = tables.sensitivity(part[part["optimizer"] == optimizer], deltas=(0.1,))
        return float(rows["width"].iloc[0])

    def difference(part: pd.DataFrame) -> float:
        return width(part, "adam") - width(part, "adamw")

    without = [difference(runs[runs["seed"] != seed]) for seed in range(3)]
    error = np.sqrt(2 / 3 * ((without - np.mean(without)) ** 2).sum())
    assert found["difference"] == pytest.approx(difference(runs))
    margin = stats.t.ppf(0.975, 2) * error
    assert found["high"] - found["difference"] == pytest.approx(margin)
    assert found["p"] == pytest.approx(2 * stats.t.sf(abs(difference(runs)) / error, 2))


def test_what_is_not_alike_is_not_compared():
    runs = study(workloads=("mnist",), optimizers=("adam", "sgd"), weight_decay=(0.0,))
    adam = runs["optimizer"] == "adam"

    def reasons(part: pd.DataFrame) -> dict[str, str]:
        found = tables.differences(part)
        assert found.loc[found["why_not"] != "", "p"].isna().all()
        return dict(zip(found["quantity"], found["why_not"], strict=True))

    assert reasons(runs) == {"test": "", "steps": "", "width": ""}
    fewer = reasons(runs[~adam | runs["lr"].isin(LRS[3:6])])
    assert fewer["test"] == fewer["steps"] == "11 settings tried against 3"
    cut = reasons(runs[~adam | (runs["lr"] <= 1e-3)])
    assert cut["width"] == "a region reaches the end of the values tried"
    coarse = reasons(runs[~adam | runs["lr"].isin(LRS[::2])])
    assert coarse["width"] == "learning rates at other distances"
    assert set(reasons(runs[runs["seed"] < 2]).values()) == {"2 seeds"}
    assert set(reasons(runs[runs["seed"] < 1]).values()) == {"one seed"}
    apart = reasons(runs[adam == (runs["seed"] == 0)])
    assert set(apart.values()) == {"no seed in common"}
    searched = reasons(runs.assign(sampler="tpe"))
    assert all("outcome of a search" in reason for reason in searched.values())
    drawn = reasons(runs.assign(sampler="random"))
    assert drawn["budget"] == "fewer than 20 draws"


def test_a_time_that_is_never_reached_counts_as_all_steps():
    def accuracy(workload: str, optimizer: str, seed: int, lr: float) -> float:
        return 0.85 + seed / 100 if optimizer == "adam" else 0.7

    runs = make_runs(accuracy, optimizers=("adam", "sgd"), lr=(1e-3,))
    found = tables.differences(runs).set_index("quantity").loc["steps"]
    steps = np.log2([100 / 0.85, 100 / 0.86, 100 / 0.87]) - np.log2(1000)
    assert found["difference"] == pytest.approx(steps.mean())
    runs["target/step"] = np.nan
    assert "steps" not in set(tables.differences(runs)["quantity"])


def test_improvements_of_a_better_method():
    def accuracy(workload: str, optimizer: str, seed: int, lr: float) -> float:
        return 0.5 + seed / 100 + (0.2 if optimizer == "adam" else 0)

    runs = make_runs(accuracy, optimizers=("adam", "sgd"), lr=(1e-3,))
    found = tables.improvements(runs).iloc[0]
    assert (found["x"], found["y"], found["probability"]) == ("adam", "sgd", 1)
    assert found["low"] < 0.8
    assert tables.improvements(by(runs, LOSS)).iloc[0]["probability"] == 1


def test_ranks_by_seed_and_by_workload():
    by_workload, by_seed = tables.ranks(study()), tables.ranks(study(), block="seed")
    assert (by_workload["blocks"] == 2).all()
    assert (by_seed["blocks"] == 6).all()
    assert (by_seed["difference"] < by_workload["difference"]).all()
    assert by_workload["notes"].str.contains("only 2 blocks").all()
    assert by_seed["notes"].str.contains("not independent").all()
    np.testing.assert_allclose(by_workload["mean_rank"].sum(), 6)


def diagonal(workload: str, optimizer: str, seed: int, lr: float, weight_decay: float) -> float:
    """With L2 what counts is the product of the two; decoupled, each has a range of its own."""
    x, y = math.log10(lr) + 3, math.log10(weight_decay) + 3
    good = abs(x + y) < 0.7 if optimizer == "adam" else max(abs(x), abs(y)) < 0.7
    return 0.9 + seed / 1000 if good else 0.5


def test_interaction_of_a_diagonal_and_of_a_square():
    decades = tuple(np.logspace(-5, -1, 9))
    runs = make_runs(diagonal, optimizers=("adam", "adamw"), lr=decades, weight_decay=decades)
    found = tables.interactions(runs, deltas=(0.05,))
    adam, adamw = found.itertuples()
    assert adamw.distance == adamw.low == adamw.high == 0
    assert adamw.good == 9
    assert adam.distance > 0.6
    holed = tables.interactions(runs[runs["trial"] != runs["trial"].iloc[0]], deltas=(0.05,))
    assert holed.iloc[0]["holes"] == 1
    assert "holes in the grid: 1" in holed.iloc[0]["notes"]


def test_importances_of_a_grid_and_of_random_draws():
    found = tables.importances(study(workloads=("mnist",), optimizers=("adam",)))
    share = found.set_index(["kind", "hyperparameter"])["share"]
    assert share["global", "lr"] > 0.9
    assert share["global"].sum() == pytest.approx(1)
    assert share["local"].sum() == pytest.approx(1)
    assert set(found["method"]) == {"variance_shares", "local_shares"}
    assert found["notes"].str.contains("at chance").any()

    rng = np.random.default_rng(0)
    drawn = {
        name: 10 ** rng.uniform(low, 0, 120) for name, low in (("lr", -5), ("weight_decay", -4))
    }
    settings = pd.DataFrame(drawn)
    runs = make_runs(lambda *_, lr: 0.5, lr=tuple(settings["lr"]))
    runs = runs.merge(settings, on="lr")
    runs["val/accuracy"] = 0.5 + np.log10(runs["lr"]) / 20 + np.log10(runs["weight_decay"]) / 100
    found = tables.importances(runs)
    assert set(found["method"]) == {"main_effects", "local_shares_of_surrogate"}
    assert (found.loc[found["hyperparameter"] == "lr", "share"] > 0.7).all()


@pytest.mark.slow
def test_ten_thousand_runs_take_seconds():
    workloads = tuple("abcdefghij")
    runs = study(workloads=workloads, seeds=range(10))
    assert len(runs) == 9900
    start = time.perf_counter()
    for function in FUNCTIONS:
        call(function, runs)
    assert time.perf_counter() - start < 30
