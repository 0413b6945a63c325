"""Flags and overrides in any order, a person's own configurations, and what is said of us."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest
from hydra.errors import HydraException

import bench
from bench import records
from bench.command_line import CONF, choose_custom, quoted, read
from bench.errors import BenchError
from bench.settings import help
from bench.sweeps.composition import parse
from tests.conftest import config_names

Shell = Callable[..., tuple[int, str]]
SMALL = [
    "workload.val_size=1000", "trainer.max_steps=3", "trainer.enable_progress_bar=false",
]  # fmt: skip

WORKLOAD = """
defaults: [/schema/workload/base@_here_, /schema/model/mlp@model, _self_]
name: {name}
dataset: mnist
model: {{hidden_sizes: [8]}}
target: 0.9
"""
OPTIMIZER = """
defaults: [/schema/optimizer/adam@_here_, _self_]
name: quick
lr: 0.02
"""
EXPERIMENT = """
# @package _global_
defaults: [override /workload: tiny, override /optimizer: quick]
study: own
hydra: {mode: MULTIRUN, sweeper: {params: {seed: "0,1"}}}
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A package of a person's own configurations in the place where they stand."""
    place = tmp_path / "my_conf"
    for name, content in {
        "workload/tiny": WORKLOAD.format(name="tiny"),
        "optimizer/quick": OPTIMIZER,
        "experiment/own": EXPERIMENT,
    }.items():
        path = place / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content.lstrip())
    (place / "__init__.py").touch()
    return place


def test_any_order() -> None:
    for words in permutations(["workload=mnist_logistic", "-m", "seed=0,1", "--package=trainer"]):
        said = read(words)
        assert said.multirun
        assert said.package == "trainer"
        assert said.overrides == [word for word in words if not word.startswith("-")]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (1, 0, 2, 3), (1, 2, 3, 0), (2, 3, 0, 1)])
def test_any_order_from_the_shell(shell: Shell, order: tuple[int, ...]) -> None:
    words = ["study=x", "seed=3", "--cfg", "job"]
    status, output = shell(*(words[place] for place in order))
    assert status == 0
    assert "study: x\nseed: 3\n" in output


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("--nope", ["--nope", "--help"]),
        ("--cfg everything", ["--cfg", "everything", "job"]),
        ("-m --cfg job", ["--multirun", "--cfg"]),
        ("--resolve", ["--resolve", "--cfg"]),
        ("--anyway", ["--anyway", "--repeat"]),
        ("-m --repeat runs/x seed=0,1", ["--repeat", "--multirun"]),
        ("--experimental-rerun=x.pickle", ["--experimental-rerun", "--repeat"]),
        ("-sc", ["--shell-completion", "install"]),
        ("-sc install=ksh", ["--shell-completion", "ksh", "zsh"]),
        ("--config-path=/tmp", ["--config-path", "--config-dir", "--repeat"]),
        ("--config-dir=nowhere", ["--config-dir=nowhere", "no such directory"]),
        ("hydra.searchpath=[file://nowhere]", ["hydra.searchpath", "nowhere", "no such directory"]),
        ("hydra.searchpath=[pkg://no.where]", ["no.where", "no such package"]),
        ("hydra.searchpath=[ftp://x]", ["ftp://x", "pkg://"]),
        ("hydra.searchpath=nowhere", ["hydra.searchpath=nowhere", "list"]),
        ("hydra.searchpath=[3]", ["hydra.searchpath=[3]", "list"]),
    ],
)
def test_wrong_flags(shell: Shell, tmp_path: Path, typed: str, said: list[str]) -> None:
    status, output = shell(*typed.split(" "))
    assert status != 0
    assert len(output.strip().splitlines()) == 1, output
    for part in said:
        assert part in output
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_understood_is_an_error_of_hydra() -> None:
    with pytest.raises(HydraException):
        read(["hydra.searchpath=[file://"])
    with pytest.raises(BenchError):
        read(["--nope"])


