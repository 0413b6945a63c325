"""Verdicts are right where the truth is known, and rarely say *holds* where nothing is true."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from math import nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.analysis import selection
from bench.claims import __main__ as command
from bench.claims import claim as claims
from bench.claims import make, measures, page
from bench.claims.claim import Claim, Part, Verdict
from bench.errors import BenchError
from bench.metrics import Metric

ACCURACY = Metric("accuracy", "fraction", True, 0.1)
RATES = np.logspace(-4, 0, 9)
HOLDS, FAILS, UNDECIDED = Verdict.HOLDS, Verdict.FAILS, Verdict.UNDECIDED


def made_up(**options: Any) -> Claim:
    usual = {
        "name": "c",
        "statement": "s",
        "source": "s",
        "unit": "points",
        "minutes": 1.0,
        "group": "tuning",
    }
    return Claim(**{**usual, "measure": "at_best", "not_shown": "", **options})


# --- the rule -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "verdict"),
    [
        (Part("large", 1.0, 0.5, 1.5), HOLDS),
        (Part("large, not clear", 1.0, -0.1, 2.1), UNDECIDED),
        (Part("clear, too small to matter", 0.1, 0.05, 0.15), UNDECIDED),
        (Part("nothing, and clearly so", 0.0, -0.1, 0.1), FAILS),
        (Part("the contrary", -1.0, -1.5, -0.5), FAILS),
        (Part("nothing, not clear", 0.0, -1.0, 1.0), UNDECIDED),
        (Part("unknown", nan, nan, nan), UNDECIDED),
    ],
)
def test_a_verdict_on_a_part(part: Part, verdict: Verdict) -> None:
    assert made_up(smallest=0.3).judge(part) is verdict


def test_ratios_begin_at_one() -> None:
    claim = made_up(unit="times", smallest=1.25)
    assert claim.judge(Part("", 1.5, 1.1, 2.0)) is HOLDS
    assert claim.judge(Part("", 1.5, 0.9, 2.0)) is UNDECIDED
    assert claim.judge(Part("", 1.0, 0.9, 1.1)) is FAILS


def test_bounds() -> None:
    claim = made_up(unit="exponent", within=[-0.55, -0.45])
    assert claim.judge(Part("", -0.5, -0.52, -0.48)) is HOLDS
    assert claim.judge(Part("", -0.5, -0.6, -0.4)) is UNDECIDED
    assert claim.judge(Part("", -1.0, -1.1, -0.9)) is FAILS
    assert claim.judge(Part("", nan, nan, nan)) is UNDECIDED


def test_several_parts() -> None:
    yes, no, open_ = Part("", 1, 0.9, 1.1), Part("", 0, -0.1, 0.1), Part("", 1, -1, 3)
    every, some = made_up(smallest=0.3), made_up(smallest=0.3, need="any")
    for parts, of_all, of_any in (
        ([yes, yes], HOLDS, HOLDS),
        ([yes, no], FAILS, HOLDS),
        ([yes, open_], UNDECIDED, HOLDS),
        ([no, open_], FAILS, UNDECIDED),
        ([no, no], FAILS, FAILS),
        ([], UNDECIDED, UNDECIDED),
    ):
        assert (every.verdict(parts), some.verdict(parts)) == (of_all, of_any)
    assert every.confidence(5) == pytest.approx(0.95)
    assert some.confidence(5) == pytest.approx(0.99)


# --- measures, on studies whose truth is known ----------------------------------------------------


def study(
    rng: np.random.Generator,
    *,
    best: tuple[float, float] = (0.9, 0.9),
    decades: tuple[float, float] = (1.0, 1.0),
    seeds: int = 10,
    deviation: float = 0.003,
    workloads: int = 1,
) -> Any:
    """Runs of ``a`` and ``b``: an accuracy that falls as a parabola in the learning rate's
    logarithm, to two points below the best at half of so many decades on either side."""
    rows = []
    for number in range(workloads):
        luck = rng.normal(0, deviation, (2, seeds))  # of a seed, on validation and test
        for which, name in enumerate("ab"):
            for lr in RATES:
                off = (np.log10(lr) + 2) / (decades[which] / 2)
                for seed in range(seeds):
                    noise = rng.normal(0, deviation, 2) + luck[:, seed]
                    val, test = np.clip(best[which] - 0.02 * off**2 + noise, 0.1, 1)
                    rows.append(
                        {
                            "workload": f"w{number}",
                            "optimizer": name,
                            "schedule": "constant",
                            "seed": seed,
                            "status": "completed",
                            "trial": f"lr={lr:g}",
                            "lr": lr,
                            "metric": ACCURACY,
                            "val/accuracy": val,
                            "test/accuracy": test,
                            "steps": 100,
                            "epochs": 1.0,
                            "id": "",
                            "sampler": "grid",
                        }
                    )
    return SimpleNamespace(runs=selection.judged(pd.DataFrame(rows)), directory=Path("s"))


BETTER = {"better": "a", "worse": "b"}
WIDER = {"more": "a", "less": "b", "delta": 0.02}


@pytest.mark.parametrize(
    ("best", "verdict"),
    [((0.91, 0.9), HOLDS), ((0.9, 0.91), FAILS), ((0.9, 0.9), FAILS), ((0.9015, 0.9), UNDECIDED)],
)
def test_one_is_better_at_its_best(best: tuple[float, float], verdict: Verdict) -> None:
    found = measures.at_best(
        study(np.random.default_rng(0), best=best, seeds=30, deviation=0.001), 0.95, **BETTER
    )
    (part,) = found.parts
    assert part.low <= 100 * (best[0] - best[1]) <= part.high
    assert made_up(smallest=0.3).verdict(found.parts) is verdict


def test_a_best_rate_at_the_end_of_those_tried_is_said() -> None:
    made = study(np.random.default_rng(0), best=(0.91, 0.9), deviation=0.001)
    assert measures.at_best(made, 0.95, **BETTER).note == ""
    made.runs = made.runs[(made.runs["optimizer"] == "b") | (made.runs["lr"] <= RATES[2])]
    assert measures.at_best(made, 0.95, **BETTER).note == (
        "The best learning rate is the end of those tried: a on w0."
    )


@pytest.mark.parametrize(
    ("decades", "verdict"),
    [((2.0, 1.0), HOLDS), ((1.0, 2.0), FAILS), ((1.0, 1.0), FAILS), ((1.1, 1.0), UNDECIDED)],
)
def test_one_is_wider(decades: tuple[float, float], verdict: Verdict) -> None:
    made = study(np.random.default_rng(0), decades=decades, deviation=1e-4, best=(0.95, 0.95))
    found = measures.width(made, 0.95, **WIDER)
    (part,) = found.parts
    assert part.estimate == pytest.approx(decades[0] - decades[1], abs=0.08)
    assert made_up(smallest=0.3).verdict(found.parts) is verdict


@pytest.mark.parametrize(
    ("measure", "of", "need", "draws"),
    [
        ("at_best", BETTER, "all", 60),
        pytest.param("at_best", BETTER, "all", 1000, marks=pytest.mark.slow),
        pytest.param("at_best", BETTER, "any", 1000, marks=pytest.mark.slow),
        pytest.param("width", WIDER, "all", 1000, marks=pytest.mark.slow),
        pytest.param("width", WIDER, "any", 1000, marks=pytest.mark.slow),
    ],
)
def test_nothing_rarely_holds(measure: str, of: Any, need: str, draws: int) -> None:
    """With the least effect that matters so small that only the interval protects."""
    rng, claim = np.random.default_rng(1), made_up(smallest=1e-6, need=need)
    workloads = 1 if need == "all" else 3
    held = 0
    for _ in range(draws):
        made = study(rng, seeds=10, workloads=workloads)
        function = measures.MEASURES[measure]
        parts = function(made, claim.confidence(workloads), **of, drawn=False).parts
        held += claim.verdict(parts) is HOLDS
    assert held <= {60: 7, 1000: 50}[draws]  # of 60 draws at 5 %, more than 7 are 1 in 100


def steps_of_no_difference(rng: np.random.Generator, numbers: Sequence[int]) -> Any:
    """Steps to a target that depend on the learning rate and luck, for each of these workloads."""
    made = study(rng, seeds=10, workloads=len(numbers))
    off = (np.log10(made.runs["lr"]) + 2).abs()
    made.runs["target/step"] = np.rint(100 * (1 + off) * np.exp(rng.normal(0, 0.1, len(off))))
    names = {f"w{k}": f"w, condition {number}" for k, number in enumerate(numbers)}
    made.runs["workload"] = made.runs["workload"].map(names)
    return made


@pytest.mark.slow
def test_nothing_rarely_takes_fewer_steps() -> None:
    rng, claim = np.random.default_rng(1), made_up(unit="times", smallest=1 + 1e-9)
    held = 0
    for _ in range(1000):
        made = steps_of_no_difference(rng, [1])
        parts = measures.steps(made, claim.confidence(1), faster="a", slower="b").parts
        held += claim.verdict(parts) is HOLDS
    assert held <= 50


@pytest.mark.slow
def test_no_slope_rarely_holds() -> None:
    rng, claim = np.random.default_rng(1), made_up(unit="exponent", smallest=1e-9)
    held = 0
    for _ in range(1000):
        made = steps_of_no_difference(rng, [10, 100, 1000])
        parts = measures.slope(made, claim.confidence(1), over="condition", of="a").parts
        held += claim.verdict(parts) is HOLDS
    assert held <= 50


@pytest.mark.slow
def test_defaults_that_lose_as_much_as_is_allowed_rarely_hold() -> None:
    """Their best loses one point: two, at half the decades from the best, times one half."""
    rng, claim = np.random.default_rng(1), made_up(within=[-1, np.inf])
    values, held = f"{RATES[2]},{RATES[3]}", 0
    for _ in range(1000):
        made = study(rng, decades=(2**0.5, 1.0))
        found = measures.default_is_good(made, claim.confidence(1), values=values, only="a")
        held += claim.verdict(found.parts) is HOLDS
    assert 5 <= held <= 50


def test_steps_to_a_target() -> None:
    rng = np.random.default_rng(0)
    made = study(rng)
    fewest = np.where(made.runs["optimizer"] == "a", 100.0, 200.0)
    off = (np.log10(made.runs["lr"]) + 2).abs()
    made.runs["target/step"] = np.rint(fewest * (1 + off) * np.exp(rng.normal(0, 0.02, len(off))))
    found = measures.steps(made, 0.95, faster="a", slower="b")
    (part,) = found.parts
    assert part.low < 2 < part.high
    assert part.high / part.low < 1.2
    made.runs.loc[made.runs["optimizer"] == "b", "target/step"] = nan
    (part,) = measures.steps(made, 0.95, faster="a", slower="b").parts
    assert made_up(unit="times", smallest=1.25).judge(part) is UNDECIDED


# --- the files and the command --------------------------------------------------------------------


@pytest.mark.parametrize("name", claims.names())
def test_every_claim_is_one(name: str) -> None:
    claim = claims.load(name)
    assert make.function_of(claim) is not None
    assert claim.statement.endswith(".")
    assert claim.not_shown.endswith(".")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("smallest: 1\nwithin: [0, 1]", "needs either smallest or within"),
        ("smallest: 0", "more than no effect"),
        ("smallest: some", "some"),
        ("within: [1, 0]", "the lower end and the upper"),
        ("smallest: 1\nneed: most", "need=most: all or any"),
        ("smallest: 1\nunit: times", "constructing a mapping"),
        ("smallest: 1\nsmalest: 1", "smalest"),
    ],
)
def test_what_is_no_claim_is_a_line(text: str, expected: str, tmp_path: Path) -> None:
    needed = "statement: s.\nsource: s\nmeasure: width\nunit: points\nminutes: 1\nnot_shown: n.\n"
    needed += "group: tuning\neffect: e\n"
    (tmp_path / "own.yaml").write_text(needed + text)
    with pytest.raises(BenchError, match=expected) as raised:
        claims.load("own", tmp_path)
    assert "\n" not in str(raised.value)
    with pytest.raises(BenchError, match="no claim 'other'; there are own"):
        claims.load("other", tmp_path)


def test_it_repeats_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = ["--place", str(tmp_path), "--only", "normalised_step", "--only", "batch_sizes"]
    assert command.main([*said, "--budget", "0.5"]) == 0
    out, _ = capsys.readouterr()
    assert "holds      A normalised step" in out
    minutes = claims.load("batch_sizes").minutes
    assert f"not run    batch_sizes: about {minutes:g} min, beyond the budget" in out
    kept = tmp_path / ".measured" / "normalised_step.json"
    before = kept.read_bytes()
    assert command.main([*said, "--budget", "0"]) == 0
    assert "measured before" in capsys.readouterr().err
    assert kept.read_bytes() == before
    kept.write_text("{")  # is measured again
    assert command.main([*said, "--budget", "0.5"]) == 0
    assert json.loads(kept.read_text())["measured"] == json.loads(before)["measured"]
    for name in (page.HTML, page.MARKDOWN):
        text = (tmp_path / "report" / name).read_text()
        assert "A normalised step has a fixed length" in text
        assert "nan" not in text.lower().replace("nanning", "")


def test_a_claim_that_cannot_be_tested_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any) -> Any:
        raise BenchError("no runs")

    monkeypatch.setattr(make, "_measured", broken)
    assert command.main(["--place", str(tmp_path), "--only", "normalised_step"]) == 1
    out, error = capsys.readouterr()
    assert "not run    normalised_step: no runs" in out
    assert error.splitlines()[-1] == "error: 1 of 1 claims could not be tested"
    assert command.main(["--only", "nobody"]) == 1
    assert "no claim 'nobody'" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ended_while_it_makes_runs_it_says_so_and_leaves_none_at_work(
    number: signal.Signals, tmp_path: Path
) -> None:
    """Without data: the runs are on functions."""
    only = ["--only", "descent_by_condition", "--place", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.claims", *only],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not any(tmp_path.rglob("record.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert said.splitlines()[-1] == "interrupted; the same command goes on with what is missing"
    assert any(tmp_path.rglob("record.json"))
    assert not at_work(process.pid)


def at_work(group: int) -> list[str]:
    """Processes of a group, without those that have ended and were not fetched."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, its_group, *_ = path.read_text().rpartition(")")[2].split()
            if int(its_group) == group and state != "Z":
                found.append(path.parent.name)
    return found
