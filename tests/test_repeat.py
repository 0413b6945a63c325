"""``--repeat RUN``: the same results from what a run left, or one line that says why not."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import bench
from bench import provenance, records
from bench.data.specs import IMAGES, specifications
from bench.repeat import changes, differences, taken_over
from bench.training.environment import environment

pytestmark = pytest.mark.usefixtures("fake_data")

Shell = Callable[..., tuple[int, str]]
SMALL = ["workload.val_size=1000", "trainer.max_epochs=2", "trainer.enable_progress_bar=false"]
SAME = "the same to the last bit"
CODE: dict[str, Any] = {
    "python": "3.11.7", "optimizer-bench": "0.1.0", "torch": "2.13.0", "source": "a" * 16,
    "git_commit": "c" * 40, "git_dirty": False,
}  # fmt: skip


@pytest.fixture(autouse=True)
def code(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same while these tests run, whatever is edited meanwhile."""
    monkeypatch.setattr(provenance, "code", lambda: dict(CODE))


@pytest.fixture
def made(shell: Shell, tmp_path: Path) -> Callable[..., Path]:
    """Makes a run; its directory."""

    def make(*arguments: str) -> Path:
        status, output = shell("study=first", *SMALL, *arguments)
        assert status == 0, output
        (path,) = tmp_path.glob("runs/first/*/*/*/record.json")
        return path.parent

    return make


Made = Callable[..., Path]


def alter(directory: Path, **changed: Any) -> None:
    """Puts other values into a record; None takes a field out, in ``environment``, too."""
    path = directory / "record.json"
    content = json.loads(path.read_text())
    for key, value in changed.items():
        if isinstance(value, dict):
            both = content[key] | value
            content[key] = {name: v for name, v in both.items() if v is not None}
        else:
            content[key] = value
    path.write_text(
        json.dumps({k: v for k, v in content.items() if v is not None or k == "reason"})
    )


def curves(directory: Path) -> list[list[str]]:
    lines = (directory / "metrics.csv").read_text().splitlines()
    seconds = lines[0].split(",").index("seconds")
    return [[v for n, v in enumerate(line.split(",")) if n != seconds] for line in lines]


@pytest.mark.parametrize(
    "arguments",
    [
        ["optimizer=momentum", "optimizer.lr=0.1", "schedule=cosine", "schedule.warmup_steps=5"],
        ["workload=mnist_logistic", "workload.batch_size=full", "optimizer=sgd", "seed=7"],
        ["optimizer._target_=torch.optim.NAdam", "optimizer.lr=2e-3", "+optimizer.betas=[0.8,0.9]"],
        ["optimizer=sgd", "optimizer.lr=1e20"],
        ["trainer.max_steps=53", "trainer.max_epochs=null", "workload.model.hidden_sizes=[16,8]"],
        ["workload.model.init=kaiming", "workload.model.dropout=0.2", "trainer.patience=1"],
    ],
    ids=" ".join,
)
def test_the_same_again(made: Made, shell: Shell, tmp_path: Path, arguments: list[str]) -> None:
    first = made(*arguments)
    status, output = shell("--repeat", str(first))
    assert status == 0, output
    assert SAME in output
    assert "differs" not in output
    (path,) = tmp_path.glob("runs/repeat/*/*/*/record.json")
    assert path.parent.relative_to(tmp_path / "runs/repeat") == first.relative_to(
        tmp_path / "runs/first"
    )
    then, now = records.read(first / "record.json"), records.read(path)
    assert (now.id, now.metrics, now.best, now.steps) == (
        then.id, then.metrics, then.best, then.steps,
    )  # fmt: skip
    assert curves(path.parent) == curves(first)
    assert now.overrides == [*then.overrides, "study=repeat"]
    assert now.search == {"sampler": "single", "prior": {}, "command": ["--repeat", str(first)]}


def test_what_it_may_be_given(made: Made, shell: Shell, tmp_path: Path) -> None:
    """The record alone or the directory, from anywhere; and where the repeat is to lie."""
    first = made()
    moved = tmp_path / "elsewhere"
    shutil.move(first, moved)
    shutil.copy(moved / "record.json", tmp_path / "kept.json")
    given = [moved, moved / "record.json", moved / ".hydra", tmp_path / "kept.json"]
    for number, run in enumerate(given):
        said = [f"study=again{number}", "runs_dir=other"]
        status, output = shell(said[0], "--repeat", str(run), said[1])
        assert status == 0, output
        assert SAME in output
        (path,) = tmp_path.glob(f"other/again{number}/*/*/*/record.json")
        assert records.read(path).overrides[-3:] == ["study=repeat", *said]
    assert not list(tmp_path.glob("runs/repeat"))


def test_an_unfinished_run_has_nothing_to_compare(made: Made, shell: Shell) -> None:
    first = made("seed=5")
    (first / "record.json").unlink()
    status, output = shell("--repeat", str(first))
    assert status == 0
    assert "no record to compare with" in output
    assert "seed=5" in output


