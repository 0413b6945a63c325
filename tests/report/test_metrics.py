"""Studies by metrics of any name, unit and direction: every way out says the same of them."""

import json
import re
import warnings
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

import bench
from bench import records, single
from bench import study as studies
from bench.analysis import selection, tables
from bench.metrics import Metric
from bench.report import figures, style, terminal, text, write
from bench.report.contents import Contents, gather
from bench.report.sections import convergence
from tests.report import synthetic
from tests.report.synthetic import ACCURACY, BITS, CORRELATION, PRICE, write_run, write_study

SMALL = {"optimizers": ("momentum", "adam"), "lrs": (1e-4, 1e-3, 1e-2, 1e-1), "seeds": (0, 1)}


@pytest.fixture
def few_figures(monkeypatch):
    monkeypatch.setattr(convergence, "AXES", convergence.AXES[:1])
    monkeypatch.setattr(Contents, "curve_metrics", synthetic.one_curve)
    monkeypatch.setattr(style, "PNG_DPI", 30)


def page_of(study: studies.Study) -> str:
    return write(study).page.read_text()


SAID = [
    (ACCURACY, ["validation accuracy (%)", "95 % validation accuracy", "within 1 point"]),
    (BITS, ["validation bits per character", "at most 1.66 bits", "within 1 %"]),
    (PRICE, ["validation mae (k$)", "at most 16 k$", "counts as the worst value measured"]),
    (CORRELATION, ["validation correlation", "at least 0.85", "within 1 %"]),
]


@pytest.mark.parametrize(("metric", "said"), SAID, ids=lambda value: str(value)[:12])
def test_the_page_speaks_of_the_metric(
    tmp_path: Path, few_figures, metric: Metric, said: list[str]
):
    study = studies.read(write_study(tmp_path, metric=metric, **SMALL))
    html = page_of(study)
    for words in said:
        assert words in html
    assert r"k\$" not in html
    assert metric == ACCURACY or "accuracy" not in html
    assert (study.runs["metric"] == metric).all()


def test_one_metric_or_another_the_same_is_best(tmp_path: Path):
    """One is a falling function of the other: what is selected is the same, run by run."""
    found = {}
    for metric in (ACCURACY, BITS, PRICE, CORRELATION):
        directory = write_study(tmp_path / metric.name, metric=metric, study="one", **SMALL)
        contents = gather(studies.read(directory))
        found[metric.name] = contents.best[["optimizer", "trial"]]
        out = StringIO()
        terminal.show(contents, Console(file=out, width=100))
        assert text.heading("validation", metric) in out.getvalue()
    for best in found.values():
        assert best.equals(found["accuracy"])


def test_several_metrics_in_a_study(tmp_path: Path, few_figures):
    for workload, metric in (("digits", ACCURACY), ("plays", BITS), ("houses", PRICE)):
        write_study(tmp_path, workloads=(workload,), metric=metric, **SMALL)
    study = studies.read(tmp_path)
    html = page_of(study)
    for said in ("1 point or 1 %", "at most 16 k$", "at most 1.66 bits", "95 % validation acc"):
        assert said in html
    means = tables.interquartile_means(study.runs)
    assert means["iqm"].isna().all()
    assert means["normalised"].between(0.9, 1.1).all()


def test_where_chance_is_not_known_a_diverged_run_is_the_worst_measured(tmp_path: Path):
    runs = studies.read(write_study(tmp_path, metric=PRICE, **SMALL)).runs
    lost = runs["status"] == "diverged"
    assert lost.any()
    score = selection.score(runs)
    assert set(score[lost]) == {runs["val/mae"].max()}
    assert (score[~lost] == runs.loc[~lost, "val/mae"]).all()
    part = selection.score(runs[lost | (runs["lr"] == 1e-3)])
    assert set(part[lost.reindex(part.index)]) == {runs["val/mae"].max()}


