import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from bench import study as studies
from bench.errors import BenchError
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


BROKEN = {
    "half a file": (lambda text: text[: len(text) // 2], "not a complete JSON file"),
    "nothing": (lambda text: "", "not a complete JSON file"),
    "not JSON": (lambda text: "loss: 0.3", "not a complete JSON file"),
    "a list": (lambda text: "[1, 2]", "not a record"),
    "another program's": (lambda text: '{"name": "x"}', "not a record"),
    "an older schema": (lambda text: text.replace('"schema": 1', '"schema": 0'), "schema 0"),
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
    "a seed in words": (
        lambda text: text.replace('"seed": 0', '"seed": "zero"'),
        "seed: 'zero', not a whole number",
    ),
    "bytes": (None, "not a complete JSON file"),
}


@pytest.mark.parametrize(("damage", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_bad_file_is_one_line_and_the_others_are_read(tmp_path, damage, message):
    write_study(tmp_path, optimizers=("adam",), lrs=(1e-3, 1e-2), seeds=(0, 1))
    path = next(tmp_path.glob("**/lr=0.001*_0/record.json"))
    if damage is None:
        path.write_bytes(b"\xff\xfe\x00\x80")
    else:
        path.write_text(damage(path.read_text()))
    study = studies.read(tmp_path)
    assert len(study.runs) == 3
    (problem,) = study.problems
    assert str(path) in problem
    assert message in problem
    assert "\n" not in problem


def test_a_directory_in_a_records_place_is_one_line(tmp_path):
    run = write_run(tmp_path)
    (tmp_path / "x" / "record.json").mkdir(parents=True)
    study = studies.read(tmp_path)
    assert len(study.runs) == 1
    assert "cannot be read" in study.problems[0]
    assert run.is_dir()


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
        path.write_text(content)
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


def test_reading_a_study_needs_no_torch():
    code = "import sys, bench.study, bench.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
