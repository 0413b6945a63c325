"""What TensorBoard shows of a study: read back from its files, and in a browser."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import metadata as hparams

from bench import records
from bench import study as studies
from bench.board import by_short_names, events, live
from bench.report import overview, style, write
from bench.report.contents import Contents
from bench.report.overview import COLOURS, PLACES, Overview
from bench.report.sections import convergence
from tests.report import synthetic
from tests.report.browser import BROWSER, tab
from tests.report.synthetic import write_run, write_study

THREE = ("momentum", "adam", "adamw")


def read(run: Path) -> EventAccumulator:
    guidance = {"scalars": 0, "tensors": 0, "images": 0}
    return EventAccumulator(str(run), size_guidance=guidance).Reload()


def as_trained(study: Path) -> None:
    """Gives runs that have none the event files that training would have left."""
    for number, path in enumerate(sorted(study.glob("*/*/*/metrics.csv"))):
        if list(path.parent.glob(events.PATTERN)):
            continue
        rows = pd.read_csv(path).to_dict("records")
        points = [
            events.Point(events.scalar(name, row[name]), int(row["step"]), 1000.0 + number)
            for row in rows
            for name in ("train/loss", "val/loss", "val/accuracy")
            if row[name] == row[name]
        ]
        events.write(path.parent, points, kind="training", began=1000.0 + number)


def show(study: Path) -> None:
    Overview(study).write(studies.read(study))


@pytest.fixture
def few_figures(monkeypatch):
    monkeypatch.setattr(convergence, "AXES", convergence.AXES[:1])
    monkeypatch.setattr(Contents, "curve_metrics", synthetic.one_curve)
    monkeypatch.setattr(style, "PNG_DPI", 50)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "first"
    write_study(directory, lrs=(1e-4, 1e-3, 1e-2, 1.0))
    as_trained(directory)
    show(directory)
    return directory


@pytest.fixture(scope="module")
def two_workloads(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "two"
    write_study(directory, workloads=("mnist_mlp", "text"), lrs=(1e-3, 1e-2), seeds=(0, 1))
    show(directory)
    return directory


def test_each_optimizer_is_a_run_and_all_share_their_tags(study):
    runs = {path.parent.name for path in study.glob("report/*/*.curves")}
    assert runs == set(THREE)
    tags = [read(study / "report" / name).Tags()["scalars"] for name in THREE]
    assert tags[0] == tags[1] == tags[2]
    assert {tag for tag in tags[0] if tag.startswith("best/")} == {
        *("best/validation accuracy", "best/validation loss", "best/training loss")
    }
    assert min(tags[0]) == "best/training loss"  # TensorBoard opens the first group


def test_a_curve_is_the_mean_at_the_best_setting(study):
    found = read(study / "report" / "adam")
    (said,) = found.Tensors("best setting")
    assert b"lr=0.001" in said.tensor_proto.string_val[0]
    tables = [pd.read_csv(path) for path in study.glob("mnist_mlp/adam/lr=0.001_*/metrics.csv")]
    assert len(tables) == 3
    for step, column in ((400, "val/accuracy"), (2000, "val/accuracy")):
        values = [float(table.loc[table["step"] == step, column].max()) for table in tables]
        shown = {
            tag: next(point.value for point in found.Scalars(tag) if point.step == step)
            for tag in (
                "best/validation accuracy",
                "seeds/validation accuracy, lowest",
                "seeds/validation accuracy, highest",
            )
        }
        assert list(shown.values()) == pytest.approx(
            [sum(values) / 3, min(values), max(values)], rel=1e-6
        )


@pytest.mark.parametrize("which", ["study", "two_workloads"])
def test_no_tag_of_the_layout_is_missing(which, request):
    directory = request.getfixturevalue(which)
    runs = {path.parent.name: read(path.parent) for path in directory.glob("report/*/*.curves")}
    (config,) = read(directory / "report/figures").Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(config.tensor_proto.string_val[0])
    charts = [chart for category in layout.category[:-1] for chart in category.chart]
    assert len(charts) == 3 * (2 if which == "two_workloads" else 1)
    for chart in charts:
        (series,) = chart.margin.series  # of more, TensorBoard would miss some in some runs
        wanted = {series.value, series.lower, series.upper}
        assert "(" not in series.value  # where Custom Scalars looks for the run, and its colour
        for run in runs.values():
            assert wanted <= set(run.Tags()["scalars"])
            steps = [[point.step for point in run.Scalars(tag)] for tag in wanted]
            assert steps[0] == steps[1] == steps[2]
    assert [category.title for category in layout.category][-1] == "Every run"


def test_workloads_are_told_apart_by_tags_and_names(two_workloads):
    runs = {path.parent.name for path in two_workloads.glob("report/*/*.curves")}
    assert runs == set(THREE)
    tags = read(two_workloads / "report/adam").Tags()["scalars"]
    assert {"best on mnist_mlp/training loss", "best on text/validation accuracy"} <= set(tags)
    assert (by_short_names(two_workloads) / "text" / "adam lr=0.001 seed=1").is_dir()


def columns(study: Path) -> Any:
    found = read(study / "report/figures").summary_metadata[hparams.EXPERIMENT_TAG]
    return hparams.parse_experiment_plugin_data(found.plugin_data.content)


def test_hparams_have_each_name_once_and_what_varies_first(study):
    about = columns(study)
    names = [column.name for column in about.hparam_infos]
    assert len(names) == len(set(names))
    assert {c.name for c in about.hparam_infos if c.differs} == {
        "optimizer", "lr", "seed", "status",
    }  # fmt: skip
    metrics = [metric.display_name for metric in about.metric_infos]
    assert metrics == ["best accuracy", "steps to target", "test accuracy"]
    assert not set(names) & set(metrics)


def test_hparams_have_every_run_under_a_short_name(study):
    place = by_short_names(study)
    shown = {path.parent.relative_to(place).as_posix() for path in place.glob("**/*.session")}
    assert shown == {
        f"{optimizer} lr={lr:g} seed={seed}"
        for optimizer in THREE
        for lr in (1e-4, 1e-3, 1e-2, 1.0)
        for seed in (0, 1, 2)
    }
    for name, record in (
        (
            "adam lr=0.001 seed=1",
            records.read(study / "mnist_mlp/adam/lr=0.001_wd=0_1/record.json"),
        ),
        ("adam lr=1 seed=1", records.read(study / "mnist_mlp/adam/lr=1_wd=0_1/record.json")),
    ):
        found = read(place / name)
        content = found.summary_metadata[hparams.SESSION_START_INFO_TAG].plugin_data.content
        session = hparams.parse_session_start_info_plugin_data(content).hparams
        assert session["status"].string_value == record.status
        assert session["lr"].number_value == record.hyperparameters["lr"]
        best, step = record.best["val/accuracy"], record.target["step"]
        assert (
            [p.value for p in found.Scalars(events.BEST.format("accuracy"))]
            == (pytest.approx([best]))
            if best is not None
            else events.BEST.format("accuracy") not in found.Tags()["scalars"]
        )
        if step is not None:
            assert [point.value for point in found.Scalars(events.STEPS)] == [step]
        assert "train/loss" in found.Tags()["scalars"] or record.steps < 20  # the run's own curves


@pytest.mark.parametrize("optimizers", [THREE, ("adam",), tuple(PLACES), ("mine", "sgd", "adam")])
def test_an_optimizer_has_its_place_among_the_colours(optimizers):
    real = [100.0 + number for number in range(20)]
    times = overview._times(optimizers, real)
    order = sorted([*times.values(), *real])
    assert len(set(order)) == len(order)
    for name in optimizers:
        place = order.index(times[name]) % COLOURS
        assert place == PLACES.get(name, place)
    places = {order.index(times[name]) % COLOURS for name in optimizers}
    assert len(places) == len(optimizers)


def test_the_times_of_the_files_are_those(study):
    place = by_short_names(study)
    first = {run.name: min(map(events.began, run.glob(events.PATTERN))) for run in place.iterdir()}
    order = sorted(first, key=lambda name: first[name])
    for name in THREE:
        assert order.index(name) % COLOURS == PLACES[name]
        started = read(place / name).Scalars("best/training loss")[0].wall_time
        assert started >= first[name]  # TensorBoard goes by the earliest event


def test_the_report_adds_its_figures_and_summary(tmp_path, few_figures):
    write_study(tmp_path / "s", lrs=(1e-3, 1e-2), seeds=(0, 1))
    report = write(studies.read(tmp_path / "s")).page.parent
    found = read(report / "figures")
    assert len(found.Tags()["images"]) == len(list(report.glob("*.png")))
    assert any("learning rate" in tag for tag in found.Tags()["images"])
    (summary,) = found.Tensors("summary")
    assert "adamw" in summary.tensor_proto.string_val[0].decode()
    assert {"custom_scalars__config__", hparams.EXPERIMENT_TAG} <= found.summary_metadata.keys()
    assert (by_short_names(tmp_path / "s") / "figures").resolve() == report / "figures"


def files(place: Path) -> set[str]:
    found = {Path(where, name) for where, _, names in os.walk(place) for name in names}
    return {path.relative_to(place).as_posix() for path in found}


def test_written_again_it_leaves_nothing_stale_and_takes_no_foreign_file(tmp_path):
    study = tmp_path / "s"
    write_study(study, optimizers=("adam", "sgd"), lrs=(1e-3,), seeds=(0, 1))
    as_trained(study)
    show(study)
    place = by_short_names(study)
    sessions = {path: path.stat().st_mtime_ns for path in place.glob("*/*.session")}
    (place / "mine").mkdir()
    show(study)
    assert {path: path.stat().st_mtime_ns for path in place.glob("*/*.session")} == sessions
    assert len(list(study.glob("report/*/events*"))) == 3
    for path in (study / "mnist_mlp/sgd").glob("*/record.json"):
        path.unlink()
    write_study(study, optimizers=("adam",), lrs=(1e-2,), seeds=(0, 1))
    as_trained(study)
    show(study)
    assert not (study / "report/sgd").exists()
    assert not [path for path in place.rglob("*") if path.is_symlink() and not path.exists()]
    assert {path.name for path in place.iterdir()} == {
        *("adam", "figures"),
        *(f"adam lr={lr} seed={seed}" for lr in ("0.001", "0.01") for seed in (0, 1)),
    }
    assert not files(tmp_path) & {name for name in files(tmp_path) if "partial" in name}


def test_more_runs_than_tensorboard_selects_are_those_of_the_best_settings(tmp_path, monkeypatch):
    monkeypatch.setattr(overview, "MOST_RUNS", 10)
    write_study(tmp_path / "s", optimizers=("adam", "sgd"), lrs=(1e-3, 1e-2), seeds=(0, 1, 2))
    show(tmp_path / "s")
    names = {path.parent.name for path in by_short_names(tmp_path / "s").glob("*/*.session")}
    assert len(names) == 6
    assert {name.rpartition(" ")[0] for name in names} == {"adam lr=0.001", "sgd lr=0.01"}


def test_names_from_elsewhere_are_no_paths(tmp_path):
    for optimizer in ("../../x", "a/b", "figures", "...", "x" * 190):
        run = write_run(
            tmp_path / "s", optimizer="adam", lr=1e-3, seed=abs(hash(optimizer)) % 2**30
        )
        record = records.read(run / "record.json")
        record.optimizer = optimizer
        records.write(record, run)
    before = {path.name for path in tmp_path.iterdir()}
    show(tmp_path / "s")
    assert {path.name for path in tmp_path.iterdir()} - before == {"tensorboard"}
    assert len(list((tmp_path / "s/report").iterdir())) == 6


def test_where_nothing_can_be_written_beside_the_study_it_is_left_out(tmp_path):
    write_study(tmp_path / "s", lrs=(1e-3,), seeds=(0,))
    (tmp_path / "tensorboard").write_text("in the way")
    show(tmp_path / "s")
    assert (tmp_path / "s/report/adam").is_dir()
    assert not by_short_names(tmp_path / "s").is_dir()


def test_it_follows_a_sweep(tmp_path):
    study = tmp_path / "s"
    write_run(study, optimizer="adam", lr=1e-2)

    def shown(name: str) -> bool:
        return (by_short_names(study) / name / "..").exists()

    with live.following([study]):
        deadline = time.monotonic() + 60
        while not shown("adam lr=0.01"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        write_run(study, optimizer="sgd", lr=1e-1)
        while not shown("sgd lr=0.1"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert shown("sgd")


# In TensorBoard itself ----------------------------------------------------------------------------


@contextmanager
def tensorboard(logdir: Path) -> Iterator[str]:
    """The address of a TensorBoard, which looks for news every second."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir)]
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port), "--reload_interval", "1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def get(url: str, path: str, **query: str) -> Any:
    address = f"{url}/data/{path}?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(address, timeout=30) as answer:
        return json.load(answer)


