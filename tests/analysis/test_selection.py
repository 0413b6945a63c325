import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bench.analysis import selection
from tests.analysis.study_table import LOSS, by, make_runs

LRS = (1e-4, 1e-3, 1e-2)


def one(runs: pd.DataFrame) -> pd.Series:
    rows = selection.select(runs)
    assert len(rows) == 1
    return rows.iloc[0]


def test_best_mean_over_seeds_wins_and_test_is_only_reported():
    table = {1e-4: (0.5, 0.6, 0.7), 1e-3: (0.9, 0.3, 0.3), 1e-2: (0.4, 0.4, 0.4)}
    runs = make_runs(lambda w, o, seed, lr: table[lr][seed], lr=LRS)
    runs["test/accuracy"] = np.where(runs["lr"] == 1e-2, 1.0, 0.2)
    best = one(runs)
    assert best["trial"] == "lr=0.0001"
    assert best["score"] == pytest.approx(0.6)
    assert best["std"] == pytest.approx(0.1)
    assert best["test"] == pytest.approx(0.2)
    assert (best["seeds"], best["diverged"], best["missing"], best["compared"]) == (3, 0, 0, 3)


def test_loss_is_minimised():
    runs = make_runs(lambda w, o, seed, lr: {1e-4: 0.2, 1e-3: 0.7, 1e-2: 0.5}[lr], lr=LRS)
    best = one(by(runs, LOSS))
    assert best["lr"] == 1e-3
    assert best["score"] == pytest.approx(0.3)
    assert best["test"] == pytest.approx(0.31)


def test_a_diverged_run_scores_chance_and_not_what_it_measured_before():
    runs = make_runs(lambda w, o, seed, lr: 0.9, lr=LRS)
    runs.loc[0, "status"] = "diverged"
    assert selection.score(runs)[0] == 0.1
    assert selection.score(by(runs, replace(LOSS, chance=math.log(20))))[0] == math.log(20)
    assert selection.score(runs)[1] == 0.9


def test_no_completed_run_scores_below_a_diverged_one():
    runs = make_runs(lambda w, o, seed, lr: 0.02, lr=LRS)
    assert (selection.score(runs) == 0.1).all()
    runs["val/loss"] = 1e30
    assert (selection.score(by(runs, LOSS)) == math.log(10)).all()


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_an_infinite_value_counts_as_diverged(value: float):
    runs = make_runs(lambda w, o, seed, lr: 0.9, lr=LRS).assign(**{"val/accuracy": value})
    assert (selection.score(runs) == 0.1).all()


def test_failed_and_unmeasured_runs_are_missing_not_bad():
    runs = make_runs(lambda w, o, seed, lr: 0.9 if lr == 1e-3 else 0.8, lr=LRS)
    runs.loc[runs["seed"] == 0, "status"] = "failed"
    best = one(runs)
    assert best["score"] == pytest.approx(0.9)
    assert (best["seeds"], best["missing"]) == (2, 1)
    assert "seeds missing: 1" in best["notes"]
    assert selection.score(runs.drop(columns="val/accuracy")).isna().all()


def test_a_lucky_seed_does_not_win():
    runs = make_runs(lambda w, o, seed, lr: 0.99 if lr == 1e-3 else 0.9 - lr, lr=LRS)
    lucky = runs[(runs["lr"] != 1e-3) | (runs["seed"] == 0)]
    assert one(lucky)["lr"] == 1e-4
    two_of_three = runs[(runs["lr"] != 1e-3) | (runs["seed"] < 2)]
    assert one(two_of_three)["lr"] == 1e-3


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_ties(order: slice):
    runs = make_runs(lambda w, o, seed, lr: 0.5, lr=LRS)[order]
    assert one(runs)["trial"] == "lr=0.0001"
    fewer_seeds = runs[(runs["lr"] != 1e-4) | (runs["seed"] > 0)]
    assert one(fewer_seeds)["trial"] == "lr=0.001"
    # 0.5, 0.5, 0.5 against 0.7, 0.7 and a diverged run at 0.1
    diverged = make_runs(
        lambda w, o, seed, lr: 0.5 if lr > 1e-4 else (0.7, 0.7, None)[seed], lr=LRS
    )[order]
    assert one(diverged)["trial"] == "lr=0.001"