def test_any_optimizer_by_its_path() -> None:
    assert choose_custom(["a=1", "optimizer._target_=x.Y"]) == [
        "a=1",
        "optimizer=custom",
        "optimizer._target_=x.Y",
    ]
    assert choose_custom(["optimizer=adam", "optimizer._target_=x.Y"]) == [
        "optimizer=adam",
        "optimizer._target_=x.Y",
    ]


@pytest.mark.parametrize("text", ["/a/b", "/a b/c", "/it's", "/a,b", "/[x]", "/ä/{b}", "file:///a"])
def test_quoted_text_is_read_back(text: str) -> None:
    (override,) = parse(f"hydra.searchpath=[{quoted(text)}]")
    assert override.value() == [text]


def test_version_is_ours_and_in_one_line(shell: Shell) -> None:
    status, output = shell("--version")
    assert status == 0
    (line,) = output.strip().splitlines()
    assert line.startswith(f"optimizer-bench {bench.__version__} (Python 3.")
    assert re.search(r"torch \d+\.\d+", line)


@pytest.mark.parametrize("flag", ["--version", "--help"])
def test_nothing_heavy_is_imported_for(flag: str) -> None:
    code = (
        f"import sys; sys.argv[1:] = ['{flag}']\nfrom bench.__main__ import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "sys.exit(bool({'torch', 'pandas', 'matplotlib', 'pytorch_lightning'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_help_names_our_flags(shell: Shell) -> None:
    status, output = shell("--help")
    assert status == 0
    for flag in ("--repeat", "--anyway", "--version", "--config-dir", "--multirun", "searchpath"):
        assert flag in output
    assert "cifar10_cnn" in output


def test_help_says_what_there_is_and_nothing_of_our_insides(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _, output = shell("--help")
    assert "schema/" not in output
    assert "bench.experiments" not in output
    assert max(map(len, output.splitlines())) <= 80
    said = " ".join(output.split())
    assert "to each optimizer? 399 runs, about 6 minutes" in said
    assert "hydra/sweeper grid, halving, optuna, random ==" in said
    for example in re.findall(r"^  python -m bench (.*)", output, re.MULTILINE):
        first_of_each = [word.partition(",")[0] for word in example.split() if word != "-m"]
        assert shell(*first_of_each, "--cfg", "job")[0] == 0


@pytest.mark.parametrize("name", config_names("experiment"))
def test_every_experiment_says_what_it_asks_and_costs(name: str) -> None:
    said = help.about((CONF / "experiment" / f"{name}.yaml").read_text())
    what, _, cost = said.rpartition("? ")
    assert 10 < len(what) < 120
    assert re.fullmatch(r"[\d,]+ runs, about (an?|\d+) \w+", cost)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# @package _global_\n# What (it) is. More.\nstudy: a", "What is"),
        (
            "# About 1/(1 - m), and\n# so on: 3,000 runs.\n",
            "About 1/(1 - m), and so on: 3,000 runs",
        ),
        ("# One. 1 run, about half an hour", "One: 1 run, about half an hour"),
        (
            "# Which is best? All of them: 2 runs, about 3 hours",
            "Which is best? 2 runs, about 3 hours",
        ),
        ("# Which?", "Which?"),
        ("study: a\n# later", ""),
    ],
)
def test_what_is_said_of_an_experiment(text: str, said: str) -> None:
    assert help.about(text) == said


def test_dollars_and_own_experiments_in_the_help(shell: Shell, own: Path) -> None:
    path = own / "experiment/own.yaml"
    path.write_text("# Costs $PATH and ${seed}. 2 runs\n" + path.read_text())
    status, output = shell("--help", "--config-dir=my_conf")
    assert status == 0
    assert re.search(r"own +Costs \$PATH and \$\{seed\}: 2 runs", output)


def test_a_run_says_what_it_is_before_anything_heavy_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.argv[1:] = ['optimizer.lr=0.1', 'seed=3']\n"
        "from bench.__main__ import main; main()"
    )
    made = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    said = "mnist_mlp, adam, lr 0.1, 5 epochs (2,150 steps), seed 3 -> runs/default/mnist_mlp/adam/"
    assert made.stdout.startswith(said)
    assert "torch" in made.stderr
    assert not (tmp_path / "runs").exists()


PLACES = ["--config-dir=my_conf", "hydra.searchpath=[file://my_conf]", "hydra.searchpath=[my_conf]"]
IN_HELP = [PLACES[0], *(pytest.param(place, marks=pytest.mark.slow) for place in PLACES[1:])]


@pytest.mark.parametrize("place", [*PLACES, "hydra.searchpath=[pkg://my_conf]"])
def test_own_configurations(
    shell: Shell,
    tmp_path: Path,
    own: Path,
    fake_data: None,
    place: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    status, output = shell("workload=tiny", *SMALL, place, "optimizer=quick")
    assert status == 0, output
    (path,) = tmp_path.glob("runs/default/tiny/quick/*/record.json")
    assert path.parent.name == "lr=0.02,max_steps=3,val_size=1000,seed=0"  # of their own defaults
    where = "pkg://my_conf" if "pkg" in place else f"file://{own}"
    record = records.read(path)
    assert record.overrides == [
        f"hydra.searchpath=[{where}]", "workload=tiny", *SMALL, "optimizer=quick",
    ]  # fmt: skip
    monkeypatch.chdir(own.parent / "runs")
    status, output = shell(*record.overrides)  # from another place, what was recorded is enough
    assert status == 0, output


def test_several_places(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether said at once or one by one, each counts, once."""
    monkeypatch.chdir(own.parent)
    (own.parent / "more, too").mkdir()
    first, second = f"file://{own}", f"file://{own.parent}/more, too"
    for said in (
        ["-cd", "my_conf", "a=1", "--config-dir", "more, too"],
        ["hydra.searchpath=[my_conf,'more, too']", "a=1", "-cd=my_conf"],
    ):
        read_back = read(said)
        assert read_back.places == [first, second]
        assert read_back.overrides == ["a=1"]


@pytest.mark.parametrize("place", IN_HELP)
def test_names_that_ours_have_are_refused(shell: Shell, own: Path, place: str) -> None:
    """Hydra would take ours, and say nothing."""
    (own / "workload/mnist_mlp.yaml").write_text(WORKLOAD.format(name="mnist_mlp"))
    status, output = shell(place, "workload=mnist_mlp", "--cfg", "job")
    assert status != 0
    assert len(output.strip().splitlines()) == 1
    assert "workload/mnist_mlp.yaml" in output


def test_a_reader_may_have_seen_enough(tmp_path: Path) -> None:
    """``bench --help | head``"""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", "--help"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 1


@pytest.mark.parametrize("place", IN_HELP)
def test_help_shows_own_configurations(shell: Shell, own: Path, place: str) -> None:
    _, output = shell(place, "--help")
    assert re.search(r"workload +abs_sum, [\w, \n]*mnist_mlp,[\w, \n]* tiny,\s+wilson\n", output)


def in_a_process(place: Path, *arguments: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    made = subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=place, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr


@pytest.mark.slow
def test_own_configurations_in_a_sweep(own: Path, real_data: Callable[[str], object]) -> None:
    """The experiment is theirs, too; and ours go by theirs' side."""
    real_data("mnist")
    place = own.parent
    in_a_process(place, "experiment=own", *SMALL, "--config-dir", "my_conf")
    made = [records.read(path) for path in sorted(place.glob("runs/own/tiny/quick/*/record.json"))]
    assert [record.seed for record in made] == [0, 1]
    assert {record.overrides[0] for record in made} == {f"hydra.searchpath=[file://{own}]"}


@pytest.mark.slow
def test_own_configurations_on_several_devices(
    own: Path, real_data: Callable[[str], object]
) -> None:
    """Each run of such a sweep is a command of its own, and so is each of its processes."""
    real_data("mnist")
    ddp = ["trainer.devices=2", "trainer.accelerator=cpu"]
    in_a_process(own.parent, "-m", "seed=0", "workload=tiny", *SMALL, *ddp, "-cd", "my_conf")
    (path,) = own.parent.glob("runs/*/tiny/*/*/record.json")
    assert records.read(path).status == "completed"
