import json
import os
import shutil
import signal
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench import records
from bench import study as studies
from bench.errors import BenchError
from bench.report.contents import gather
from bench.report.figures import ordered
from bench.settings import identity
from tests.report.synthetic import write_run, write_study


def test_one_row_a_run_with_plain_names(tmp_path):
    directory = write_study(tmp_path / "first", lrs=(1e-3, 1.0), weight_decays=(0.0, 0.1))
    study = studies.read(directory)
    assert len(study.runs) == 3 * 2 * 2 * 3
    assert study.name == "first"
    assert study.settings == ["lr", "weight_decay"]
    assert study.problems == []
    for name in ("lr", "weight_decay", "val/accuracy", "test/accuracy", "timing/train_seconds"):
        assert study.runs[name].dtype == float
    assert set(study.runs["status"]) == {"completed", "diverged"}
    assert (directory / study.runs["directory"][0] / "record.json").is_file()


def test_a_trial_is_a_setting_without_its_seed(tmp_path):
    study = studies.read(write_study(tmp_path, lrs=(1e-3, 1e-2), weight_decays=(0.0, 0.1)))
    trials = study.runs.groupby("trial")
    assert set(trials.groups) == {
        f"lr={lr} weight_decay={wd}" for lr in (0.001, 0.01) for wd in ("0", "0.1")
    }
    assert (trials["seed"].nunique() == 3).all()
    assert (trials["lr"].nunique() == 1).all()


def test_settings_that_are_words_make_trials_and_columns(tmp_path):
    settings = [{"init": "default"}, {"init": "zeros", "schedule": "cosine"}]
    study = studies.read(write_study(tmp_path, lrs=(1e-3,), settings=settings))
    assert study.settings == ["init", "schedule"]
    assert set(study.runs["init"]) == {"default", "zeros"}
    assert set(study.runs["trial"]) == {
        "init=default schedule=constant",
        "init=zeros schedule=cosine",
    }


def test_a_single_setting_is_named_by_its_learning_rate(tmp_path):
    study = studies.read(write_study(tmp_path, lrs=(1e-3,)))
    assert set(study.runs["trial"]) == {"lr=0.001"}
    assert study.settings == []


def test_numbers_and_words_in_one_setting_stay_words(tmp_path):
    settings = [{"feature_scaling": 3}, {"feature_scaling": "unit"}]
    study = studies.read(write_study(tmp_path, lrs=(1e-3,), settings=settings))
    assert set(study.runs["feature_scaling"]) == {"3", "unit"}


def test_what_is_the_same_everywhere_is_shared(tmp_path):
    study = studies.read(write_study(tmp_path))
    assert study.shared["trainer.max_epochs"] == 5
    assert "optimizer.lr" not in study.shared
    ((environment, count),) = study.environments
    assert environment["torch"] == "2.13.0"
    assert count == len(study.runs)