def test_only_where_it_lies_can_be_said(made: Made, shell: Shell, tmp_path: Path) -> None:
    first = made()
    for said in ("seed=1", "optimizer=sgd", "experiment=quickstart", "+optimizer.x=1", "~seed"):
        status, output = shell("--repeat", str(first), said, "--anyway")
        assert status != 0
        assert len(output.strip().splitlines()) == 1
        assert said in output
        assert "study" in output
    assert not (tmp_path / "runs/repeat").exists()


def test_a_repeat_is_not_taken_from_what_is_there(made: Made, shell: Shell) -> None:
    first = made()
    assert shell("--repeat", str(first))[0] == 0
    for study in ("repeat", "first"):
        status, output = shell("--repeat", str(first), f"study={study}")
        assert status != 0
        assert "holds a run already" in output
        assert f"runs/{study}/" in output


# What the record says of code and data, and what the message must.
OTHERS: list[Any] = [
    ({"torch": "2.12.0"}, ["torch 2.12.0, now 2.13.0"]),
    pytest.param(
        {"torch": "2.12.0", "python": "3.12.1"},
        ["torch 2.12.0", "python 3.12.1, now 3.11.7"],
        marks=pytest.mark.slow,
    ),
    ({"optimizer-bench": "0.0.9"}, ["optimizer-bench 0.0.9, now 0.1.0"]),
    ({"source": "b" * 16}, ["source bbbbbbbbbbbbbbbb", "source aaaaaaaaaaaaaaaa"]),
    pytest.param(
        {"source": None, "git_commit": "d" * 40},
        ["commit dddddddddd, now commit cccccccccc"],
        marks=pytest.mark.slow,
    ),
    ({"source": None, "git_dirty": True}, ["commit cccccccccc with changes, now commit"]),
    ({"data": "0" * 16}, ["data 0000000000000000, now"]),
]


@pytest.mark.parametrize(("recorded", "said"), OTHERS, ids=lambda value: str(value)[:40])
def test_other_code_or_data_are_refused(
    made: Made, shell: Shell, tmp_path: Path, recorded: dict[str, Any], said: list[str]
) -> None:
    first = made()
    alter(first, environment=recorded)
    status, output = shell("--repeat", str(first))
    assert status != 0
    assert len(output.strip().splitlines()) == 1
    for part in [*said, "--anyway"]:
        assert part in output
    assert not (tmp_path / "runs/repeat").exists()
    status, output = shell("--repeat", str(first), "--anyway")
    assert status == 0
    assert SAME in output
    for part in said:
        assert part in output


def test_records_from_before_are_repeated_as_far_as_they_tell(made: Made, shell: Shell) -> None:
    first = made("seed=2")
    told = {"source": None, "data": None, "optimizer-bench": None}
    alter(first, overrides=None, environment=told)
    assert records.read(first / "record.json").overrides == []
    status, output = shell("--repeat", str(first))
    assert status == 0, output
    assert SAME in output


def test_keys_that_came_since(made: Made, shell: Shell) -> None:
    """Such a record is of other code: one key is known to have had no effect, another is not."""
    first = made()
    content = json.loads((first / "record.json").read_text())
    del content["config"]["trainer"]["patience"], content["config"]["diagnostics"]
    (first / "record.json").write_text(json.dumps(content))
    status, output = shell("--repeat", str(first))
    assert status != 0
    assert "diagnostics=False (new since)" in output
    assert "patience" not in output
    status, output = shell("--repeat", str(first), "--anyway")
    assert status == 0
    assert SAME in output
    assert "differs: diagnostics=False (new since)" in output


def test_by_how_much_results_differ(made: Made, shell: Shell) -> None:
    first = made()
    accuracy = records.read(first / "record.json").metrics["val/accuracy"]
    assert accuracy is not None
    alter(first, metrics={"val/accuracy": accuracy - 0.25}, timing={"runs_together": 6})
    table = (first / "metrics.csv").read_text().splitlines()
    last = table[-1].split(",")
    table[-1] = ",".join("9.5" if name == "test/loss" else value for name, value in
                         zip(table[0].split(","), last, strict=True))  # fmt: skip
    (first / "metrics.csv").write_text("\n".join(table) + "\n")
    status, output = shell("--repeat", str(first))
    assert status == 0
    assert f"not {SAME}" in output
    row = next(line for line in output.splitlines() if "val/accuracy " in line and "+" in line)
    assert "+0.25" in row
    assert str(accuracy) in row
    assert "differ from step 80 on" in output
    assert "a stack of 6" in output


@pytest.fixture
def threads() -> Iterator[None]:
    yield
    torch.set_num_threads(1)


def test_as_many_threads_as_then(made: Made, shell: Shell, tmp_path: Path, threads: None) -> None:
    first = made()
    alter(first, environment={"threads": 2, "device": "a faster one"})
    status, output = shell("--repeat", str(first))
    assert status == 0
    (path,) = tmp_path.glob("runs/repeat/*/*/*/record.json")
    assert records.read(path).environment["threads"] == 2
    assert "differs: device a faster one, now " in output


