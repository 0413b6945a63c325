"""What claims measure of functions, losses and drawn settings, beside closed forms."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.analysis import selection
from bench.claims import direct, functions, losses, measures, published
from bench.claims.claim import Part
from bench.errors import BenchError
from bench.metrics import Metric

ACCURACY = Metric("accuracy", "fraction", True, 0.1)


@pytest.fixture(autouse=True)
def prepared() -> Any:
    with direct.prepared():
        yield


def quadratic(condition: float) -> Any:
    given = ["workload.dimension=2", "workload.rotation=null", f"workload.condition={condition}"]
    return direct.Problem.of("quadratic", *given).workload


# --- on functions ---------------------------------------------------------------------------------


def test_descent_goes_where_algebra_says() -> None:
    starts, rates = np.array([[1.0, 1.0], [2.0, -1.0]]), np.array([0.5, 1.5])
    way = functions.went(quadratic(10), "sgd", starts, 20, lr=rates)
    factors = 1 - rates[:, None] * np.array([0.1, 1.0])  # [K, d]
    expected = starts * factors ** np.arange(21)[:, None, None]
    np.testing.assert_allclose(way, expected, rtol=1e-12)


def test_when_something_is_reached() -> None:
    reached = np.array([[False, False, True], [True, False, False]])
    np.testing.assert_array_equal(functions.first(reached), [1, np.inf, 0])


def test_descent_diverges_above_two_over_the_largest_curvature() -> None:
    (part,) = functions.divergence_limit(0.95, conditions="5", steps=200).parts
    assert part.low == pytest.approx(1, abs=0.01)
    assert part.high == pytest.approx(1, abs=0.01)


def test_descent_at_its_best_turns_back() -> None:
    """In two dimensions it swings along the steep one, for ever as far as it advances."""
    (part,) = functions.zigzag(0.95, conditions="1000", steps=20).parts
    assert -1 <= part.estimate < -0.9


def test_adagrad_divides_by_its_squares() -> None:
    measured = functions.damped(0.95, conditions="100", steps=5)
    starts = np.random.default_rng(0).normal(size=(functions.STARTS, 2))
    point, total, ratios = starts.copy(), np.zeros_like(starts), []
    for _ in range(5):
        slope = point * np.array([0.01, 1.0])
        total += slope**2
        point -= 0.1 * slope / np.sqrt(total)
        ratios.append(np.exp(np.log(np.sqrt(total[:, 1] / total[:, 0])).mean()))
    (line,) = measured.pictures[0].lines
    np.testing.assert_allclose(line.y, ratios, rtol=1e-5)


def test_a_saddle_is_left_as_fast_as_its_curvature_says() -> None:
    """Beside it, the distance grows by 1 + 2 lr in a step of descent, and by the larger root of
    x² - (1.9 + 2 lr) x + 0.9 with momentum of 0.9."""
    ways = {"momentum": {"optimizer": "momentum"}}
    measured = functions.leaving_a_saddle(0.95, beside=1e-8, ways=ways, lr=0.1)
    root = max(np.roots([1, -2.1, 0.9]).real)
    (part,) = measured.parts
    assert part.estimate == pytest.approx(np.log(root) / np.log(1.2), rel=0.05)
    measured = functions.leaving_a_saddle(0.95, beside=0, ways=ways, lr=0.1, most=50)
    assert measured.parts[0].estimate == 1
    assert measured.note.startswith("From 10 of 10 starts")


def test_a_plateau_holds_descent() -> None:
    """There the gradient is 2 / r³: descent takes as many steps for a tenth of r as r⁴ says."""
    measured = functions.plateau(
        0.95, optimizers="sgd,adam", radius=5, rates="3e-2,1e-1,3e-1", most=3000
    )
    of = {part.name: part for part in measured.parts}
    assert of["sgd"].low > 10
    assert of["adam"].high < 3


def test_steps_grow_with_the_root_of_the_condition() -> None:
    measured = functions.steps_by_condition(
        0.95, optimizers="momentum", conditions="100,400", most=600
    )
    assert measured.parts[0].estimate == pytest.approx(0.5, abs=0.05)


# --- on losses ------------------------------------------------------------------------------------


def test_rates_shrink_or_do_not() -> None:
    part = {
        name: direct.rates_over_time(
            0.95, workload="linear_regression", optimizer=name, steps=300
        ).parts[0]
        for name in ("adagrad", "rmsprop")
    }
    assert part["adagrad"].high < -0.25
    assert part["adagrad"].high < part["rmsprop"].low


def test_every_start_of_a_convex_loss_ends_at_one_point() -> None:
    measured = losses.distance_of_ends(
        0.95,
        workload=["linear_regression", "workload.batch_size=full"],
        optimizer="sgd",
        lr=0.2,
        steps=300,
        away=1,
    )
    early = losses.distance_of_ends(
        0.95, workload=["linear_regression"], optimizer="sgd", lr=0.2, steps=1, away=1
    )
    assert measured.parts[0].high < early.parts[0].low / 5


def test_second_order_costs_more() -> None:
    (part,) = losses.second_order_cost(0.95, sizes="100,400", repeats=3).parts
    assert part.estimate > 1


# --- of drawn settings, and of two hyperparameters ------------------------------------------------


def runs_of(rows: list[dict[str, Any]]) -> Any:
    usual = {
        "workload": "w",
        "schedule": "constant",
        "status": "completed",
        "metric": ACCURACY,
        "steps": 1,
        "epochs": 1.0,
        "id": "",
        "sampler": "random",
    }
    table = pd.DataFrame([usual | row for row in rows])
    return SimpleNamespace(runs=selection.judged(table), directory=Path("s"))


def drawn_study(rng: np.random.Generator, difference: float, draws: int = 40) -> Any:
    rows = []
    for name, mean in (("a", 0.8 + difference), ("b", 0.8)):
        for trial, accuracy in enumerate(np.clip(rng.normal(mean, 0.05, draws), 0.1, 1)):
            for seed in range(3):
                noisy = accuracy + rng.normal(0, 0.002)
                rows.append(
                    {
                        "optimizer": name,
                        "seed": seed,
                        "lr": 1e-3 * (trial + 1),
                        "trial": f"{trial}",
                        "val/accuracy": noisy,
                        "test/accuracy": noisy,
                    }
                )
    return runs_of(rows)


def test_one_draw() -> None:
    study = drawn_study(np.random.default_rng(0), 0.1)
    (part,) = measures.drawn_trial(study, 0.95, better="a", worse="b").parts
    assert part.low < 10 < part.high
    assert part.high - part.low < 6


@pytest.mark.parametrize("draws", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_one_draw_of_equals_is_rarely_better(draws: int) -> None:
    rng = np.random.default_rng(1)
    held = sum(
        measures.drawn_trial(drawn_study(rng, 0), 0.95, better="a", worse="b", drawn=False)
        .parts[0]
        .low
        > 0
        for _ in range(draws)
    )
    assert held <= {60: 7, 1000: 50}[draws]


def grid_study(rng: np.random.Generator, *, diagonal: float, noise: float = 0.002) -> Any:
    """Of two optimizers: what is good lies along a line, of this slope for ``a``."""
    rows = []
    for name, slope in (("a", diagonal), ("b", 0.0)):
        for i, lr in enumerate((1e-4, 1e-3, 1e-2, 1e-1)):
            for j, decay in enumerate((1e-4, 1e-3, 1e-2, 1e-1, 1.0)):
                off = (j - 2) - slope * (i - 1.5)
                for seed in range(10):
                    accuracy = 0.9 - 0.01 * off**2 + rng.normal(0, noise)
                    rows.append(
                        {
                            "optimizer": name,
                            "seed": seed,
                            "lr": lr,
                            "weight_decay": decay,
                            "trial": f"{i} {j}",
                            "val/accuracy": accuracy,
                            "test/accuracy": accuracy,
                        }
                    )
    return runs_of(rows)


COUPLED = {"more": "a", "less": "b", "delta": 0.005}


def test_a_diagonal_is_no_rectangle() -> None:
    rng = np.random.default_rng(0)
    (part,) = measures.coupling(grid_study(rng, diagonal=1), 0.95, **COUPLED).parts
    assert part.low > 0.1
    (part,) = measures.coupling(grid_study(rng, diagonal=0, noise=1e-5), 0.95, **COUPLED).parts
    assert part.estimate == 0


def test_a_region_too_small_for_a_shape_has_no_interval() -> None:
    """On the one workload that has it; the other keeps its own."""
    made = grid_study(np.random.default_rng(0), diagonal=1)
    bonus = 0.05 * ((made.runs["lr"] == 1e-4) & (made.runs["weight_decay"] == 1e-2))
    small = made.runs.assign(workload="v", **{"val/accuracy": made.runs["val/accuracy"] + bonus})
    made.runs = pd.concat([small, made.runs], ignore_index=True)
    measured = measures.coupling(made, 0.95, **COUPLED)
    v, w = measured.parts
    assert np.isnan([v.low, v.high]).all()
    assert np.isfinite([w.low, w.high]).all()
    assert measured.note == "Too few settings are good to tell a shape: a on v, b on v."


@pytest.mark.slow
def test_equals_are_rarely_coupled() -> None:
    rng = np.random.default_rng(1)
    held = sum(
        measures.coupling(grid_study(rng, diagonal=0), 0.95, **COUPLED, drawn=False).parts[0].low
        > 0
        for _ in range(1000)
    )
    assert held <= 50


# --- of what others have published ----------------------------------------------------------------


def test_deviations_are_in_tolerances() -> None:
    rows = [
        {"optimizer": "a", "seed": 0, "epochs": float(epochs), "trial": "t", "lr": 1.0}
        | {"val/accuracy": 0.5, "test/accuracy": 0.5}
        for epochs in (1, 10)
    ]
    study = runs_of(rows)
    expected = {"a 1": [0.4, 0.2], "a 10": [0.5, 0.2]}
    parts = published.metric_at_end(study, 0.95, expected=expected, at="epochs").parts
    assert [round(part.estimate, 6) for part in parts] == [0.5, 0]
    assert parts[0] == Part("a, epochs 1: 0.5, published 0.4", *[pytest.approx(0.5)] * 3)
    with pytest.raises(BenchError, match="0 runs of b 1, not one"):
        published.metric_at_end(study, 0.95, expected={"b 1": [0, 1]}, at="epochs")


def test_a_profile_of_who_is_always_first() -> None:
    seconds = {"w": [1.0, 2.5], "v": [2.0, np.inf]}
    parts = published.profile_scores(
        0.95, seconds=seconds, expected={"a": 1.0, "b": 0.25}, tolerance=0.01, points=1001
    ).parts
    assert [abs(part.estimate) < 1 for part in parts] == [True, True]