def test_rows_do_not_depend_on_the_order_of_the_files(tmp_path):
    first = studies.read(write_study(tmp_path / "a", study="s"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    second = studies.read(tmp_path / "b")
    pd.testing.assert_frame_equal(first.runs, second.runs)
    keys = ["workload", "optimizer", "lr", "seed"]
    assert first.runs[keys].equals(first.runs[keys].sort_values(keys, ignore_index=True))


def test_runs_without_a_record_are_unfinished(tmp_path):
    write_study(tmp_path, lrs=(1e-3,))
    write_run(tmp_path, lr=0.5, finished=False)
    (tmp_path / "mnist_mlp" / "adam" / "just_started" / ".hydra").mkdir(parents=True)
    study = studies.read(tmp_path)
    assert len(study.unfinished) == 2
    assert len(study.runs) == 9


def with_field(name, value):
    return lambda text: json.dumps(json.loads(text) | {name: value})


def nested(depth):
    return {"x": nested(depth - 1)} if depth else {}


METRIC = records.BEFORE_SCHEMA_2["metric"]

BROKEN = {
    "half a file": (lambda text: text[: len(text) // 2], "not a complete JSON file"),
    "nothing": (lambda text: "", "not a complete JSON file"),
    "not JSON": (lambda text: "loss: 0.3", "not a complete JSON file"),
    "a list": (lambda text: "[1, 2]", "not a record"),
    "another program's": (lambda text: '{"name": "x"}', "not a record"),
    "an older schema": (lambda text: text.replace('"schema": 2', '"schema": 0'), "schema 0"),
    "a field too few": (lambda text: text.replace('"steps"', '"stops"'), "unknown ['stops']"),
    "no such status": (lambda text: text.replace('"completed"', '"fine"'), "'fine'"),
    "words for numbers": (
        lambda text: text.replace('"lr": 0.001', '"lr": "fast"'),
        "hyperparameters.lr: 'fast', not a number",
    ),
    "a list of metrics": (
        lambda text: json.dumps(json.loads(text) | {"metrics": [1, 2]}),
        "metrics: a list, not an object",
    ),
    "no configuration": (
        lambda text: json.dumps(json.loads(text) | {"config": None}),
        "config: null, not an object",
    ),
    "a search of another kind": (
        lambda text: json.dumps(json.loads(text) | {"search": {"sampler": "grid", "by": "hand"}}),
        "search: no field 'by'; there are sampler, prior, command",
    ),
    "a sampler without a name": (
        lambda text: json.dumps(json.loads(text) | {"search": {"sampler": ""}}),
        "search.sampler: a text of 0 characters, not within 1 and 200",
    ),
    "a seed in words": (
        lambda text: text.replace('"seed": 0', '"seed": "zero"'),
        "seed: 'zero', not a whole number",
    ),
    "bytes": (None, "not a complete JSON file"),
    "another encoding": (lambda text: text.encode("utf-16"), "not a complete JSON file"),
    "a byte order mark": (lambda text: f"\ufeff{text}", "not a complete JSON file"),
    "infinity": (
        lambda text: text.replace('"lr": 0.001', '"lr": Infinity'),
        "Infinity is no number",
    ),
    "not a number": (lambda text: text.replace('"lr": 0.001', '"lr": NaN'), "NaN is no number"),
    "too large for a float": (
        lambda text: text.replace('"lr": 0.001', '"lr": 1e999'),
        "hyperparameters.lr: a number beyond 1e+100",
    ),
    "too large to be squared": (
        lambda text: text.replace('"lr": 0.001', '"lr": 1e308'),
        "hyperparameters.lr: a number beyond 1e+100",
    ),
    "too many digits": (lambda text: text.replace('"seed": 0', f'"seed": {"9" * 5000}'), "limit"),
    "a key twice": (lambda text: text.replace('"lr":', '"lr": 1, "lr":'), "'lr' is there twice"),
    "half a character": (
        lambda text: text.replace('"mnist_mlp"', '"\\ud800"', 1),
        "workload: a text with half a character",
    ),
    "brackets without end": (lambda text: "[" * 100_000, "not a complete JSON file"),
    "deep objects": (with_field("config", nested(40)), "more than 32 objects within one another"),
    "a long name": (with_field("workload", "w" * 201), "workload: a text of 201 characters"),
    "a long text": (with_field("reason", "r" * 100_001), "reason: a text of 100,001 characters"),
    "much of everything": (
        with_field("metrics", {f"val/{i}": 0 for i in range(10_001)}),
        "metrics: 10,001 values",
    ),
    "a large file": (lambda text: text + " " * 5_000_000, "larger than 4 MB"),
    "no environment": (with_field("environment", None), "environment: null, not an object"),
    "a list for a number": (with_field("steps", [3]), "steps: a list, not a whole number"),
    "a truth for a number": (with_field("seed", True), "seed: true, not a whole number"),
    "a number for a name": (with_field("optimizer", 3), "optimizer: 3, not text"),
    "a metric in words": (with_field("metrics", {"val/x": "0.9"}), "metrics.val/x: '0.9', not a"),
    "steps below zero": (with_field("steps", -1), "steps: -1, not within 0"),
    "epochs below zero": (with_field("epochs", -0.5), "epochs: -0.5, not within 0"),
    "an absurd count": (with_field("steps", 10**17), "steps: 100000000000000000, not within"),
    "an unknown status": (with_field("status", ["completed"]), "status: a list is none of"),
    "a target before the start": (with_field("target", {"step": 0}), "target.step: 0, not within"),
    "a target after the end": (
        with_field("target", {"step": 10**6}),
        "target.step: 1000000, after",
    ),
    "a target in no time": (with_field("target", {"seconds": 0}), "target.seconds: 0, not more"),
    "a target of another kind": (with_field("target", {"goal": 1}), "target: no field 'goal'"),
    "a metric's name": (with_field("hyperparameters", {"val/loss": 1}), "is a metric's"),
    "a column's name": (with_field("metrics", {"seed": 1}), "metrics.seed: a name is split/metric"),
}


@pytest.mark.parametrize(("damage", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_bad_file_is_one_line_and_the_others_are_read(tmp_path, damage, message):
    write_study(tmp_path, optimizers=("adam",), lrs=(1e-3, 1e-2), seeds=(0, 1))
    path = next(tmp_path.glob("**/lr=0.001*_0/record.json"))
    if damage is None:
        path.write_bytes(b"\xff\xfe\x00\x80")
    else:
        damaged = damage(path.read_text())
        path.write_bytes(damaged if isinstance(damaged, bytes) else damaged.encode())
    study = studies.read(tmp_path)
    assert len(study.runs) == 3
    (problem,) = study.problems
    assert str(path) in problem
    assert message in problem
    assert "\n" not in problem


KINDS = {
    "a directory": (Path.mkdir, "Is a directory"),
    "a pipe": (os.mkfifo, "a pipe or a device, not a file"),
    "a device without end": (lambda path: path.symlink_to("/dev/zero"), "device, not a file"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "cannot be read"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "cannot be read"),
    "a file of a terabyte": (lambda path: os.truncate(path, 1 << 40), "cannot be read (larger"),
}


@pytest.fixture
def in_time():
    """Waiting for ever is a failure."""

    def late(*_):
        raise TimeoutError

    signal.signal(signal.SIGALRM, late)
    signal.alarm(30)
    yield
    signal.alarm(0)


@pytest.mark.parametrize(("put", "message"), KINDS.values(), ids=KINDS.keys())
def test_whatever_lies_in_a_files_place_is_one_line_at_once(tmp_path, in_time, put, message):
    write_study(tmp_path, optimizers=("adam",), lrs=(1e-3, 1e-2), seeds=(0, 1, 2))
    best, _, other = sorted(path.parent for path in tmp_path.glob("**/lr=0.001*/record.json"))
    (best / ".hydra").mkdir()
    paths = [other / "record.json", best / "metrics.csv", best / ".hydra" / "overrides.yaml"]
    for path in paths:
        path.touch()
        if put is not KINDS["a file of a terabyte"][0]:
            path.unlink()
        put(path)
    problems = gather(studies.read(tmp_path)).problems
    for path, problem in zip(paths, problems, strict=True):
        assert str(path) in problem
        assert message in problem


def test_a_directory_whose_name_is_not_unicode_is_one_line(tmp_path):
    run = write_run(tmp_path)
    shutil.copytree(run, os.fsdecode(bytes(tmp_path) + b"/\xff"))
    study = studies.read(tmp_path)
    assert len(study.runs) == 1
    assert "its name is not Unicode" in study.problems[0]
    assert study.problems[0].isprintable()


def test_the_largest_numbers_and_the_smallest_are_read(tmp_path):
    run = write_run(tmp_path)
    record = records.read(run / "record.json")
    record.metrics |= {"val/loss": 1e100, "test/loss": 5e-324, "train/loss": 1e101}
    records.write(record, run)
    (row,) = studies.read(tmp_path).runs.to_dict("records")
    assert [row["val/loss"], row["test/loss"]] == [1e100, 5e-324]
    assert np.isnan(row["train/loss"])  # as an infinite one


def test_what_a_run_leaves_can_be_read_whatever_its_error_said(tmp_path):
    run = write_run(tmp_path)
    known = {"id": "x", "study": "s", "workload": "w", "optimizer": "o", "schedule": "c"}
    known |= {"seed": 0, "hyperparameters": {"clip": float("inf")}, "config": {"dir": "/\udcff"}}
    records.write(
        records.failed(
            known, records.BEFORE_SCHEMA_2["metric"], "no such file: \udcff" + "x" * 10**6
        ),
        run,
    )
    record = records.read(run / "record.json")
    assert record.reason.startswith("no such file: ?x")
    assert (record.hyperparameters, record.config) == ({"clip": None}, {"dir": "/?"})


def test_a_field_with_a_default_may_be_absent(tmp_path):
    run = write_run(tmp_path)
    content = json.loads((run / "record.json").read_text())
    del content["reason"]
    (run / "record.json").write_text(json.dumps(content))
    assert records.read(run / "record.json").reason is None


def test_a_setting_called_as_a_column_is_another_column(tmp_path):
    for seed, value in ((0, 0.25), (1, 0.75)):
        run = write_run(tmp_path, seed=seed)
        record = records.read(run / "record.json")
        record.hyperparameters["seed"] = record.config["optimizer"]["seed"] = value
        record.config["optimizer"]["score"] = f"of {seed}"
        records.write(record, run)
    study = studies.read(tmp_path)
    assert study.settings == ["setting.score", "setting.seed"]
    assert study.runs["seed"].tolist() == [0, 1]
    assert study.runs["setting.seed"].tolist() == [0.25, 0.75]


def searched(run, search):
    record = records.read(run / "record.json")
    record.search = search
    record.config["optimizer"]["sampler"] = record.seed
    records.write(record, run)


def test_how_runs_were_chosen_and_by_which_commands(tmp_path):
    grid = {"sampler": "grid", "prior": {"optimizer.lr": "1,2"}, "command": ["-m", "seed=0,\x1b"]}
    single = {"sampler": "single", "prior": {}, "command": ["seed=2"]}
    for seed, search in enumerate((grid, single, grid, None, {}, {"sampler": "ax"})):
        searched(write_run(tmp_path, seed=seed), search)
    study = studies.read(tmp_path)
    assert study.runs["sampler"].tolist() == ["grid", "single", "grid", "unknown", "unknown", "ax"]
    assert study.commands == [(["-m", "seed=0, "], 2), (["seed=2"], 1)]
    assert study.settings == ["setting.sampler"]  # a hyperparameter of that name is another column


def test_a_record_from_before_says_nothing_of_it(tmp_path):
    run = write_run(tmp_path)
    content = json.loads((run / "record.json").read_text())
    del content["search"]
    (run / "record.json").write_text(json.dumps(content))
    assert records.read(run / "record.json").search is None


def test_characters_that_a_terminal_obeys_are_not_passed_on(tmp_path):
    run = write_run(tmp_path)
    record = records.read(run / "record.json")
    record.workload, record.environment = "\x1b[31mred\u202e", {"host\n": "\x07\x00\u2028"}
    records.write(record, run)
    (tmp_path / "\x1b]0;").mkdir()
    (tmp_path / "\x1b]0;" / "record.json").write_text("{")
    study = studies.read(tmp_path)
    assert study.runs["workload"].tolist() == [" [31mred "]
    assert study.environments == [({"host ": "   "}, 1)]
    assert study.problems[0].isprintable()


def test_a_run_that_failed_was_made_nowhere(tmp_path):
    write_study(tmp_path)
    run = write_run(tmp_path, lr=0.5)
    record = records.read(run / "record.json")
    record.status, record.environment = "failed", {"torch": "2.13.0"}
    records.write(record, run)
    assert len(studies.read(tmp_path).environments) == 1


def test_what_is_minimised_is_no_setting(tmp_path):
    for condition in (10.0, 100.0):
        for seed in (0, 1):
            run = write_run(tmp_path, lr=condition / 1e4, seed=seed)
            record = records.read(run / "record.json")
            record.problem = ["workload.condition", "workload.dimension"]
            record.config["workload"] |= {"condition": condition, "dimension": 3}
            records.write(record, run)
    study = studies.read(tmp_path)
    names = {"condition 10": "mnist_mlp with condition 10"}
    names["condition 100"] = "mnist_mlp with condition 100"
    assert study.variants == {"mnist_mlp": names}
    assert set(study.runs["workload"]) == set(names.values())
    assert study.settings == []


def test_a_copied_run_is_counted_once(tmp_path):
    run = write_run(tmp_path)
    shutil.copytree(run, tmp_path / "copy")
    study = studies.read(tmp_path)
    assert len(study.runs) == 1
    assert "the same run as" in study.problems[0]


def test_an_empty_directory_is_an_empty_table(tmp_path):
    study = studies.read(tmp_path)
    assert study.runs.empty
    assert study.settings == []
    assert {"workload", "optimizer", "trial", "directory"} <= set(study.runs.columns)


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(BenchError, match="no such directory"):
        studies.read(tmp_path / "nowhere")


def test_curves_are_numbers_by_run(tmp_path):
    study = studies.read(write_study(tmp_path, lrs=(1e-3,), seeds=(0, 1)))
    curves, problems = studies.read_curves(study, study.runs)
    assert problems == []
    assert set(map(str, curves.dtypes.drop("run"))) == {"float64"}
    assert curves["run"].nunique() == 6
    last = curves.dropna(subset=["val/accuracy"]).groupby("run")["val/accuracy"].last()
    assert last.to_numpy() == pytest.approx(study.runs["val/accuracy"].to_numpy(), abs=1e-5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("", "not a table of numbers"),
        (",".join(map(str, range(2000))), "more than 1,000 columns"),
        ("step\n\ud800", "not a table of numbers"),
        ("a,b\n1,2\n", "no column 'step'"),
        ('step,x\n"1,2\n', "not a table of numbers"),
    ],
)
def test_a_bad_curve_is_one_line_and_the_others_are_read(tmp_path, content, message):
    study = studies.read(write_study(tmp_path, lrs=(1e-3,), optimizers=("adam",)))
    path = tmp_path / study.runs["directory"][0] / "metrics.csv"
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content.encode(errors="surrogatepass"))
    curves, (problem,) = studies.read_curves(study, study.runs)
    assert str(path) in problem
    assert message in problem
    assert "\n" not in problem
    assert curves["run"].nunique() == 2


def test_a_curve_that_is_still_being_written_is_read_so_far(tmp_path):
    study = studies.read(write_study(tmp_path, lrs=(1e-3,), optimizers=("adam",), seeds=(0,)))
    path = tmp_path / study.runs["directory"][0] / "metrics.csv"
    with open(path, "a") as file:
        file.write("2020,5.0")
    curves, problems = studies.read_curves(study, study.runs)
    assert problems == []
    assert np.isnan(curves["train/loss"].iloc[-1])


def test_what_is_no_number_or_no_step_in_a_curve_is_left_out(tmp_path):
    study = studies.read(write_study(tmp_path, lrs=(1e-3,), optimizers=("adam",), seeds=(0,)))
    path = tmp_path / study.runs["directory"][0] / "metrics.csv"
    path.write_text("step,val/loss\n1,0.5\n-1,0.5\n1e308,0.5\n2,1e308\n3,inf\n4,x\n,0.5\n")
    curves, problems = studies.read_curves(study, study.runs)
    assert problems == []
    assert curves["step"].tolist() == [1, 2, 3, 4]
    assert curves["val/loss"].dropna().tolist() == [0.5]


# How long -----------------------------------------------------------------------------------------

LENGTHS = [
    ({"max_epochs": 1}, {"max_epochs": 2}, ["1 epoch", "2 epochs"]),
    ({"max_epochs": None, "max_steps": 1}, {"max_steps": 2000}, ["1 step", "2,000 steps"]),
    ({"max_epochs": 3}, {"max_epochs": 3, "max_steps": 9}, ["3 epochs", "3 epochs or 9 steps"]),
    (
        {"max_epochs": 3, "patience": 2},
        {"max_epochs": 3, "patience": None},
        ["3 epochs, patience 2", "3 epochs"],
    ),
]


@pytest.mark.parametrize(("one", "other", "said"), LENGTHS, ids=lambda x: ",".join(x))
def test_a_length_makes_another_workload_and_no_setting(tmp_path, one, other, said):
    for seed, trainer in ((0, one), (1, one), (2, other)):
        run = write_run(tmp_path, seed=seed)
        record = records.read(run / "record.json")
        record.config["trainer"] = trainer
        records.write(record, run)
    write_run(tmp_path, workload="cifar10_linear")
    study = studies.read(tmp_path)
    assert study.settings == []
    assert set(study.runs["trial"]) == {"lr=0.001"}
    assert not {"max_epochs", "max_steps", "patience"} & set(study.runs.columns)
    names = {length: f"mnist_mlp for {length}" for length in said}
    assert study.lengths == {"mnist_mlp": names}
    by_seed = study.runs[study.runs["workload"] != "cifar10_linear"].set_index("seed")["workload"]
    assert by_seed.to_dict() == {0: names[said[0]], 1: names[said[0]], 2: names[said[1]]}


def test_the_same_length_said_differently_is_the_same(tmp_path):
    for seed, trainer in enumerate(({"max_epochs": 5}, {"max_epochs": 5, "max_steps": -1})):
        run = write_run(tmp_path, seed=seed)
        record = records.read(run / "record.json")
        record.config["trainer"] = trainer
        records.write(record, run)
    study = studies.read(tmp_path)
    assert study.lengths == {}
    assert set(study.runs["workload"]) == {"mnist_mlp"}


def test_a_number_of_which_none_is_better_is_told_as_a_word(tmp_path):
    for seed, threads in ((0, 1), (1, 2)):
        run = write_run(tmp_path, seed=seed)
        record = records.read(run / "record.json")
        record.config["trainer"]["threads"] = threads
        records.write(record, run)
    study = studies.read(tmp_path)
    assert study.settings == ["threads"]
    assert study.runs["threads"].tolist() == ["1", "2"]


def test_reading_a_study_needs_no_torch():
    code = "import sys, bench.study, bench.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# What follows from a choice -----------------------------------------------------------------------

CONSTANT = {"name": "constant", "warmup_steps": 0}
STEP = {"name": "step", "warmup_steps": 0, "every": 1075}


def cosine(final: float = 0.0, warmup: int = 0) -> dict:
    return {"name": "cosine", "warmup_steps": warmup, "total_steps": None, "final": final}


# schedules of a study; its settings, and the schedules that it tells apart.
FOLDED = {
    "each with its own numbers": ([CONSTANT, STEP, cosine()], ["schedule"], "constant cosine step"),
    "one with several of a number": (
        [CONSTANT, STEP, cosine(), cosine(0.1)],
        ["schedule"],
        "constant|cosine, final 0|cosine, final 0.1|step",
    ),
    "one with several of two numbers": (
        [CONSTANT, cosine(), cosine(0.1, 50)],
        ["schedule"],
        "constant|cosine, final 0, warmup steps 0|cosine, final 0.1, warmup steps 50",
    ),
    "a number of all, by itself": (
        [CONSTANT, CONSTANT | {"warmup_steps": 50}, cosine(), cosine(warmup=50)],
        ["schedule.warmup_steps", "schedule"],
        "constant cosine",
    ),
    "a number over a range": (
        [CONSTANT, *(cosine(i / 10) for i in range(8))],
        ["schedule.final", "schedule"],
        "constant cosine",
    ),
    "no choice": ([cosine(), cosine(0.1)], ["schedule.final"], "cosine"),
    "a number that one run does not have": (
        [CONSTANT, {"name": "constant"}],
        ["schedule.warmup_steps"],
        "constant",
    ),
}


@pytest.mark.parametrize(("schedules", "settings", "names"), FOLDED.values(), ids=FOLDED.keys())
def test_what_follows_from_a_schedule_is_in_its_name(tmp_path, schedules, settings, names):
    for i, (schedule, optimizer) in enumerate(product(schedules, ("adam", "sgd"))):
        run = write_run(tmp_path / str(i), optimizer=optimizer)
        record = records.read(run / "record.json")
        record.schedule = schedule["name"]
        record.config["schedule"] = schedule
        record.hyperparameters |= identity.hyperparameters({"schedule": schedule})
        record.id = str(i)
        records.write(record, run)
    study = studies.read(tmp_path)
    separator = "|" if "|" in names else " "
    assert study.settings == settings
    assert sorted(study.runs["schedule"].unique()) == names.split(separator)
    assert study.runs["trial"].nunique() == len(schedules)
    assert not {"schedule.every", "schedule.total_steps"} & set(study.runs)
    notes = " ".join(gather(study).best["notes"])
    folded = {"schedule.final", "schedule.every"} - set(settings)
    assert not any(name in notes for name in folded)


def test_what_follows_from_another_choice_is_in_its_name_too(tmp_path):
    models = [{"init": "default"}, *({"init": "normal", "init_std": s} for s in (0.01, 0.1))]
    for i, model in enumerate(models):
        run = write_run(tmp_path / str(i))
        record = records.read(run / "record.json")
        record.config["workload"]["model"] = model
        record.hyperparameters |= {"init_std": model.get("init_std", 0.01)}
        record.id = str(i)
        records.write(record, run)
    study = studies.read(tmp_path)
    assert study.keys == {"init": "workload.model.init"}
    assert study.runs["init"].tolist() == ["default", "normal, std 0.01", "normal, std 0.1"]


def test_a_number_that_may_be_a_word_is_told_as_one(tmp_path):
    for i, size in enumerate((128, 32, "full")):
        run = write_run(tmp_path / str(i))
        record = records.read(run / "record.json")
        record.config["workload"]["batch_size"] = size
        record.hyperparameters = identity.hyperparameters(record.config)
        record.id = str(i)
        records.write(record, run)
    study = studies.read(tmp_path)
    assert set(study.runs["batch_size"]) == {"128", "32", "full"}
    assert ordered(study.runs["batch_size"]) == ["32", "128", "full"]
