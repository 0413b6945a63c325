"""What README.md and docs/ tell a person to type is typed, and the site is built of them.

Blocks of `sh` and `python` are run in the order of their page, on small made-up data, in a folder
that holds what a clone has in docs/own. Of a sweep all runs are planned, but of those of a workload
only one is made, once for all pages; the others get its curves. A report is read, and not written.
What cannot be run says why before its block: `<!-- not run: REASON -->`.
"""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hydra import initialize_config_dir

import bench
from bench import api, halving, maps, records, runs, second_order, taylor, theory
from bench import curvature as curvature_command
from bench import slices as slices_command
from bench.board import by_short_names
from bench.command_line import CONF
from bench.data import __main__ as data_command
from bench.data import specification
from bench.gradcheck import check
from bench.landscape import costs
from bench.records import Record
from bench.report import __main__ as report_command
from bench.settings.jobs import Job
from bench.study import Study
from bench.sweeps.sweep import Sweep
from optimizers import stubs
from optimizers.rules import RULES
from tests.data.fake_data import FAKES, fake_cache
from tests.test_wheel import ROOT

BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>.+?) -->\n)?```(?P<kind>sh|python)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
FIRST = ("README.md", "docs/start.md", "docs/running.md", "docs/optimizers/adam.md")
MOST_COPIED = 64  # runs of a sweep; of larger ones nobody reads them
Shell = Callable[..., tuple[int, str]]


def pages() -> Iterator[Any]:
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        if any(match["reason"] is None for match in BLOCK.finditer(path.read_text())):
            name = str(path.relative_to(ROOT))
            slow = [] if name in FIRST else [pytest.mark.slow]
            yield pytest.param(path, id=name, marks=slow)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        for name in FAKES:
            fake_cache(name, place / "optimizer-bench", patch)
        yield place


# Runs by workload, and by whose optimizer theirs is.
MADE: dict[tuple[str, str], tuple[Record, Path]] = {}


def carried_out(sweep: Sweep, missing: Sequence[Job]) -> None:
    """In place of `Sweep._make`."""
    for job in missing:
        like = job.config["workload"]["name"], job.config["optimizer"]["_target_"].split(".")[0]
        if like not in MADE:
            (record,) = runs.run([replace(job, until=None)])
            assert record.status == "completed", record.reason
            MADE[like] = record, job.directory.resolve()
        elif len(missing) <= MOST_COPIED:
            record = copied(*MADE[like], job)
        else:
            record, _ = MADE[like]
        sweep._add(job, record)


class UnderstoodError(Exception):
    pass


def begin_to_write(study: Study) -> None:
    """In place of `bench.report.write`, which other tests let write."""
    assert len(study.runs) > 1
    assert not study.problems
    raise UnderstoodError


def copied(record: Record, directory: Path, job: Job) -> Record:
    without = shutil.ignore_patterns("checkpoints", records.FILE_NAME)
    shutil.copytree(directory, job.directory, dirs_exist_ok=True, ignore=without)
    own = runs.fail(job, "")
    came = ("status", "reason", "steps", "epochs", "metrics", "metric", "units", "best", "target")
    own = replace(own, **{key: getattr(record, key) for key in (*came, "timing", "environment")})
    records.write(own, job.directory)
    return own


@pytest.fixture
def typed(
    shell: Shell,
    fake_data: None,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Callable[[str], None]:
    """Types a block in a folder of its page."""
    kernels = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "optimizer-bench"
    with_kernels = data / "optimizer-bench" / "kernels"
    if not with_kernels.exists():
        with_kernels.symlink_to(kernels / "kernels")
    monkeypatch.setenv("XDG_CACHE_HOME", str(data))
    monkeypatch.setattr(Sweep, "_make", carried_out)
    monkeypatch.setattr(report_command, "write", begin_to_write)
    monkeypatch.delitem(sys.modules, "houses", raising=False)
    own = shutil.ignore_patterns("__pycache__", "runs")
    shutil.copytree(ROOT / "docs/own", tmp_path / "docs/own", ignore=own)

    def bench_command(*arguments: str) -> None:
        status, said = shell(*arguments)
        assert status == 0, said

    def type_line(words: list[str]) -> None:
        match words:
            case ["python", "-m", "bench", *arguments] | ["bench", *arguments]:
                bench_command(*arguments)
            case ["python", "-m", "bench.report", *studies]:
                with pytest.raises(UnderstoodError):
                    report_command.main(studies)
            case ["python", "-m", "bench.data", *arguments]:
                for name in (names := [a for a in arguments if not a.startswith("-")]):
                    specification(name)
                rest = [a for a in arguments if a not in names]
                damaged = "--verify" in rest  # no made-up data have the true digests
                assert data_command.main(rest) == damaged
            case ["python", "-m", "bench.halving", *arguments]:
                assert halving.main(arguments) == 0
            case ["python", "-m", "bench.theory", study]:
                assert theory.main([study]) == 0
            case ["python", "-m", "bench.taylor", *arguments]:
                assert taylor.main([*arguments, "--examples", "4"]) == 0
            case ["python", "-m", "bench.second_order"]:
                assert {*second_order.SIZES} == {*costs.METHODS}  # it takes a minute
            case ["python", "-m", "bench.maps", *arguments]:
                assert maps.main([*arguments, "--grid", "4", "--steps", "3"]) == 0
            case ["python", "-m", "bench.gradcheck", *_]:
                with initialize_config_dir(str(CONF), version_base="1.3"):
                    assert check("linear_regression").passed  # all take a minute
            case ["python", "-m", "bench.curvature", *arguments]:
                given = curvature_command.parser().parse_args(arguments)
                assert all(curvature_command.runs_in(path) for path in given.directories)
            case ["python", "-m", "bench.slices", *arguments]:
                given = slices_command.parser().parse_args(arguments)
                for run in filter(None, (given.run, given.other)):
                    assert curvature_command.runs_in(run) == [run]
            case ["python", "-m", "optimizers.stubs"]:
                assert stubs.STUB.read_text() == stubs.text()
            case ["tensorboard", "--logdir", place]:
                study = Path("runs", Path(place).name)
                assert list(study.rglob("events.out.*"))
                assert Path(place) in (study, by_short_names(study))
            case ["cd", place]:
                os.chdir(place)
            case ["source", ".venv/bin/activate"]:
                assert ".venv" in (ROOT / "scripts/setup").read_text()
            case ["eval", "$(bench -sc install=bash)"]:
                bench_command("-sc", "install=bash")
            case [script, *_] if script.startswith("scripts/"):
                assert os.access(ROOT / script, os.X_OK)
            case _:
                pytest.fail(f"no check of {shlex.join(words)}")

    def type_block(text: str) -> None:
        monkeypatch.chdir(tmp_path)
        variables: dict[str, str] = {}
        for line in text.replace("\\\n", " ").splitlines():
            if said := re.fullmatch(r"(\w+)=\"(.*)\"", line):
                variables[said[1]] = said[2]
                continue
            for name, value in variables.items():
                line = line.replace(f"${name}", value)
            if words := shlex.split(line, comments=True):
                type_line(words)
        monkeypatch.chdir(tmp_path)

    return type_block


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", [*pages()])
def test_what_a_page_says_can_be_typed(
    page: Path, typed: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def swept(*overrides: str) -> Path:
        """In place of `bench.sweep`, whose process of its own would fetch the true data."""
        typed(shlex.join(["bench", "-m", *overrides]))
        with api.as_a_command():
            return api._study_of(overrides)

    monkeypatch.setattr(bench, "sweep", swept, raising=False)
    known: dict[str, Any] = {}
    for block in BLOCK.finditer(page.read_text()):
        if block["reason"] is not None:
            continue
        if block["kind"] == "sh":
            typed(block["text"])
        else:
            exec(compile(block["text"], str(page), "exec"), known)


def test_every_block_of_a_shell_is_a_command_or_says_why_not() -> None:
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        text = path.read_text()
        fences = re.findall(r"^```(\w*)", text, re.MULTILINE)
        assert set(fences) <= {"", "sh", "python", "py"}, path
        assert len(BLOCK.findall(text)) == fences.count("sh") + fences.count("python"), path


@pytest.fixture(scope="module")
def rule_pages() -> ModuleType:
    path = ROOT / "docs/tools/rule_pages.py"
    spec = importlib.util.spec_from_file_location("rule_pages", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_optimizers_pages_are_what_the_rules_are(rule_pages: ModuleType) -> None:
    """Otherwise: scripts/docs."""
    made = rule_pages.pages()
    assert {page.stem for page in made} == {"README", *RULES}
    for page, text in made.items():
        assert page.read_text() == text, f"{page.name} is not current: scripts/docs writes it"


@pytest.mark.parametrize("name", RULES)
def test_every_optimizer_has_its_path(name: str) -> None:
    figure = ROOT / "docs/optimizers/paths" / f"{name}.svg"
    assert 0 < figure.stat().st_size < 60_000, "docs/tools/rule_paths.py draws it"


def test_the_readme_leads_somewhere() -> None:
    """mkdocs checks the links of docs/; the README is no page of the site."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", (ROOT / "README.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings_handlers.python")
    made = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "WARNING" not in made.stderr
    page = (tmp_path / "site/optimizers/adam.html").read_text()
    assert "fresh2" in page
    assert "http" not in re.sub(r"<a [^>]*>", "", page).replace("http://www.w3.org", "")
