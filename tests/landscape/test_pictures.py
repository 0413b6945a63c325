"""Contours and ways in a report, in TensorBoard and on the page where they move."""

import asyncio
import json
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bench import records, runs
from bench import study as studies
from bench.command_line import CONF
from bench.landscape import contours, trajectory
from bench.landscape.contours import Landscape, Way
from bench.report import style, write
from bench.report.contents import gather
from bench.report.page import Gallery
from bench.report.sections import landscapes
from bench.settings.identity import run_directory
from bench.settings.jobs import Job
from bench.settings.schema import validate
from bench.workloads import Himmelblau, Quadratic, Rosenbrock
from bench.workloads.models import forget
from tests.report.browser import BROWSER, tab

USUAL = ["trainer.enable_progress_bar=false", "trainer.max_steps=150", "trainer.evaluations=5"]
RATES = {"sgd": ("1e-4", "1e-3"), "adagrad": ("0.01", "0.5")}  # the defaults among them


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    forget()


def train(place: Path, *stacks: list[list[str]]) -> Path:
    """A study; its directory."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        usual = validate(compose("config"))
        for stack in stacks:
            jobs = []
            for overrides in stack:
                config = validate(compose("config", [*USUAL, *overrides]))
                config = deepcopy(config) | {"runs_dir": str(place), "study": "seen"}
                directory = run_directory(config, usual)
                jobs.append(Job(config, {}, tuple(overrides), directory))
            runs.run(jobs)
    return place / "seen"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(
        tmp_path_factory.mktemp("runs"),
        *[
            [["workload=rosenbrock", f"optimizer={name}", f"optimizer.lr={lr}"] for lr in rates]
            for name, rates in RATES.items()
        ],
        [["workload=quadratic", f"optimizer.lr={lr}", "optimizer=sgd"] for lr in (0.1, 1.0)],
    )


@pytest.fixture(scope="module")
def shown(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the section alone."""
    contents, directory = gather(studies.read(study)), tmp_path_factory.mktemp("report")
    with mpl.rc_context(style.RC):
        section = landscapes.section(contents, Gallery(directory))
    assert section is not None
    assert [panel.title for panel in section.blocks[0].panels] == ["rosenbrock, ways"]
    assert contents.problems == []
    return directory


def animated(shown: Path) -> dict[str, Any]:
    page = (shown / "landscape_rosenbrock.html").read_text()
    found = re.search(r'id="data">(.*?)</script>', page)
    assert found is not None
    return json.loads(found[1])


def test_figures_show_where_each_optimizer_went(study: Path, shown: Path) -> None:
    for label, rates in (("best_setting", (1e-3, 0.5)), ("usual_learning_rate", (1e-3, 0.01))):
        file = shown / f"landscape_rosenbrock_{label}"
        assert file.with_suffix(".png").stat().st_size > 20_000
        drawn = np.genfromtxt(file.with_suffix(".csv"), delimiter=",", dtype=None, names=True)
        for name, lr in zip(RATES, rates, strict=True):
            (run,) = study.glob(f"rosenbrock/{name}/lr={lr},*")
            way = trajectory.read(run)
            rows = drawn[drawn["optimizer"] == name]
            assert rows["step"][-1] == 150
            expected = way[rows["step"]]
            assert np.allclose(np.stack([rows["x"], rows["y"]], 1), expected, rtol=1e-6)
            assert rows["value"][0] == pytest.approx(24.2)


@pytest.mark.slow
def test_the_report_and_tensorboard_have_them(study: Path) -> None:
    report = write(studies.read(study))
    page = report.page.read_text()
    assert "rosenbrock, ways" in page
    assert 'href="landscape_rosenbrock.html"' in page
    assert (report.page.parent / "landscape_rosenbrock.html").is_file()
    figures = report.page.parent / "figures"
    found = EventAccumulator(str(figures), size_guidance={"images": 0}).Reload()
    tags = found.Tags()["images"]
    for label in ("best setting", "usual learning rate"):
        assert f"rosenbrock/ways at each optimizer's {label}" in tags


def test_the_page_where_they_move_needs_nothing_else(shown: Path) -> None:
    path = shown / "landscape_rosenbrock.html"
    assert path.stat().st_size < 1_000_000
    page = path.read_text().replace("http://www.w3.org", "")
    assert "http" not in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    data = animated(shown)
    assert data["frames"][0] == 0
    assert data["frames"][-1] == 150
    for label in ("best setting", "usual learning rate"):
        assert [series["name"] for series in data["choices"][label]] == list(RATES)
        for series in data["choices"][label]:
            assert len(series["now"]) == len(series["values"]) == len(data["frames"])
            assert series["now"][-1] == series["points"][-1]
            assert series["values"][0] == 24.2


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome")
@pytest.mark.parametrize("width", [1280, 390])
def test_its_slider_moves_them(shown: Path, tmp_path: Path, width: int) -> None:
    async def visit() -> tuple[list[Any], list[str]]:
        page = (shown / "landscape_rosenbrock.html").resolve().as_uri()
        async with tab(tmp_path, width=max(width, 500)) as opened:
            await opened.call(
                "Emulation.setDeviceMetricsOverride", width=width, height=800,
                deviceScaleFactor=1, mobile=False,
            )  # fmt: skip
            await opened.open(page)
            await opened.words(lambda words: "step 150" in words)
            seen = [await opened.run("document.documentElement.scrollWidth")]
            for frame in (0, 75, 75):
                seen.append(
                    await opened.run(
                        f"slider.value = {frame}; slider.dispatchEvent(new Event('input'));"
                        "[output.textContent, ...[...svg.querySelectorAll('circle')].map("
                        "(dot) => Number(dot.getAttribute('cx')))]"
                    )
                )
                await opened.run(
                    "select.selectedIndex = 1; select.dispatchEvent(new Event('change'))"
                )
            await opened.run("button.click()")
            await opened.words(lambda words: "step 150" in words, seconds=30)
            return seen, opened.errors

    seen, errors = asyncio.run(visit())
    assert errors == []
    choices = animated(shown)["choices"]
    assert seen[0] <= width
    assert seen[1][0] == "step 0"
    assert seen[2][0] == seen[3][0] == "step 75"
    best, usual = ([series["now"][75][0] for series in choice] for choice in choices.values())
    assert seen[1][1:] == [series["now"][0][0] for series in choices["best setting"]]
    assert seen[2][1:] == seen[3][1:] == usual
    assert usual != best


