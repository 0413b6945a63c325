"""The benchmark's arithmetic, and the page it writes; what it measures is not tested here."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.errors import BenchError
from bench.study import read
from bench.throughput import __main__ as command
from bench.throughput import clock, commands, costs, measure, scale, write
from bench.throughput.contenders import JAX, LOOP, OURS, WITHOUT_JAX
from bench.throughput.measure import Ratio
from tests.report.synthetic import write_run


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time goes on by a second whenever it is asked for."""
    seconds: Iterator[float] = iter(map(float, range(1000)))
    monkeypatch.setattr(clock, "now", lambda: next(seconds))


def test_step_time_leaves_out_warm_up_and_validation(ticks: None) -> None:
    own = clock.Clock()  # at 0
    own.stepped(clock.WARM_UP)  # at 1
    own.stepped(clock.WARM_UP + 4)
    own.validation_starts()  # at 2
    own.validation_ends()  # at 3
    own.trained(clock.WARM_UP + 4)  # at 4
    timing = own.stop()  # at 5
    assert (timing.step, timing.validation, timing.run) == (0.5, 1.0, 5.0)
    assert timing.epoch(10) == 6.0


def test_ratio_is_taken_turn_by_turn() -> None:
    assert Ratio.of([1.0, 4.0, 9.0], [1.0, 2.0, 3.0]) == Ratio(2.0, 1.0, 3.0)


def test_turns_go_there_and_back() -> None:
    assert list(measure.there_and_back("abc", 3)) == ["abc", "cba", "abc"]


def test_a_study_of_many_runs_is_written_as_they_would_have_left_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = write_run(tmp_path, workload="mnist_logistic")
    (original / ".hydra").mkdir()
    for name in ("config", "hydra", "overrides"):
        (original / ".hydra" / f"{name}.yaml").write_text("[]")
    (original / "events.out.tfevents.1.x").touch()
    monkeypatch.chdir(tmp_path)
    jobs, _, _ = scale.planned(200)
    assert len({job.directory for job in jobs}) == 200
    some = jobs[::9]
    scale.write(some, original)
    runs = read(Path("runs/scale")).runs
    assert list(map(str, sorted(job.directory for job in some))) == sorted(
        f"runs/scale/{name}" for name in runs["directory"]
    )
    assert all(job.finished() for job in some)
    assert set(runs["status"]) == {"completed", "diverged"}


def test_a_failed_command_shows_what_it_said() -> None:
    with pytest.raises(BenchError, match="no such thing"):
        commands.python("-c", "raise SystemExit('no such thing')")


def test_page_has_every_section(tmp_path: Path) -> None:
    contender = {"step_seconds": 0.001, "compile_seconds": 3.5}
    run = {
        "workload": "mnist_mlp",
        "conventional": "conventional",
        "epoch_over_loop": Ratio(0.9, 0.8, 1.0),
        "epoch_over_conventional": Ratio(0.1, 0.1, 0.1),
        "run_over_loop": Ratio(1.0, 0.9, 1.1),
        "contenders": dict.fromkeys((OURS, LOOP, JAX, "conventional"), contender),
        "peers": {
            JAX: {"epoch": Ratio(0.7, 0.6, 0.8), "run_with_compilation": Ratio(0.2, 0.1, 0.3)}
        },
    }
    slower = run | {"workload": "cifar10_cnn"}
    rates = {"rate": 800.0, "start_up_seconds": 2.0, "peak_bytes": 2**30}
    over = dict.fromkeys(
        ("over_loop", "over_loop_with_start_up", "over_conventional", "over_jax_with_start_up"),
        Ratio(2.0, 1.9, 2.1),
    )
    jax = {"rate": 900.0, "together": 16, "compile_seconds": 4.0, "peak_bytes": 2**30}
    results: dict[str, Any] = {
        "machine": {"device": "one"},
        "runs": [run, slower],
        "sweeps": [
            {
                "workload": "mnist_mlp",
                "runs": 64,
                "steps": 430,
                "jax": jax,
                "launchers": {"auto": rates | over},
            },
            {
                "workload": "cifar10_cnn",
                "runs": 64,
                "steps": 9,
                "launchers": {"basic": rates | over, "auto": rates | over},
            },
        ],
        "stacks": [],
        "costs": [],
        "busy": [
            {
                "workload": "mnist_mlp",
                "runs": {OURS: Ratio(1.5, 1.4, 1.6), LOOP: Ratio(9.0, 8.0, 11.0)},
                "sweep": Ratio(1.7, 1.7, 1.7),
            }
        ],
    }
    write.write(results, tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert "| mnist_mlp | 0.9 (0.8–1) |" in page  # noqa: RUF001 - a range
    assert "| mnist_mlp | 64 | 430 | auto | 800 | 2 (1.9–2.1) |" in page  # noqa: RUF001
    assert "| mnist_mlp | JAX | 0.7 (0.6–0.8) | 0.2 (0.1–0.3) | 1,000 | 3.5 |" in page  # noqa: RUF001
    assert "| mnist_mlp | auto | 2 (1.9–2.1) | 900 | 16 | 4.0 | 1.00 GiB |" in page  # noqa: RUF001
    assert "| mnist_mlp | 1.5 (1.4–1.6) | 9 (8–11) | 1.7 (1.7–1.7) |" in page  # noqa: RUF001
    assert write.read(tmp_path) == results
    assert {"runs.svg", "sweeps.svg", "throughput.json"} < {p.name for p in tmp_path.iterdir()}


def test_sections_that_are_not_measured_keep_what_they_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*arguments: str) -> None:
        monkeypatch.setattr("sys.argv", ["benchmark", "--out", str(tmp_path), *arguments])
        command.main()

    row = {"workload": "mnist_mlp", "counts": []}
    monkeypatch.setitem(command.SECTIONS, "stacks", (lambda *_, **__: row, 1))
    monkeypatch.setitem(command.SECTIONS, "busy", (lambda *_, **__: None, 1))
    monkeypatch.setattr(command, "has_jax", lambda device: False)
    said("--sections", "stacks", "--workloads", "mnist_mlp")
    assert capsys.readouterr().err.startswith(WITHOUT_JAX)
    monkeypatch.setitem(
        command.SECTIONS,
        "busy",
        (lambda *_, **__: {"workload": "mnist_mlp", "runs": {}, "sweep": Ratio(1, 1, 1)}, 1),
    )
    said("--sections", "busy", "--workloads", "mnist_mlp")
    assert write.read(tmp_path)["stacks"] == [row]
    monkeypatch.setattr(command, "machine", lambda device: {"device": "another"})
    with pytest.raises(SystemExit, match="another machine"):
        said("--sections", "busy", "--workloads", "mnist_mlp")


def test_a_stack_counts_once() -> None:
    def record(id: str, stack: str | None, seconds: float) -> Any:
        return SimpleNamespace(id=id, stack=stack, timing={"train_seconds": seconds})

    made = [record("a", "s", 5.0), record("b", "s", 5.0), record("c", None, 2.0)]
    assert sum(costs.training_seconds(made)) == 7.0
