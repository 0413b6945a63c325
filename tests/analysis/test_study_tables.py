import inspect
import math
import time
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

from bench.analysis import budget, significance, tables
from bench.analysis.sensitivity import good_region
from bench.metrics import Metric
from tests.analysis.study_table import ACCURACY, LOSS, by, make_runs

LRS = tuple(np.logspace(-5, 0, 11))
BEST = {"adam": -3.0, "sgd": -1.0, "adamw": -2.5}
WIDTH = {"adam": 1.0, "sgd": 0.7, "adamw": 1.5}
MIXED = {"cifar10": replace(LOSS, chance=None), "mnist": ACCURACY}
FUNCTIONS = [getattr(tables, name) for name in tables.__all__ if name != "Unit"]


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


def call(function, runs: pd.DataFrame, seed: int = 0, **changes) -> pd.DataFrame:
    if "rng" in inspect.signature(function).parameters:
        changes |= {"rng": np.random.default_rng(seed)}
    return function(runs, **changes)


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
            lr=runs.groupby("trial")["lr"].transform(lambda _: rng.random())
        ),
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
    *("test_low", "test_high", "iqm", "iqm_low", "iqm_high", "difference", "target"),
}
ENDS = {"low": "high", "test_low": "test_high", "iqm_low": "iqm_high"}
ENDS |= {high: low for low, high in ENDS.items()}


ELSEWHERE: dict[str, set[str]] = {  # where these names are of something else
    "times_to_target": {"target"},
    "sensitivity": {"score"},
    "interactions": set(),
    "ranks": set(),
    "improvements": set(),
    "profile_scores": set(),
}


def turned(runs: pd.DataFrame, factor: float, chance: float | None) -> pd.DataFrame:
    """Every value times ``factor``: where it is negative, lower is better."""
    metric = Metric("m", "u", higher_is_better=factor > 0, chance=chance and factor * chance)
    values = {f"{split}/m": factor * runs[f"{split}/accuracy"] for split in ("val", "test")}
    values["target/value"] = factor * runs["target/value"]
    return by(runs.assign(**values), metric)


@pytest.mark.parametrize("factor", [-1.0, 2.0**20, -(2.0**-30)])
@pytest.mark.parametrize("chance", [0.1, None])
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
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
                values, expected[name], check_exact=True, check_names=False
            )


def test_workloads_of_different_metrics_do_not_touch_each_other():
    runs = study()
    mixed = pd.concat(
        [by(runs[runs["workload"] == name], metric) for name, metric in MIXED.items()]
    )
    for function in (tables.response, tables.expected_best, tables.times_to_target):
        apart = [
            function(by(runs[runs["workload"] == name], metric)) for name, metric in MIXED.items()
        ]
        pd.testing.assert_frame_equal(function(mixed), pd.concat(apart, ignore_index=True))
    means = tables.interquartile_means(mixed, rng=np.random.default_rng(0))
    assert means["iqm"].isna().all()
    assert means["normalised"].between(0, 1.1).all()
    ranks = tables.ranks(mixed).set_index("optimizer")["mean_rank"]
    pd.testing.assert_series_equal(ranks, tables.ranks(runs).set_index("optimizer")["mean_rank"])


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_order_of_rows_and_generator(function):
    runs = study()
    first = call(function, runs)
    shuffled = runs.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(first, call(function, shuffled), check_exact=False, rtol=1e-9)


@pytest.mark.parametrize(
    "function", [tables.sensitivity, tables.interquartile_means, tables.improvements]
)
def test_another_generator_another_interval(function):
    runs = study(seeds=range(6))
    assert not call(function, runs, seed=0).equals(call(function, runs, seed=1))


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
    found = tables.sensitivity(runs, rng=np.random.default_rng(0), deltas=(0.02, 0.1))
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
    notes = tables.sensitivity(cut, rng=np.random.default_rng(0))["notes"].iloc[0]
    assert "reaches the end of the grid" in notes
    assert "a gap of 1.00 decades" in notes
    assert "one seed" in notes
    lost = make_runs(lambda *_, **__: None, lr=LRS)
    notes = tables.sensitivity(lost, rng=np.random.default_rng(0))["notes"]
    assert notes.str.contains("no run did better than chance").all()


def test_sensitivity_of_random_draws_says_so():
    rng = np.random.default_rng(0)
    settings = pd.DataFrame({"lr": 10 ** rng.uniform(-5, -2, 20), "weight_decay": rng.random(20)})
    runs = make_runs(bell, lr=tuple(settings["lr"])).merge(settings, on="lr")
    notes = tables.sensitivity(runs, rng=rng)["notes"]
    assert notes.str.contains("drawn together").all()
    alone = make_runs(bell, lr=tuple(settings["lr"]))
    assert not tables.sensitivity(alone, rng=rng)["notes"].str.contains("drawn together").any()


def test_expected_best():
    runs = make_runs(
        lambda w, o, seed, lr: {1.0: 0.1, 2.0: 0.5, 3.0: 0.9}[lr] + seed / 100, lr=(1.0, 2.0, 3.0)
    )
    found = tables.expected_best(runs).set_index(["replacement", "k"])
    assert found.loc[(True, 2), "expected"] == pytest.approx(0.677778 + 0.01, abs=1e-6)
    assert found.loc[(False, 2), "expected"] == pytest.approx(0.766667 + 0.01, abs=1e-6)
    assert found.loc[(False, 2), "low"] == pytest.approx(0.776667 - 4.302653 / 100 / 3**0.5)
    assert found.loc[(False, 3), "spread"] == pytest.approx(0)
    assert found.loc[(False, 3), "test"] == pytest.approx(0.9)
    assert found["notes"].str.contains("given a grid").all()
    assert (found["trials"] == 3).all()