def wait_for(url: str, condition: Any, path: str, **query: str) -> Any:
    deadline = time.monotonic() + 60
    while True:
        try:
            answer = get(url, path, **query)
        except OSError:  # not up yet, or it does not know the run yet
            answer = None
        if answer is not None and condition(answer):
            return answer
        assert time.monotonic() < deadline, answer
        time.sleep(0.3)


def test_a_tensorboard_that_is_running_sees_the_new_state(tmp_path):
    study = tmp_path / "s"
    write_run(study, optimizer="adam", lr=1e-2)
    show(study)
    about = {"run": "adam", "tag": "best/validation accuracy"}
    with tensorboard(by_short_names(study)) as url:
        before = wait_for(url, bool, "plugin/scalars/scalars", **about)
        run = write_run(study, optimizer="adam", lr=1e-3)
        show(study)
        table = pd.read_csv(run / "metrics.csv")
        wanted = table["val/accuracy"].dropna().tolist()
        after = wait_for(
            url, lambda curve: curve[-1] != before[-1], "plugin/scalars/scalars", **about
        )
        assert [value for _, _, value in after] == pytest.approx(wanted, abs=1e-6)
        wait_for(url, lambda runs: "adam lr=0.001" in runs, "runs")


async def look(url: str, profile: Path, optimizers: list[str]) -> None:
    async with tab(profile) as page:
        await page.open(f"{url}/#timeseries")

        def overlaid(words: str) -> bool:
            cards = [
                words.partition(card)[2].partition("best\n")[0].split("\n")
                for card in ("/training loss", "/validation accuracy")
            ]
            return all(set(optimizers) <= set(card) for card in cards)

        words = await page.words(overlaid)
        assert "runs exceeds" not in words

        await page.open(f"{url}/#custom_scalars")
        words = await page.words(lambda words: words.count("Matches (") == 3)
        assert set(optimizers) <= set(words.split("\n"))
        assert "Missing Tags" not in words

        await page.open(f"{url}/#hparams")
        words = await page.words(lambda words: "steps to target" in words.partition("Trial ID")[2])
        heads = words.partition("Trial ID")[2].split("\n")
        assert {"lr", "optimizer", "seed", "status", "best accuracy"} <= set(heads)
        assert heads.count("lr") == heads.count("seed")  # in each of the three views
        assert not page.errors


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome")
@pytest.mark.parametrize(
    ("lrs", "seeds"),
    [pytest.param(n, seeds, marks=pytest.mark.slow) for n, seeds in ((4, 3), (20, 5))],
    ids=["36 runs", "300 runs"],
)
@pytest.mark.parametrize(
    "command", [pytest.param("the study", marks=pytest.mark.slow), "by short names"]
)
def test_in_a_browser(tmp_path, lrs, seeds, command):
    study = tmp_path / "s"
    rates = [10 ** (-4 + 3 * number / (lrs - 1)) for number in range(lrs)]
    write_study(study, lrs=rates, seeds=range(seeds))
    as_trained(study)
    show(study)
    logdir = study if command == "the study" else by_short_names(study)
    number = 3 * lrs * seeds
    with tensorboard(logdir) as url:
        wait_for(url, lambda runs: len(runs) == number + 4, "runs")
        below = "report/" if command == "the study" else ""
        asyncio.run(look(url, tmp_path / "profile", [f"{below}{name}" for name in THREE]))
