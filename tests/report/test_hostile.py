"""Whatever a record says is text, wherever the report puts it."""

import csv
import re
import subprocess
from html.parser import HTMLParser
from xml.etree import ElementTree

import markdown
import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bench import records, single
from bench import study as studies
from bench.board import by_short_names
from bench.fuzz import records as fuzzing
from bench.report import __main__ as command
from bench.report import style, table
from bench.report.contents import Contents, gather
from bench.report.sections import convergence
from tests.report import synthetic
from tests.report.synthetic import write_run
from tests.report.test_page import BROWSER

# Each breaks out of another context: text, attributes, scripts, SVG, formulas of figures and of
# spreadsheets, Markdown, terminals, templates, interpolations, paths. What runs marks the page.
OWNED = "document.documentElement.dataset.owned=1"
HOSTILE = (
    f'x" onload="{OWNED}" tabindex="0" onfocus="{OWNED}" autofocus="',
    f"x' onload='{OWNED}'",
    f"</script></style></svg></title><script>{OWNED}</script>",
    f"<img src=x onerror={OWNED}>",
    f"]]>--><svg onload={OWNED}>",
    "javascript:alert(1)",
    "../../../escaped",
    "/tmp/escaped",
    "$\\frac{1$ 5$",
    "[/] [bold][link=file:///x]y",
    "{{ 7 * 7 }}{% for %}",
    "${optimizer.lr}",
    "[x](javascript:alert(1)) ![y](https://example.org/z) `a` **b**",
    "=HYPERLINK(1)",
    "優化器 🙂 שלום",
    "long " * 39,
)
WORKLOADS = (HOSTILE[0], HOSTILE[2], HOSTILE[6], HOSTILE[8])


