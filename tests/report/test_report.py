"""The report as files, from healthy studies and from every kind of broken one."""

import csv
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bench import board, records
from bench import study as studies
from bench.board import by_short_names
from bench.report import __main__ as command
from bench.report import curves, figures, style, write
from bench.report import table as all_records
from bench.report.contents import Contents, gather
from bench.report.page import Gallery
from bench.report.sections import convergence, settings, trials
from tests.report import synthetic
from tests.report.synthetic import BEST_LR, write_run, write_study


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A study with something for every section, and its report."""
    directory = tmp_path_factory.mktemp("runs") / "full"
    settings = [{}, {"init": "zeros"}]
    write_study(
        directory,
        workloads=("mnist_mlp", "cifar10_linear"),
        optimizers=("momentum", "adam"),
        lrs=(1e-3, 1e-2, 1.0),
        weight_decays=(1e-3, 1e-2),
        settings=settings,
        seeds=(0, 1, 2),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "PNG_DPI", 50)
        return write(studies.read(directory))


@pytest.fixture
def few_figures(monkeypatch):
    """One curve, and coarse: less to draw, for tests of other things."""
    monkeypatch.setattr(convergence, "AXES", convergence.AXES[:1])
    monkeypatch.setattr(Contents, "curve_metrics", synthetic.one_curve)
    monkeypatch.setattr(style, "PNG_DPI", 50)


def links(page: Path) -> set[str]:
    return set(re.findall(r'(?:href|src)="([^"#]+)"', page.read_text()))


def test_every_section_is_there(full):
    found = re.findall(r'<section id="(\w+)"', full.page.read_text())
    assert found == [
        *("summary", "varied", "convergence", "sensitivity", "settings"),
        *("comparison", "workloads", "trials", "reproduce", "glossary"),
    ]


def test_that_seconds_are_of_a_stack_reaches_the_page(tmp_path, few_figures):
    write_study(tmp_path, optimizers=("adam", "momentum"), lrs=(1e-3, 1e-2), seeds=(0, 1))
    for run in tmp_path.glob("*/adam/*"):
        record = records.read(run / "record.json")
        record.timing |= {"runs_together": 4}
        records.write(record, run)
    html = write(studies.read(tmp_path)).page.read_text()
    assert html.count("trained in a stack: seconds are shared") == 1
    assert "4 of 8 runs trained in stacks of up to 4" in html


def test_only_drawn_settings_have_a_budget(tmp_path, few_figures):
    rates = np.logspace(-4, 0, 13).tolist()
    optimizers = ("adam", "momentum")
    write_study(tmp_path, optimizers=optimizers, lrs=rates, seeds=(0,), sampler="random")
    report = write(studies.read(tmp_path))
    html = report.page.read_text()
    assert '<section id="budget"' in html
    assert "One setting drawn at random" in html
    assert "90 % interval" in html
    assert set(report.contents.expected["optimizer"]) == {*optimizers}
    of_draws = report.contents.differences.query("quantity == 'budget'")
    assert set(of_draws["why_not"]) == {"fewer than 20 draws"}


def test_the_page_needs_nothing_but_itself(full):
    html = full.page.read_text()
    assert not [link for link in links(full.page) if re.match(r"https?:|//", link)]
    assert not re.search(r"@import|url\(\s*['\"]?(?!#)", html)
    assert "<script src" not in html


def test_every_link_leads_to_a_file_and_every_figure_has_both_formats(full):
    files = {link for link in links(full.page) if not link.startswith("data:")}
    there = {path.name for path in full.page.parent.iterdir()}
    assert files <= there
    assert {Path(name).stem for name in there if name.endswith(".svg")} == {
        Path(name).stem for name in there if name.endswith(".png")
    }
    assert sum(name.endswith(".svg") for name in there) > 30


def test_a_figure_is_drawn_in_the_pages_own_colours(full):
    html = full.page.read_text()
    drawings = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert "var(--adam)" in drawings
    assert not {style.INK, style.PAPER, style.LOOKS["adam"].colour} & set(
        re.findall(r"#[0-9a-f]{6}", drawings)
    )


def test_tables_hold_what_the_study_holds(full):
    directory = full.page.parent
    assert len(pd.read_csv(directory / "runs.csv")) == 2 * 2 * 3 * 2 * 2 * 3
    assert len(pd.read_csv(directory / "trials.csv")) == 2 * 2 * 3 * 2 * 2
    best = pd.read_csv(directory / "best.csv")
    assert len(best) == 4
    assert (best["runs"] == 36).all()
    assert best["all_diverged"].sum() == (full.contents.study.runs["status"] == "diverged").sum()


def test_every_record_is_in_one_table_beside_the_study(tmp_path):
    """As text, to the last bit; of whatever a record may hold."""
    odd = {"hidden_sizes": [8, 8], "note": '=1+1, "a"\nb', "on": True, "none": None, "third": 1 / 3}
    run = write_run(tmp_path) / records.FILE_NAME
    content = json.loads(run.read_text())
    run.write_text(json.dumps(content | {"config": content["config"] | {"odd": odd}}))
    write_run(tmp_path, optimizer="sgd", lr=30.0)
    files = sorted(tmp_path.glob("*/*/*/record.json"))
    (tmp_path / "records.csv").write_text("an earlier one")
    path = all_records.write(studies.read(tmp_path))
    assert path == tmp_path / "records.csv"
    assert not list(tmp_path.glob(".*"))
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row.pop("directory") for row in rows] == [
        str(file.parent.relative_to(tmp_path)) for file in files
    ]

    def flat(content: dict, prefix: str = "") -> dict:
        found = {}
        for key, value in content.items():
            found |= (
                flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
            )
        return {key: value for key, value in found.items() if value is not None}

    def read(text: str, value: object) -> object:
        if isinstance(value, str):
            return text.removeprefix("'") if value[:1] in "=+-@" else text
        return json.loads(text)

    for row, file in zip(rows, files, strict=True):
        expected = flat(json.loads(file.read_text()))
        assert {key for key, text in row.items() if text} == {
            key for key, value in expected.items() if value != ""
        }
        for key, value in expected.items():
            found = read(row[key], value)
            assert (found, type(found)) == (value, type(value))
    before = path.read_bytes()
    assert all_records.write(studies.read(tmp_path)).read_bytes() == before


def test_a_page_stays_small_and_says_what_it_leaves_out(tmp_path, few_figures, monkeypatch):
    rng = np.random.default_rng(0)
    for lr in 10 ** rng.uniform(-5, -1, 40):
        write_run(tmp_path, lr=lr, weight_decay=10 ** rng.uniform(-5, -1), sampler="random")
    for seed in range(1, 6):
        write_run(tmp_path, lr=1e-3, weight_decay=1e-2, seed=seed, sampler="random")
    monkeypatch.setattr(trials, "MOST_ROWS", 12)
    monkeypatch.setattr(figures, "MOST_DOTS", 15)
    monkeypatch.setattr(figures, "BEST_DOTS", 5)
    monkeypatch.setattr(curves, "MOST_RUNS", 3)
    assert board.all_runs(tmp_path, 480) is None
    assert str(board.all_runs(tmp_path, 481)).startswith(f"tensorboard --logdir {tmp_path} ")
    found = write(studies.read(tmp_path))
    page = re.sub(r"<[^>]*>", "", found.page.read_text())
    assert "Here are the 12 best of 41 settings." in page
    assert "15 of 41 of them, the best among these" in page
    assert "Mean over 3 of up to 5 runs, evenly spread" in page
    html = found.page.read_text()
    rows = json.loads(re.search(r'id="trial-rows">(.*?)</script>', html, re.DOTALL)[1])["rows"]
    assert len(rows) == 12
    beside = found.page.parent
    everything = pd.read_csv(beside / "trials.csv")
    assert len(everything) == 41
    validation = [row[3] for row in rows]
    assert sorted(validation, reverse=True) == pytest.approx(
        100 * everything["score"].nlargest(12), abs=1e-4
    )
    dots = pd.read_csv(beside / "lr_sensitivity_mnist_mlp.csv")
    assert len(dots) == 15
    assert dots["y"].max() == pytest.approx(100 * everything["score"].max())


def test_the_same_study_gives_the_same_files(tmp_path, few_figures):
    def files() -> dict[str, bytes]:
        found = (tmp_path / "report").iterdir()
        return {
            path.name: path.read_bytes()
            for path in found
            if path.is_file() and "tfevents" not in path.name
        }

    write_study(tmp_path, optimizers=("adam", "adamw"), lrs=(1e-3, 1e-2), seeds=(0, 1))
    write(studies.read(tmp_path))
    before = files()
    write(studies.read(tmp_path))
    assert files() == before


def test_an_earlier_reports_files_do_not_stay(tmp_path, few_figures):
    write_study(tmp_path, lrs=(1e-3,), seeds=(0,))
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "lr_sensitivity_gone.svg").write_text("<svg/>")
    (tmp_path / "report" / "mine.txt").write_text("notes")
    write(studies.read(tmp_path))
    assert not (tmp_path / "report" / "lr_sensitivity_gone.svg").exists()
    assert (tmp_path / "report" / "mine.txt").exists()


def test_selection_reads_validation_only(tmp_path, few_figures):
    for lr, seed in ((1e-3, 0), (1e-2, 0)):
        run = write_run(tmp_path, lr=lr, seed=seed)
        record = records.read(run / "record.json")
        record.metrics["test/accuracy"] = 0.999 if lr == 1e-2 else 0.5
        records.write(record, run)
    best = write(studies.read(tmp_path)).contents.best
    assert best["lr"].tolist() == [1e-3]
    assert best["test"].tolist() == [0.5]


def events(directory: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(directory), size_guidance={"scalars": 0, "tensors": 0})
    return accumulator.Reload()


# Studies with everything wrong in them ------------------------------------------------------------


def one_run(directory):
    write_run(directory)


def all_diverged(directory):
    write_study(directory, lrs=(1e3, 1e4))


def some_always_diverge(directory):
    write_study(directory, optimizers=("adam",), lrs=(1e-3, 1e-2))
    write_study(directory, optimizers=("sgd",), lrs=(1e3, 1e4))


def all_failed(directory):
    for seed in (0, 1):
        run = write_run(directory, seed=seed)
        record = records.read(run / "record.json")
        record.status, record.reason, record.metrics = "failed", "out of memory", {}
        records.write(record, run)


def no_validation(directory):
    write_study(directory, val_size=0)


def no_validation_one_trial(directory):
    write_study(directory, val_size=0, lrs=(1e-3,))


def no_curves(directory):
    write_study(directory, lrs=(1e-3, 1e-2), curves=False)


def unfinished(directory):
    write_study(directory, lrs=(1e-3, 1e-2))
    write_run(directory, lr=0.5, finished=False)


def foreign_files(directory):
    write_study(directory, lrs=(1e-3, 1e-2), seeds=(0,))
    (directory / "notes.txt").write_text("hello")
    (directory / "mnist_mlp" / "plot.png").write_bytes(b"\x89PNG")
    (directory / "other" / "deep").mkdir(parents=True)
    (directory / "other" / "deep" / "record.json").write_text("{}")
    (directory / "mnist_mlp" / "adam" / "metrics.csv").write_text("nothing")


def two_schemas(directory):
    write_study(directory, lrs=(1e-3, 1e-2), seeds=(0,))
    path = next(directory.glob("**/record.json"))
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 0'))


def names_from_elsewhere(directory):
    for optimizer in ("NAdam", "my.own<b>", "a|b", "x&y", "w", "v", "u"):
        write_run(directory, optimizer=optimizer)


def without_learning_rate(directory):
    for seed in (0, 1):
        run = write_run(directory, seed=seed)
        record = records.read(run / "record.json")
        record.hyperparameters = {"eps": 1e-8}
        records.write(record, run)


def settings_drawn_at_random(directory):
    for i in range(25):
        lr, decay = 10 ** (-4 + 0.13 * i), 10 ** (-5 + 0.17 * ((7 * i) % 25))
        write_run(directory, lr=lr, weight_decay=decay)


def weight_decay_from_zero(directory):
    write_study(directory, lrs=(1e-3, 1e-2), weight_decays=(0.0, 1e-4, 1e-2), seeds=(0,))


def metrics_missing(directory):
    for seed in (0, 1):
        run = write_run(directory, seed=seed)
        record = records.read(run / "record.json")
        record.metrics, record.best, record.target, record.timing = {}, {}, {}, {}
        record.environment = {}
        records.write(record, run)


STUDIES = [
    one_run,
    all_diverged,
    some_always_diverge,
    all_failed,
    no_validation,
    no_validation_one_trial,
    no_curves,
    unfinished,
    foreign_files,
    two_schemas,
    names_from_elsewhere,
    without_learning_rate,
    settings_drawn_at_random,
    weight_decay_from_zero,
    metrics_missing,
]


@pytest.mark.parametrize("make", STUDIES, ids=lambda make: make.__name__)
def test_any_study_with_a_run_in_it_gives_a_report(tmp_path, capsys, few_figures, make):
    make(tmp_path)
    assert command.main([str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    html = (tmp_path / "report" / "index.html").read_text()
    assert "How to reproduce it" in html
    words = re.sub(r"<(script|style|svg).*?</\1>", "", html, flags=re.DOTALL)
    assert not re.search(r"\bnan\b|\binf\b|\bNone\b|\bNaT\b", words)


def test_what_is_wrong_is_said_on_the_page_and_in_the_terminal(tmp_path, capsys, few_figures):
    foreign_files(tmp_path)
    write_run(tmp_path, lr=0.5, finished=False)
    command.main([str(tmp_path)])
    printed = capsys.readouterr()
    assert "other/deep/record.json" in printed.err
    html = (tmp_path / "report" / "index.html").read_text()
    assert "other/deep/record.json" in html
    assert "left no record" in html
    assert "one seed" in html


def test_without_validation_it_says_that_nothing_can_be_selected(tmp_path, capsys, few_figures):
    no_validation(tmp_path)
    command.main([str(tmp_path)])
    assert "no setting can be selected" in (tmp_path / "report" / "index.html").read_text()


def test_a_best_value_at_the_edge_of_the_grid_is_a_warning(tmp_path, capsys, few_figures):
    write_study(tmp_path, optimizers=("adam",), lrs=(1e-5, 1e-4, 1e-3))
    command.main([str(tmp_path)])
    assert "highest value tried" in capsys.readouterr().out
    assert "highest value tried" in (tmp_path / "report" / "index.html").read_text()


def different_lengths(directory):
    write_study(directory, optimizers=("adam", "sgd"), lrs=(1e-3, 1e-2), seeds=(0, 1), epochs=5)
    write_study(directory, optimizers=("sgd", "adamw"), lrs=(1e-2, 1e-3), seeds=(0, 1), epochs=10)


def test_optimizers_are_not_ranked_over_different_lengths(tmp_path, capsys, few_figures):
    different_lengths(tmp_path)
    write_study(tmp_path, workloads=("cifar10_linear",), lrs=(1e-3, 1e-2), seeds=(0, 1))
    assert command.main([str(tmp_path)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    html = (tmp_path / "report" / "index.html").read_text()
    summary = (
        events(tmp_path / "report/figures")
        .Tensors("summary")[0]
        .tensor_proto.string_val[0]
        .decode()
    )
    said = "Runs of mnist_mlp were given different lengths (5 epochs and 10 epochs): a length is a"
    for shown in (printed, html, summary):
        assert shown.count(said) == 1
        assert "mnist_mlp for 5 epochs" in shown
        assert "max_epochs" not in shown
    assert set(re.findall(r"(\w+)=\S+ is the (?:lowest|highest) value tried", printed)) == {"lr"}
    assert '<section id="workloads"' not in html
    assert "2 workloads" in html
    contents = gather(studies.read(tmp_path))
    for table in (contents.differences, contents.expected, contents.best):
        assert set(table["workload"]) <= {
            *("mnist_mlp for 5 epochs", "mnist_mlp for 10 epochs", "cifar10_linear")
        }
    pairs = contents.differences[contents.differences["workload"] == "mnist_mlp for 5 epochs"]
    pairs = pairs[pairs["quantity"] == "test"]
    assert pairs[["x", "y"]].to_numpy().tolist() == [["adam", "sgd"]]


def test_each_workload_may_have_its_own_length(tmp_path, few_figures):
    write_study(tmp_path, workloads=("mnist_mlp",), lrs=(1e-3, 1e-2), seeds=(0, 1), epochs=5)
    write_study(tmp_path, workloads=("cifar10_cnn",), lrs=(1e-3, 1e-2), seeds=(0, 1), epochs=10)
    report = write(studies.read(tmp_path))
    assert report.contents.workloads == ["cifar10_cnn", "mnist_mlp"]
    html = report.page.read_text()
    assert "different lengths" not in html
    assert '<section id="workloads"' in html


def test_a_link_in_the_reports_place_is_not_followed(tmp_path, capsys):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "photo.png").write_text("mine")
    write_run(tmp_path / "study")
    (tmp_path / "study" / "report").symlink_to(mine)
    assert command.main([str(tmp_path / "study")]) == 1
    assert "a link" in capsys.readouterr().err
    assert [path.name for path in mine.iterdir()] == ["photo.png"]


@pytest.mark.slow
def test_a_terminal_without_such_letters_shows_others(tmp_path):
    write_study(tmp_path, lrs=(1e-3,), optimizers=("adam",), seeds=(0, 1))
    done = subprocess.run(
        [sys.executable, "-m", "bench.report", str(tmp_path)],
        check=False,
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0, done.stderr
    assert b"mnist_mlp" in done.stdout


def test_names_cannot_break_the_page(tmp_path, few_figures):
    run = write_run(tmp_path, optimizer="a</script><b>x")
    record = records.read(run / "record.json")
    record.config["workload"]["model"]["init"] = "</script><script>alert(1)</script>"
    records.write(record, run)
    html = write(studies.read(tmp_path)).page.read_text()
    assert "alert(1)</script>" not in html
    assert html.count("</script>") == html.count("<script")


WRONG = {
    "nowhere": (lambda path: path / "nowhere", "no such directory"),
    "empty": (lambda path: path, "holds no record"),
    "a file": (lambda path: Path(__file__), "no such directory"),
}


@pytest.mark.parametrize(("where", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_directory_is_one_line(tmp_path, capsys, where, message):
    assert command.main([str(where(tmp_path))]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_study_that_has_only_begun_is_one_line(tmp_path, capsys):
    write_run(tmp_path, finished=False)
    assert command.main([str(tmp_path)]) == 1
    assert "none of its 1 runs has finished yet" in capsys.readouterr().err


def test_only_bad_records_are_a_line_each(tmp_path, capsys):
    for seed in (0, 1):
        (write_run(tmp_path, seed=seed) / "record.json").write_text("{")
    assert command.main([str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.count("not a complete JSON file") == 2
    assert error.count("\n") == 3
    assert not (tmp_path / "report").exists()


def test_a_report_that_cannot_be_written_is_one_line(tmp_path, capsys):
    write_run(tmp_path)
    (tmp_path / "report").write_text("in the way")
    assert command.main([str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "cannot be written" in error
    assert error.count("\n") == 1


def test_the_table_in_the_terminal_fits_80_columns(tmp_path, capsys, monkeypatch, few_figures):
    monkeypatch.setenv("COLUMNS", "80")
    write_study(tmp_path, lrs=(1e-3, 1e-2), weight_decays=(0.0, 0.1))
    command.main([str(tmp_path)])
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines()[:6])) <= 80
    assert re.search(r"adamw +0.001 +\S+ +9\d\.\d\d ± 0\.\d\d", printed)
    assert "tensorboard --logdir" in printed


def test_open_shows_the_page_and_starts_tensorboard_on_the_loopback(
    tmp_path, monkeypatch, few_figures
):
    write_study(tmp_path, lrs=(1e-3,), seeds=(0,))
    shown, started = [], []
    monkeypatch.setattr(command.webbrowser, "open", shown.append)

    def run(arguments, **options):
        started.append(arguments)
        return subprocess.CompletedProcess(arguments, 0)

    monkeypatch.setattr(command.subprocess, "run", run)
    assert command.main([str(tmp_path), "--open"]) == 0
    assert shown == [(tmp_path / "report" / "index.html").as_uri()]
    assert started[0][1:] == [
        *(
            "-m",
            "tensorboard.main",
            "--logdir",
            str(by_short_names(tmp_path)),
            "--host",
            "127.0.0.1",
        )
    ]


@pytest.mark.slow
def test_ten_thousand_records_take_less_than_two_gigabytes(tmp_path, monkeypatch):
    monkeypatch.setattr(records.os, "fsync", lambda descriptor: None)
    write_study(
        tmp_path,
        workloads=("mnist_mlp", "mnist_logistic", "cifar10_linear", "cifar10_cnn", "fashion"),
        optimizers=tuple(BEST_LR),
        lrs=tuple(10 ** (-5 + i / 3) for i in range(19)),
        weight_decays=(0.0, 1e-3, 1e-2),
        seeds=range(5),
    )
    done = subprocess.run(
        [sys.executable, "-m", "bench.report", str(tmp_path)], check=False, capture_output=True
    )
    assert done.returncode == 0
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 2 * 1024**2  # kilobytes
    rows = re.search(
        r'id="trial-rows">(.*?)</script>', (tmp_path / "report" / "index.html").read_text()
    )
    assert len(json.loads(rows[1])["rows"]) == 5 * 7 * 19 * 3


def test_reproduce_says_what_was_swept_on_what_and_with_which_data(tmp_path, few_figures):
    write_study(tmp_path, optimizers=("adam",), lrs=(1e-3, 1e-2))
    write_study(tmp_path, optimizers=("sgd",), lrs=(0.1,))
    for run in tmp_path.glob("*/*/*"):
        record = records.read(run / "record.json")
        record.environment |= {"data": "5c2571cecdd0b409"}
        record.timing |= {"total_seconds": 40.0, "runs_together": 3}
        records.write(record, run)
    html = write(studies.read(tmp_path)).page.read_text()
    facts = dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", html))
    assert facts["learning rate, adam"] == "0.001, 0.01"
    assert facts["learning rate, sgd"] == "0.1"
    assert facts["seed"] == "0, 1, 2"
    assert facts["device"] == "cpu"
    assert facts["torch"] == "2.13.0"
    assert facts["time"].replace("\N{NO-BREAK SPACE}", " ") == "2.0 min of computing, added up"
    assert facts["checksum of mnist_mlp&#39;s"] == "5c2571cecdd0b409"
    assert facts["report"] == f"python -m bench.report {tmp_path}"


@pytest.mark.parametrize(
    ("trials", "said"), [(20, "fewer than 50 trials that were drawn"), (60, "at chance weigh in")]
)
def test_how_much_a_number_decides_is_said_of_enough_trials_only(
    tmp_path, monkeypatch, trials, said
):
    rng = np.random.default_rng(0)
    for lr, weight_decay in 10 ** rng.uniform((-5, -4), (1, 0), (trials, 2)):
        write_run(tmp_path, lr=lr, weight_decay=weight_decay, curves=False)
    monkeypatch.setattr(style, "save", lambda *_, **__: "<svg></svg>")
    (tmp_path / "report").mkdir()
    found = settings.section(gather(studies.read(tmp_path)), Gallery(tmp_path / "report"))
    words = [block.paragraphs for block in found.blocks]
    words += [table.caption for block in found.blocks for table in block.tables]
    assert said in str(words)