def test_a_way_that_cannot_be_read_is_said_and_the_rest_is_reported(
    study: Path, tmp_path: Path
) -> None:
    contents = gather(studies.read(study))
    (run,) = study.glob("rosenbrock/sgd/lr=0.001,*")
    whole = (run / trajectory.FILE_NAME).read_bytes()
    try:
        (run / trajectory.FILE_NAME).write_bytes(whole[:300])
        assert landscapes.section(contents, Gallery(tmp_path)) is None
        assert "trajectory.npy: not an array of numbers" in contents.problems[-1]
        (run / trajectory.FILE_NAME).unlink()
        section = landscapes.section(contents, Gallery(tmp_path))
    finally:
        (run / trajectory.FILE_NAME).write_bytes(whole)
    assert section is not None
    (panel,) = section.blocks[0].panels
    places = {place for place, *_ in json.loads(panel.views[0].points)["points"]}
    assert places == {contents.looks["adagrad"].place}


def test_ways_through_another_setting_of_the_function_are_left_out(tmp_path: Path) -> None:
    """Of the start and the noise they may differ. Where the workload says that the setting is of
    its problem, such runs are of different workloads anyway."""
    usual = ["workload=quadratic", "workload.dimension=2", "optimizer.lr=0.1"]
    own = {
        "sgd": "workload.condition=10",
        "momentum": "workload.condition=100",
        "adam": "workload.condition=10",
    }
    runs = [[*usual, f"optimizer={name}", said] for name, said in own.items()]
    runs[-1] += ["workload.start=[1,2]", "workload.sigma=0.1"]
    study = train(tmp_path, *[[run] for run in runs])
    (tmp_path / "report").mkdir()
    apart = landscapes.section(gather(studies.read(study)), Gallery(tmp_path / "report"))
    assert apart is not None
    assert len(apart.blocks[0].panels) == 3
    for path in study.glob("**/record.json"):
        record = records.read(path)
        record.problem = []
        records.write(record, path.parent)
    contents = gather(studies.read(study))
    section = landscapes.section(contents, Gallery(tmp_path / "report"))
    assert section is not None
    (panel,) = section.blocks[0].panels
    assert panel.caption.endswith("left out: momentum at its best setting.")
    places = {place for place, *_ in json.loads(panel.views[0].points)["points"]}
    assert places == {contents.looks[name].place for name in ("sgd", "adam")}


def test_a_study_without_ways_has_no_such_section(tmp_path: Path) -> None:
    from tests.report.synthetic import write_study

    contents = gather(studies.read(write_study(tmp_path / "s")))
    assert landscapes.section(contents, Gallery(tmp_path)) is None


# --- contours -------------------------------------------------------------------------------


def test_contours_are_of_the_function_and_hold_its_minima() -> None:
    way = Way.of(np.array([[0.0, 0.0], [3.0, 2.0], [np.inf, 0.0]]), "")
    assert way.diverged
    assert len(way.points) == 2
    landscape = Landscape.of(Himmelblau(name="f"), [way])
    x, y = np.meshgrid(landscape.x, landscape.y)
    assert np.allclose(landscape.value, (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2)
    for a, b in landscape.minima:
        assert landscape.x[0] < a < landscape.x[-1]
        assert landscape.y[0] < b < landscape.y[-1]
    assert (np.diff(landscape.levels) > 0).all()
    ratio = landscape.levels[1:] / landscape.levels[:-1]
    assert ratio == pytest.approx(np.full(len(ratio), ratio[0]))
    assert landscape.levels[-1] < landscape.value.max()


def test_a_way_far_off_does_not_make_the_rest_too_small_to_see() -> None:
    near = Way.of(np.array([[-1.2, 1.0], [1.0, 1.0]]), "")
    far = Way.of(np.array([[-1.2, 1.0], [3.0, 1.0], [1e30, -1e30]]), "")
    usual, wide = (Landscape.of(Rosenbrock(name="f"), ways) for ways in ([near], [near, far]))
    assert usual.x[-1] < 3 < wide.x[-1] < 6
    drawing = contours.with_ways(wide, {"sgd": far}, style.looks(["sgd"]))
    assert len(drawing.points()["points"]) == 2


def test_moves_that_cannot_be_seen_are_not_drawn_and_long_ones_all_are() -> None:
    zigzag = np.stack([np.linspace(-1, 0, 200), np.tile([1.0, -1.0], 100)], 1)
    rest = np.concatenate([zigzag, np.full((100_000, 2), 1e-5)])
    landscape = Landscape.of(
        Quadratic(name="f", dimension=2), [Way.of(rest, "")]
    )  # loads its matrix
    steps = landscape.drawn(rest)
    assert steps[:200].tolist() == list(range(200))
    assert len(steps) < 205
    assert steps[-1] == len(rest) - 1