def test_runs_that_disagree_about_their_metric_are_kept_apart(tmp_path: Path, few_figures):
    for seed, metric in enumerate((ACCURACY, ACCURACY, PRICE)):
        run = write_run(tmp_path, seed=seed, metric=metric)
        if seed == 0:  # as it was written before a record named its metric
            content = json.loads((run / records.FILE_NAME).read_text()) | {"schema": 1}
            del content["metric"], content["units"]
            (run / records.FILE_NAME).write_text(json.dumps(content))
    study = studies.read(tmp_path)
    assert study.metrics == {
        "mnist_mlp": {"mae": "mnist_mlp by mae", "accuracy": "mnist_mlp by accuracy"}
    }
    assert list(study.runs["workload"]) == ["mnist_mlp by accuracy"] * 2 + ["mnist_mlp by mae"]
    assert "were judged by different metrics (mae and accuracy)" in page_of(study)


def test_the_same_name_for_two_things(tmp_path: Path):
    write_run(tmp_path, seed=0, metric=PRICE)
    write_run(tmp_path, seed=1, metric=Metric("mae", "k$", chance=40.0))
    (names,) = studies.read(tmp_path).metrics.values()
    assert set(names) == {
        "mae (k$, lower is better, chance None)",
        "mae (k$, lower is better, chance 40.0)",
    }


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        (ACCURACY, r"completed: validation accuracy 9\d\.\d\d %, test 9\d\.\d\d %; target 95 % "),
        (
            BITS,
            r"completed: validation bits per character 1\.\d{3} bits, test 1\.\d{3} bits; "
            r"target 1\.\d+ bits ",
        ),
    ],
    ids=str,
)
def test_the_result_of_a_run_is_one_line(tmp_path: Path, metric: Metric, said: str):
    record = records.read(write_run(tmp_path, metric=metric) / records.FILE_NAME)
    line = single.result(record).plain
    assert re.match(
        said + r"reached at step [\d,]+ \([\d.]+ s of training\); [\d,]+ steps in ", line
    )


def test_the_result_of_a_run_without_a_target(tmp_path: Path):
    record = records.read(write_run(tmp_path, metric=PRICE) / records.FILE_NAME)
    record.target["value"] = None
    record.metrics |= {"train/excess": 2.75e-7, "train/grad_norm": 3.0, "test/mae": None}
    line = single.result(record).plain
    assert not re.search("None|target|loss|norm|test", line)
    assert "; excess 2.75e-7; " in line
    record.status, record.reason, record.metrics = "diverged", "a [bold] word", {}
    assert single.result(record).plain.startswith("diverged (a [bold] word): ")


@pytest.mark.parametrize(
    ("metric", "mean", "deviation", "said"),
    [
        (ACCURACY, 0.97126, 0.00123, "97.13 ± 0.12"),
        (BITS, 1.5512, 0.0068, "1.551 ± 0.007"),
        (PRICE, 12345.6, 7.0, "12346 ± 7"),
        (PRICE, 1.23456e9, 2e6, "1.235e9 ± 2e6"),
        (PRICE, -3.2e-7, 1e-9, "-3.2e-7 ± 1e-9"),
        (PRICE, 0.0, 0.0, "0 ± 0"),
        (PRICE, float("nan"), float("nan"), text.NOTHING),
    ],
)
def test_numbers(metric: Metric, mean: float, deviation: float, said: str):
    assert text.spread(metric, mean, deviation) == said


def test_better_is_the_same_end_of_the_colours():
    high, low = (figures._shades(metric) for metric in (ACCURACY, BITS))
    assert high(1.0) == low(0.0)
    assert high(0.0) == low(1.0)


def test_a_study_as_a_table(tmp_path: Path):
    write_study(tmp_path, metric=BITS, **SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runs = bench.read_study(str(tmp_path))
    assert len(runs) == 16
    assert {"optimizer", "lr", "seed", "val/bits_per_character", "metric"} <= set(runs)
    (run, *_) = tmp_path.rglob(records.FILE_NAME)
    run.write_text("{")
    with pytest.warns(UserWarning, match="not a complete JSON"):
        assert len(bench.read_study(tmp_path)) == 15