def draw_little(patch):
    patch.setattr(convergence, "AXES", convergence.AXES[:1])
    patch.setattr(Contents, "curve_metrics", synthetic.one_curve)
    patch.setattr(style, "PNG_DPI", 30)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A study in which every text field, and every key where keys are free, is one of them."""
    outer = tmp_path_factory.mktemp("outer")
    directory = outer / "study"
    for i, name in enumerate(HOSTILE[:6] + HOSTILE[8:]):
        for seed in (0, 1):
            run = write_run(directory, optimizer=f"o{i}", seed=seed, weight_decay=0.1)
            record = records.read(run / "record.json")
            record.study = record.schedule = record.optimizer = name
            record.workload = WORKLOADS[i % 4]
            record.hyperparameters[name.replace("/", "")] = float(i + seed)
            record.metrics[f"val/{name}"] = 1.0
            record.config["optimizer"] |= {"kind": name, name: [name], "word": name}
            record.config[name] = {name: name}
            record.config["workload"]["model"]["init"] = HOSTILE[-1 - i]
            record.environment = {"device": name, name: {name: [name]}}
            record.target["metric"] = name
            if seed == 1:
                record.status, record.reason = "failed", name
            records.write(record, run)
            (run / ".hydra").mkdir()
            (run / ".hydra" / "overrides.yaml").write_text(f"- {json_text(name)}\n")
    before = set(outer.rglob("*"))
    with pytest.MonkeyPatch.context() as patch:
        draw_little(patch)
        assert command.main([str(directory)]) == 0
    written = set(outer.rglob("*")) - before
    return directory / "report", written


def json_text(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def test_nothing_is_written_elsewhere(hostile):
    report, written = hostile
    assert written
    board = by_short_names(report.parent)
    places = {report, report.parent / table.FILE_NAME, board, board.parent}
    assert all(places & {path, *path.parents} for path in written)
    files = [path for path in written if path.parent == report and path.is_file()]
    assert all(re.fullmatch(r"[\w.-]{,160}", path.name) for path in files)
    assert all(path.name.isprintable() and len(path.name) <= 160 for path in written)


def test_the_page_and_its_figures_hold_no_script_of_anothers(hostile):
    assert fuzzing.check_page(hostile[0] / "index.html") == []


class Texts(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def handle_data(self, data):
        self.found.append(data.strip())


def test_names_are_shown_as_they_are(hostile):
    page = Texts()
    page.feed((hostile[0] / "index.html").read_text())
    for name in HOSTILE[:6] + HOSTILE[8:]:
        assert name.strip() in page.found
    shown = set()
    for drawing in hostile[0].glob("*.svg"):
        shown |= {text for element in ElementTree.parse(drawing).iter() for text in [element.text]}
    for name in HOSTILE[8:15]:
        assert name in shown or f"{name[:31]}…" in shown


def test_a_spreadsheet_computes_nothing(hostile):
    for written in hostile[0].glob("*.csv"):
        with open(written, newline="") as file:
            for row in csv.reader(file):
                assert not [cell for cell in row if re.match(r"[=@]|[+-](?![\d.])", cell)]


def test_tensorboard_shows_text(hostile):
    events = EventAccumulator(str(hostile[0] / "figures"), size_guidance={"tensors": 0}).Reload()
    (summary,) = events.Tensors("summary")
    words = summary.tensor_proto.string_val[0].decode()
    html = markdown.markdown(words, extensions=["tables", "fenced_code"])  # as TensorBoard does
    assert not re.search(r"<(?:a|img|script|svg|code)\b", html)
    page = Texts()
    page.feed(html)
    assert "[x](javascript:alert(1)) ![y](https://example.org/z) `a` **b**" in page.found


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome")
def test_a_browser_runs_nothing(hostile, tmp_path):
    done = subprocess.run(
        [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--virtual-time-budget=20000", f"--user-data-dir={tmp_path}"),
            *("--dump-dom", (hostile[0] / "index.html").as_uri()),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    (root,) = re.findall(r"<html[^>]*>", done.stdout)
    assert "data-owned" not in root
    assert "trials</output>" in done.stdout  # its own script ran


def test_two_figures_never_share_a_file(tmp_path):
    names = ("a b", "a/b", "a_b", "A_B")
    for name in names:
        run = write_run(tmp_path, workload=name.encode().hex())
        record = records.read(run / "record.json")
        record.workload = name
        records.write(record, run)
    with pytest.MonkeyPatch.context() as patch:
        draw_little(patch)
        command.main([str(tmp_path)])
    assert fuzzing.check_page(tmp_path / "report" / "index.html") == []
    drawn = [path for path in (tmp_path / "report").glob("*.svg") if "convergence" in path.stem]
    assert len({path.name.casefold() for path in drawn}) == len(names)
    titles = "".join(path.read_text() for path in drawn)
    assert all(f"{name}: validation accuracy" in titles for name in names)


OVERRIDES = {
    "- optimizer.weight_decay=${optimizer.lr}\n- seed=1\n": (
        "python -m bench 'optimizer.weight_decay=${optimizer.lr}' seed=1"
    ),
    "- a=${nope}\n- ${oc.env:HOME}\n": "python -m bench 'a=${nope}' '${oc.env:HOME}'",
    "- 'a=x y'\n": "python -m bench 'a=x y'",
}


@pytest.mark.parametrize(("noted", "shown"), OVERRIDES.items())
def test_overrides_are_shown_as_they_were_said(tmp_path, noted, shown):
    run = write_run(tmp_path)
    (run / ".hydra").mkdir()
    (run / ".hydra" / "overrides.yaml").write_text(noted)
    with pytest.MonkeyPatch.context() as patch:
        draw_little(patch)
        assert command.main([str(tmp_path)]) == 0
    page = Texts()
    page.feed((tmp_path / "report" / "index.html").read_text())
    assert shown in page.found


@pytest.mark.parametrize(
    "noted",
    ["text", "- 1\n", "- {a: b}\n", "- [", "- !!python/name:os.system\n", "- *x\n", "[" * 10_000],
)
def test_notes_of_anything_else_are_one_line(tmp_path, noted):
    run = write_run(tmp_path)
    (run / ".hydra").mkdir()
    (run / ".hydra" / "overrides.yaml").write_text(noted)
    contents = gather(studies.read(tmp_path))
    assert contents.overrides == []
    (problem,) = contents.problems
    assert "overrides.yaml: not a list of overrides" in problem
    assert problem.isprintable()


@pytest.mark.parametrize("name", HOSTILE[:-1])
def test_the_result_of_a_single_run_shows_names_as_they_are(tmp_path, name):
    record = records.read(write_run(tmp_path) / "record.json")
    record.reason = name
    record.metrics[f"val/{name}"] = 0.5
    console = Console(width=400)
    with console.capture() as printed:
        console.print(single.result(record), soft_wrap=True)
    assert f"completed ({name})" in printed.get()
    assert f"{name.replace('_', ' ')} 0.5" in printed.get()


@pytest.mark.slow
def test_a_few_damaged_records_break_nothing():
    assert fuzzing.run(8, seed=0) == []