def test_a_trial_that_diverged_in_part_can_win_and_says_so():
    runs = make_runs(lambda w, o, seed, lr: (0.9, 0.9, None)[seed] if lr == 1e-3 else 0.3, lr=LRS)
    best = one(runs)
    assert best["score"] == pytest.approx((0.9 + 0.9 + 0.1) / 3)
    assert best["test"] == pytest.approx((0.89 + 0.89 + 0.1) / 3)
    assert "1 of 3 seeds diverged" in best["notes"]


def test_all_diverged_picks_nothing():
    best = one(make_runs(lambda w, o, seed, lr: None, lr=LRS))
    assert pd.isna(best["trial"])
    assert pd.isna(best["score"])
    assert pd.isna(best["lr"])
    assert (best["seeds"], best["diverged"], best["compared"]) == (9, 9, 3)
    assert best["notes"] == "every run diverged"


def test_all_failed_picks_nothing():
    runs = make_runs(lambda w, o, seed, lr: 0.9, lr=LRS).assign(status="failed")
    best = one(runs)
    assert pd.isna(best["trial"])
    assert best["missing"] == 9
    assert best["notes"] == "no run has a score"


def test_one_run():
    best = one(make_runs(lambda w, o, seed, lr: 0.9, lr=(1e-3,), seeds=(7,)))
    assert best["score"] == 0.9
    assert pd.isna(best["std"])
    assert best["notes"] == "one seed"
    assert best["edges"] == ()


def test_empty():
    runs = make_runs(lambda w, o, seed, lr: 0.9, lr=LRS).iloc[:0]
    assert selection.select(runs).empty
    assert selection.trials(runs).empty
    assert selection.selected_runs(runs).empty
    assert list(selection.select(runs).columns[-3:]) == ["compared", "edges", "notes"]


def test_groups_do_not_mix():
    runs = make_runs(
        lambda w, o, seed, lr: 0.9 - abs(math.log10(lr) - {"adam": -3, "sgd": -2}[o]) / 10,
        optimizers=("sgd", "adam"),
        workloads=("mnist", "cifar10"),
        lr=LRS,
    )
    best = selection.select(runs)
    assert list(best["workload"]) == ["cifar10", "cifar10", "mnist", "mnist"]
    assert list(best["lr"]) == [1e-3, 1e-2, 1e-3, 1e-2]
    chosen = selection.selected_runs(runs)
    assert len(chosen) == 12
    assert (chosen["score"] == 0.9).all()


@pytest.mark.parametrize("groups", [["workload"], ("optimizer",), ("workload", "optimizer")])
def test_any_columns_make_groups(groups):
    runs = make_runs(lambda w, o, seed, lr: lr, optimizers=("adam", "sgd"), lr=LRS)
    best = selection.select(runs, by=groups)
    assert len(best) == runs[list(groups)].drop_duplicates().shape[0]
    assert (best["lr"] == 1e-4).all()  # all score chance, and the first key wins


def test_edges_of_the_grid_are_named():
    runs = make_runs(lambda w, o, seed, lr, weight_decay: lr, lr=LRS, weight_decay=(0.0, 0.1))
    best = one(runs.assign(**{"val/accuracy": runs["lr"] + 0.2}))
    assert best["edges"] == ("lr",)  # weight decay 0 is an end, but nothing lies beyond it
    assert "lr=0.01 is the highest value tried" in best["notes"]


@pytest.mark.parametrize(
    ("values", "chosen", "expected"),
    [
        ((1, 2, 3), 1, "lowest"),
        ((1, 2, 3), 2, None),
        ((3, 1, 2), 3, "highest"),
        ((0, 1), 0, None),
        ((0, 1), 1, "highest"),
        ((-1, 0), -1, "lowest"),
        ((5, 5), 5, None),
        ((), 5, None),
        ((np.nan, 1, 2, np.inf), 2, "highest"),
        ((1, 2), np.nan, None),
    ],
)
def test_edge(values: tuple[float, ...], chosen: float, expected: str | None):
    assert selection.edge(values, chosen) == expected


def test_hyperparameters_are_the_numbers_that_vary():
    runs = make_runs(lambda w, o, seed, lr, eps: 0.5, lr=LRS, eps=(1e-8,)).assign(init="default")
    runs["directory"] = runs["id"]
    assert selection.hyperparameters(runs) == ["lr"]