def test_expected_best_of_a_loss_falls():
    found = tables.expected_best(by(study(), LOSS))
    for _, curve in found.groupby(["workload", "optimizer", "replacement"]):
        assert (np.diff(curve["expected"]) <= 1e-12).all()
        assert (curve["low"] <= curve["high"]).all()


def test_missing_runs_shorten_the_budget():
    runs = make_runs(bell, lr=LRS, optimizers=("adam", "sgd"))
    missing = (runs["lr"].isin(LRS[:3])) & (runs["seed"] == 1) & (runs["optimizer"] == "adam")
    for found in (
        tables.expected_best(runs[~missing]),
        tables.probability_best(runs[~missing]),
    ):
        adam = found[found["optimizer"] == "adam"]
        assert adam["k"].max() == 8
        assert (adam["seeds"] == 3).all()
        assert adam.notna().all(axis=None)
    assert (tables.tunability(runs[~missing])["T"] == 8).all()


def test_diverged_trials_cost_budget():
    fine = make_runs(lambda *_, lr: 0.9, lr=LRS)
    half = make_runs(lambda *_, lr: 0.9 if lr < 1e-2 else None, lr=LRS)
    for runs, expected in ((fine, 0.9), (half, (6 * 0.9 + 5 * 0.1) / 11)):
        found = tables.expected_best(runs, budgets=[1])
        np.testing.assert_allclose(found["expected"], expected)


def test_random_trials_are_not_called_a_grid():
    rng = np.random.default_rng(0)
    runs = make_runs(bell, lr=tuple(10 ** rng.uniform(-5, 0, 20)))
    assert not tables.expected_best(runs)["notes"].str.contains("grid").any()


def test_tunability_compares_equal_budgets():
    runs = study()
    runs = runs[(runs["optimizer"] != "sgd") | (runs["weight_decay"] == 0)]
    found = tables.tunability(runs)
    assert (found["T"] == 11).all()
    adam = runs[(runs["optimizer"] == "adam") & (runs["workload"] == "mnist")]
    expected = tables.expected_best(adam, budgets=range(1, 12))
    incumbent = expected.loc[~expected["replacement"], "expected"].to_numpy()
    row = found[(found["optimizer"] == "adam") & (found["workload"] == "mnist")]
    np.testing.assert_allclose(row["value"], np.array(budget.tunability(incumbent)))


def test_probability_best():
    found = tables.probability_best(study())
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
    found = tables.interquartile_means(runs, rng=np.random.default_rng(0))
    np.testing.assert_allclose(found["iqm"], 0.4)
    np.testing.assert_allclose(found["normalised"], 1)


def test_a_method_that_always_diverges_comes_last_and_is_not_left_out():
    runs = study()
    lost = (runs["optimizer"] == "sgd") & (runs["workload"] == "mnist")
    runs.loc[lost, "status"] = "diverged"
    means = tables.interquartile_means(runs, rng=np.random.default_rng(0)).set_index("optimizer")
    assert means.loc["sgd", "workloads"] == 2
    assert means.loc["sgd", "iqm"] < 0.6
    ranks = tables.ranks(runs)
    assert (ranks["blocks"] == 2).all()
    assert ranks["optimizer"].iloc[-1] == "sgd"
    tests = tables.paired_tests(runs)
    on_mnist = tests[(tests["workload"] == "mnist") & (tests["y"] == "sgd")]
    assert (on_mnist["difference"] > 0.8).all()


def test_pairs_and_their_correction():
    found = tables.paired_tests(study())
    assert len(found) == 2 * 3
    assert (found["pairs"] == 3).all()
    np.testing.assert_allclose(found["p_t_holm"], significance.holm(found["p_t"]))
    assert (found["p_wilcoxon"] >= 0.25).all()
    losses = tables.paired_tests(by(study(), LOSS))
    np.testing.assert_allclose(losses["difference"], -found["difference"])


def test_improvements_of_a_better_method():
    def accuracy(workload: str, optimizer: str, seed: int, lr: float) -> float:
        return 0.5 + seed / 100 + (0.2 if optimizer == "adam" else 0)

    runs = make_runs(accuracy, optimizers=("adam", "sgd"), lr=(1e-3,))
    found = tables.improvements(runs, rng=np.random.default_rng(0)).iloc[0]
    assert (found["x"], found["y"], found["probability"]) == ("adam", "sgd", 1)
    loss = tables.improvements(by(runs, LOSS), rng=np.random.default_rng(0)).iloc[0]
    assert loss["probability"] == 1


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
    found = tables.interactions(runs, rng=np.random.default_rng(0), deltas=(0.05,))
    adam, adamw = found.itertuples()
    assert adamw.distance == adamw.low == adamw.high == 0
    assert adamw.good == 9
    assert adam.distance > 0.6
    holed = tables.interactions(
        runs[runs["trial"] != runs["trial"].iloc[0]], rng=np.random.default_rng(0), deltas=(0.05,)
    )
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
        name: 10 ** rng.uniform(low, 0, 60) for name, low in (("lr", -5), ("weight_decay", -4))
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