def test_what_cannot_be_repeated(made: Made, shell: Shell, tmp_path: Path) -> None:
    first = made()
    record = (first / "record.json").read_text()

    def said_of(run: Path) -> str:
        status, output = shell("--repeat", str(run))
        assert status != 0
        assert len(output.strip().splitlines()) == 1, output
        assert not (tmp_path / "runs/repeat").exists()
        return output

    assert "no such file" in said_of(tmp_path / "nothing")
    assert "the directory of a run" in said_of(tmp_path / "runs/first")
    alter(first, status="failed", reason="the disk is on fire")
    assert "the disk is on fire" in said_of(first)
    alter(first, status="completed", config={"optimizer": 3})
    assert "no configuration of a run" in said_of(first)
    (first / "record.json").write_text(record[:100])
    assert "not a complete JSON file" in said_of(first)
    (first / "record.json").unlink()
    for content in ("[", "3", "optimizer: {name: adam}"):
        (first / ".hydra/config.yaml").write_text(content)
        assert "config" in said_of(first)


HERE = f"commit {'c' * 10} (source {'a' * 16})"
DIFFERENCES: list[tuple[Mapping[str, Any], list[str]]] = [
    ({}, []),
    (CODE, []),
    ({"git_commit": "d" * 40, "git_dirty": True, "source": "a" * 16}, []),  # the same source
    ({"git_commit": None, "git_dirty": None}, []),  # tells nothing
    ({"git_commit": "c" * 40, "git_dirty": False}, []),
    ({"git_commit": "c" * 40, "git_dirty": True}, [f"commit {'c' * 10} with changes, now {HERE}"]),
    ({"git_commit": "d" * 40, "source": "b" * 16}, [
        f"commit {'d' * 10} (source {'b' * 16}), now {HERE}"
    ]),
    ({"torch": None}, ["torch None, now 2.13.0"]),
]  # fmt: skip


@pytest.mark.parametrize(("then", "said"), DIFFERENCES)
def test_differences(then: Mapping[str, Any], said: list[str]) -> None:
    assert differences(then, CODE) == said


def test_a_class_of_their_own_is_code(
    made: Made, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "opt_of_mine.py"
    file.write_text("import torch\nclass Mine(torch.optim.Adam):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    first = made("optimizer._target_=opt_of_mine.Mine", "optimizer.lr=0.01")
    environment = records.read(first / "record.json").environment
    assert list(environment["classes"]) == ["opt_of_mine.Mine"]
    file.write_text(file.read_text() + "# edited\n")
    status, output = shell("--repeat", str(first))
    assert status != 0
    assert f"opt_of_mine.Mine {environment['classes']['opt_of_mine.Mine']}, now " in output
    status, output = shell("--repeat", str(first), "--anyway")
    assert SAME in output


def test_where_it_lay_is_not_taken_over() -> None:
    config = {
        "study": "s", "runs_dir": "/home/a", "data_dir": "/b", "seed": 3,
        "trainer": {"enable_progress_bar": False, "threads": None}, "optimizer": {"study": 1},
    }  # fmt: skip
    kept = {"seed": 3, "trainer": {"threads": None}, "optimizer": {"study": 1}}
    assert taken_over(config) == kept
    assert changes(config, kept) == []
    assert changes(config, kept | {"seed": 4}) == ["seed=4 (was 3)"]


def test_the_environment_tells_code_and_data(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    record = records.read(made() / "record.json")
    assert record.environment["data"] == specifications()["mnist"].checksum
    monkeypatch.undo()
    about = environment(torch.device("cpu"))
    assert about["optimizer-bench"] == bench.__version__
    assert about["torch"] == torch.__version__
    image = "bench.workloads.ImageClassifier"
    workloads = [{"_target_": image, "dataset": name} for name in IMAGES]
    workloads += [{"_target_": f"bench.workloads.{n}"} for n in ("TextModel", "LinearRegression")]
    found = {provenance.inputs({"workload": workload})["data"] for workload in workloads}
    assert found == {known.checksum for known in specifications().values()}


def test_an_installed_copy_within_a_repository_is_of_no_commit(tmp_path: Path) -> None:
    """An environment lies within a project as often as not; its commits are not ours."""
    package = tmp_path / "env" / "bench"
    package.mkdir(parents=True)
    for name in ("__init__.py", "provenance.py"):
        shutil.copy(Path(bench.__file__).parent / name, package / name)
    for command in ("init -q", "-c user.name=x -c user.email=x commit -qm x --allow-empty"):
        subprocess.run(["git", "-C", str(tmp_path), *command.split()], check=True)

    def code() -> dict[str, Any]:
        script = "import json; from bench.provenance import code; print(json.dumps(code()))"
        command = [sys.executable, "-c", script]
        return json.loads(subprocess.check_output(command, cwd=package.parent, text=True))

    before = code()
    assert (before["git_commit"], before["git_dirty"]) == (None, None)
    subprocess.run(["git", "-C", str(tmp_path), "add", "."], check=True)
    tracked = code()
    assert tracked["git_commit"] is not None
    assert tracked["git_dirty"] is True
    assert tracked["source"] == before["source"]
    (package / "__init__.py").write_text('__version__ = "9"\n')
    assert code()["source"] != before["source"]
