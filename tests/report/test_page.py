"""The page in a real browser: it fits, it sorts, it filters, and its console stays silent."""

import json
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from bench import records
from bench import study as studies
from bench.report import glossary, page, text, write
from bench.report.contents import Contents
from bench.report.sections import convergence
from tests.report import synthetic
from tests.report.synthetic import write_study

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome")

WIDTHS = (1280, 390)
PAPER = 703  # pixels between the margins
TRIALS = 5 * 2 * 11

# Each filter with what pandas calls it, and what is said of it.
FILTERS = {
    "adam lr>=0.001 diverged=0": ("optimizer == 'adam' and lr >= 0.001 and diverged == 0", ""),
    "optimizer = adam or sgd": ("optimizer in ('adam', 'sgd')", ""),
    "OPTIMIZER=Adam and init = zeros or xavier": (
        "optimizer == 'adam' and init in ('zeros', 'xavier')",
        "",
    ),
    "lr < 0.01": ("lr < 0.01", ""),
    "lr<.01,init!=zeros": ("lr < 0.01 and init != 'zeros'", ""),
    "learning rate \u2264 1e-2 adam": ("lr <= 0.01 and optimizer == 'adam'", ""),
    "adam learning rate > 0.5": ("optimizer == 'adam' and lr > 0.5", ""),
    "lr < 0.001 or lr > 0.1 and sgd": ("(lr < 0.001 or lr > 0.1) and optimizer == 'sgd'", ""),
    "kaiming or zeros": ("init in ('kaiming', 'zeros')", ""),
    '"zeros"': ("init == 'zeros'", ""),
    "foo < 3": ("lr > 0", "'foo < 3' is left out: there is no column 'foo'."),
    "adam foo < 3": ("optimizer == 'adam'", "'foo < 3' is left out: there is no column 'foo'."),
    "lr <": ("lr > 0", "'lr <' is left out: it compares with nothing."),
    "lr < and adam": ("optimizer == 'adam'", "'lr <' is left out: it compares with nothing."),
    "lr = fast": ("lr > 0", "'lr = fast' is left out: 'fast' is no number."),
    "< 3": ("lr > 0", "'< 3' is left out: there is no column ''."),
    "init > 3": (
        "lr > 0",
        "'init > 3' is left out: initialisation is a word, which is only = or !=.",
    ),
    "optimizer = adm": ("lr < 0", "No trial has 'adm'."),
    "adm": ("lr < 0", "No trial has 'adm'."),
    "or": ("lr > 0", ""),
}

# Opens the page at each width in a frame, uses it as a reader would, and notes what it saw.
VISITOR = """<!doctype html>
<body style="margin: 0"><pre id="seen">nothing</pre>
<script>
const seen = {};
const text = (nodes) => [...nodes].map((node) => node.textContent);
const FILTERS = FILTER_FORMS;

// How much of each optimizer can be seen: its parts of figures, its rows, and how faint they are.
function series(page) {
  const seen = {};
  for (const chip of page.querySelectorAll(".chip")) {
    const parts = [...page.querySelectorAll(`main .series-${chip.dataset.place}`)];
    const shown = parts.filter((part) => getComputedStyle(part).display !== "none");
    const faint = new Set(shown.map((part) => getComputedStyle(part).opacity));
    seen[chip.querySelector(".key").textContent] = [shown.length, [...faint]];
  }
  return seen;
}

// What is told where each figure's first point is: by the pointer, then by the keyboard.
function hover(page) {
  const tip = page.getElementById("tip");
  return [...page.querySelectorAll(".view:not([hidden])")].map((view) => {
    const { points } = JSON.parse(view.dataset.points);
    const svg = view.querySelector("svg");
    const { left, top, width } = svg.getBoundingClientRect();
    const scale = width / svg.viewBox.baseVal.width;
    const [, x, y] = points[0];
    const place = { clientX: left + x * scale + 2, clientY: top + y * scale + 2 };
    svg.dispatchEvent(new PointerEvent("pointermove", place));
    const told = [tip.hidden, ...text(tip.children)];
    svg.dispatchEvent(new PointerEvent("pointerleave"));
    const gone = tip.hidden;
    svg.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
    svg.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowDown" }));
    return { told, gone, keyboard: !tip.hidden && tip.textContent };
  });
}

function explain(page) {
  const term = page.querySelector("th .term");
  term.click();
  return [term.textContent, page.getElementById("tip").textContent];
}

async function open(width) {
  const frame = document.createElement("iframe");
  frame.style.cssText = `border: 0; height: 900px; width: ${width}px`;
  frame.src = "PAGE";
  document.body.append(frame);
  await new Promise((done) => frame.addEventListener("load", done));
  return frame;
}

// The page as it is printed on A4 held upright: its rules for print hold, those for screens do not.
async function print() {
  const frame = await open(PAPER);
  const page = frame.contentDocument;
  for (const sheet of page.styleSheets) {
    for (const rule of sheet.cssRules) {
      if (rule.media) rule.media.mediaText = rule.media.mediaText === "print" ? "all" : "not all";
    }
  }
  frame.contentWindow.dispatchEvent(new Event("beforeprint"));
  const isSeen = (node) => node.getClientRects().length > 0;
  seen.print = {
    content: page.documentElement.scrollWidth,
    tables: [...page.querySelectorAll(".scroll")].map((table) =>
      table.scrollWidth - table.clientWidth),
    headings: [...page.querySelectorAll("th")].every(isSeen),
    widest: Math.max(...[...page.querySelectorAll("th, td")].map((cell) =>
      cell.getBoundingClientRect().right)),
    narrow: [...page.querySelectorAll("th, td")].filter((cell) =>
      cell.scrollWidth > cell.clientWidth + 1).map((cell) => cell.textContent),
    views: [...page.querySelectorAll(".view")].every(isSeen),
    folded: page.querySelectorAll("details:not([open])").length,
    rows: page.querySelectorAll(".explorer tbody tr").length,
    buttons: [...page.querySelectorAll(".switch, .pager button, .files, input")].some(isSeen),
  };
}

async function visit(width) {
  const frame = await open(width);
  const page = frame.contentDocument;
  const explorer = page.getElementById("explorer");
  const rows = () => [...explorer.querySelectorAll("tbody tr")].map((row) => text(row.cells));
  const heads = [...explorer.querySelectorAll("thead button")];
  const head = (title) => heads.find((button) => button.textContent === title);
  const state = () => ({ rows: rows(), count: explorer.querySelector("output").textContent });
  const filter = (words) => {
    const input = explorer.querySelector("input");
    input.value = words;
    input.dispatchEvent(new Event("input"));
    return state();
  };
  const click = (node) => { node.click(); return state(); };
  const note = {
    inner: frame.contentWindow.innerWidth,
    content: page.documentElement.scrollWidth,
    background: frame.contentWindow.getComputedStyle(page.body).backgroundColor,
    heads: text(heads),
    first: state(),
    next: click(explorer.querySelector("[data-step='1']")),
    ascending: click(head("learning rate")),
    descending: click(head("learning rate")),
    words: filter("adam lr>=0.001 diverged=0"),
    none: filter("no such thing"),
    filters: Object.fromEntries(FILTERS.map((words) => {
      const { rows, count } = filter(words);
      const complaint = explorer.querySelector(".complaint");
      return [words, [Number(count.split(" ")[0]), complaint.hidden ? "" : complaint.textContent]];
    })),
    all: filter(""),
  };
  note.series = series(page);
  const chip = (name) => [...page.querySelectorAll(".chip")]
    .find((chip) => chip.querySelector(".key").textContent === name);
  chip("adam").querySelector("[data-hide]").click();
  note.hidden = { ...series(page), count: state().count };
  page.querySelector(".legend .all").click();
  note.best = page.querySelector(".table td .key").textContent;
  page.querySelector(".table td .key").click();
  note.lifted = series(page);
  page.querySelector(".table td .key").click();
  note.restored = series(page);
  note.told = hover(page);
  note.cut = [...page.querySelectorAll(".view:not([hidden]) svg text")].filter((words) => {
    const [own, all] = [words, words.ownerSVGElement].map((node) => node.getBoundingClientRect());
    return own.left < all.left - 1 || own.right > all.right + 1 || own.top < all.top - 1
      || own.bottom > all.bottom + 1;
  }).map((words) => words.textContent);
  note.term = explain(page);
  const panels = [...page.querySelectorAll("[data-views]")];
  panels[1].querySelectorAll(".switch button")[1].click();
  note.views = panels.map((panel) =>
    [...panel.querySelectorAll(".view")].map((view) => !view.hidden));
  note.figures = [...page.querySelectorAll(".view:not([hidden]) svg")].map((drawing) => {
    const { width, height } = drawing.getBoundingClientRect();
    return [width, height];
  });
  note.smallest = Math.min(...[...page.querySelectorAll(".view:not([hidden]) svg text")]
    .filter((words) => words.textContent.trim())
    .map((words) => words.getBoundingClientRect())
    .filter(({ width, height }) => width > height)  // the upright ones
    .map(({ height }) => height));
  seen[width] = note;
}
(async () => {
  for (const width of [WIDTHS]) await visit(width);
  await print();
  document.getElementById("seen").textContent = JSON.stringify(seen);
})().catch((error) => console.error(error));
</script>
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "seen"
    write_study(
        directory,
        optimizers=("adam", "sgd"),
        lrs=tuple(10 ** (-4 + i / 3) for i in range(11)),
        settings=[{"init": name} for name in ("default", "kaiming", "xavier", "normal", "zeros")],
        seeds=(0, 1),
    )
    return write(studies.read(directory))


@pytest.fixture(scope="module", params=["light", "dark"])
def visit(request, report, tmp_path_factory):
    """What the visitor saw, by width, and what the console said."""
    folder = tmp_path_factory.mktemp("visitor")
    html = VISITOR.replace("PAGE", report.page.resolve().as_uri())
    html = html.replace("FILTER_FORMS", json.dumps(list(FILTERS))).replace("PAPER", str(PAPER))
    (folder / "visitor.html").write_text(html.replace("WIDTHS", ", ".join(map(str, WIDTHS))))
    done = subprocess.run(
        [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
            *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
            *("--disable-sync", "--allow-file-access-from-files", "--enable-logging=stderr"),
            *("--virtual-time-budget=20000", f"--user-data-dir={folder / 'profile'}"),
            f"--blink-settings=preferredColorScheme={int(request.param == 'light')}",
            *("--dump-dom", (folder / "visitor.html").as_uri()),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    seen = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, flags=re.DOTALL)
    assert seen is not None
    assert seen[1] != "nothing", console
    notes = json.loads(seen[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    return {"scheme": request.param, "console": console, "notes": notes}


@pytest.mark.slow
def test_the_console_stays_silent(visit):
    assert visit["console"] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_overflows_and_every_figure_can_be_read(visit, width):
    note = visit["notes"][str(width)]
    assert note["inner"] == width
    assert note["content"] <= width
    assert all(280 < figure < width and height > 150 for figure, height in note["figures"])
    assert note["smallest"] >= 8


def test_it_follows_the_readers_colour_scheme(visit):
    background = [int(part) for part in re.findall(r"\d+", visit["notes"]["1280"]["background"])]
    assert (sum(background) > 600) == (visit["scheme"] == "light")


def test_the_best_trial_comes_first_and_pages_turn(visit):
    note = visit["notes"]["1280"]
    place = note["heads"].index("validation %")
    first = [float(row[place]) for row in note["first"]["rows"]]
    assert note["first"]["count"] == f"{TRIALS} of {TRIALS} trials"
    assert len(first) == 50
    assert first == sorted(first, reverse=True)
    assert float(note["next"]["rows"][0][place]) <= first[-1]


def test_a_heading_sorts_both_ways(visit):
    note = visit["notes"]["1280"]
    place = note["heads"].index("learning rate")
    up, down = (
        [float(row[place]) for row in note[order]["rows"]] for order in ("ascending", "descending")
    )
    assert up == sorted(up)
    assert down == sorted(down, reverse=True)
    assert up[0] < down[0]


@pytest.mark.parametrize(("words", "wanted"), FILTERS.items(), ids=FILTERS.keys())
def test_words_and_comparisons_filter(visit, report, words, wanted):
    query, complaint = wanted
    count, said = visit["notes"]["390"]["filters"][words]
    assert said == complaint
    assert count == len(report.contents.trials.query(query))


def test_a_filter_that_nothing_passes_shows_nothing(visit):
    note = visit["notes"]["390"]
    assert {row[0] for row in note["words"]["rows"]} == {"adam"}
    assert note["none"] == {"rows": [], "count": f"0 of {TRIALS} trials"}
    assert len(note["all"]["rows"]) == 50


def test_a_figure_shows_the_axis_that_was_chosen(visit):
    front, *_ = visit["notes"]["390"]["views"]
    assert front == [False, True, False]


@pytest.mark.parametrize("width", [*map(str, WIDTHS)])
def test_an_optimizer_is_hidden_and_lifted_everywhere(visit, width):
    note = visit["notes"][width]
    assert note["series"].keys() == {"adam", "sgd"}
    assert all(parts > 30 and faint == ["1"] for parts, faint in note["series"].values())
    assert note["hidden"]["adam"] == [0, []]
    assert note["hidden"]["sgd"][0] > 30
    assert note["hidden"]["count"] == f"{TRIALS // 2} of {TRIALS} trials"
    best, other = note["best"], ({"adam", "sgd"} - {note["best"]}).pop()
    assert note["lifted"][best][1] == ["1"]
    assert "0.13" in note["lifted"][other][1]
    assert note["restored"] == note["series"]


@pytest.mark.parametrize("width", [*map(str, WIDTHS)])
def test_every_figure_tells_its_values(visit, report, width):
    told = visit["notes"][width]["told"]
    assert len(told) == len(visit["notes"][width]["figures"])
    for figure in told:
        hidden, *words = figure["told"]
        assert not hidden
        assert words[0] in ("adam", "sgd") or words[0].startswith("learning rate: ")
        assert any(re.match(r"[^:]+: \d", line) for line in words[1:])
        assert figure["gone"]
        assert figure["keyboard"]
    (said,) = [
        figure["told"][1:4]
        for figure in told
        if re.match("learning rate", figure["told"][2]) and "accuracy" in figure["told"][3]
    ]
    response, name = report.contents.response, said[0]
    first = response[response["optimizer"] == name].sort_values("lr").iloc[0]
    values = [f"{100 * first[name]:.4g}" for name in ("score", "low", "high")]
    assert said[1:] == [
        f"learning rate: {first['lr']:.4g}",
        "validation accuracy (%): {} ({} to {})".format(*values),
    ]


@pytest.mark.parametrize("width", [*map(str, WIDTHS)])
def test_no_word_of_a_figure_is_cut(visit, width):
    assert visit["notes"][width]["cut"] == []


def test_a_word_is_explained_where_it_stands(visit):
    term, meaning = visit["notes"]["1280"]["term"]
    assert meaning == glossary.TERMS[term][1]


def test_paper_loses_nothing(visit):
    note = visit["notes"]["print"]
    assert note["content"] <= PAPER
    assert note["widest"] <= PAPER
    assert set(note["tables"]) == {0}
    assert note["narrow"] == []
    assert note["headings"]
    assert note["views"]
    assert note["folded"] == 0
    assert note["rows"] == 50
    assert not note["buttons"]


@pytest.mark.parametrize("kind", ["svg", "pdf", "png", "csv"])
def test_every_figure_is_there_to_be_taken(report, kind):
    html = report.page.read_text()
    names = re.findall(rf'<a href="([^"]+)\.{kind}">{kind.upper()}</a> ', html)
    assert len(names) == html.count('<div class="view"')
    assert all((report.page.parent / f"{name}.{kind}").stat().st_size for name in names)


def test_a_table_holds_exactly_what_is_drawn(report):
    drawn = pd.read_csv(report.page.parent / "lr_sensitivity_mnist_mlp.csv")
    assert list(drawn) == ["optimizer", "x", "y", "low", "high", "diverged"]
    lines = drawn[drawn["y"].notna()]
    response = report.contents.response
    shown = response[response["share_diverged"] < 1].set_index(["optimizer", "lr"])
    found = lines.set_index(["optimizer", "x"]).loc[shown.index]
    assert len(lines) == len(shown)
    for column, name in (("y", "score"), ("low", "low"), ("high", "high")):
        np.testing.assert_allclose(found[column], 100 * shown[name])
    lost = response[response["share_diverged"] > 0]
    assert drawn["diverged"].notna().sum() == len(lost)


RANKED = pd.DataFrame(
    {
        "workload": ["b", "b", "b", "b", "a", "a"],
        "optimizer": list("uvwxyz"),
        "time": [3.0, float("nan"), float("inf"), 1.0, 5.0, 5.0],
    }
)


@pytest.mark.parametrize(("by", "order"), [("-time", "xuwvyz"), ("time", "wuxvyz"), ("", "uvwxyz")])
def test_rows_go_from_best_to_worst_within_a_workload(by, order):
    column = page.Column("optimizer", lambda row: row["optimizer"])
    table = page.table(RANKED, [column], title="", caption="", by=by)
    assert "".join(row[0].text for row in table.rows) == order


def test_the_summary_is_by_rank(report):
    best = report.contents.best.sort_values("score", ascending=False, kind="stable")
    html = report.page.read_text()
    rows = re.findall(r'<td class="optimizer"[^>]*><button[^>]*>(\w+)<', html)
    assert rows[:2] == best["optimizer"].tolist()


def test_a_term_is_marked_once_and_all_else_is_text():
    marker = glossary.Marker()
    marked = marker("validation <b> of 3 seeds, and validation")
    assert str(marked) == (
        '<a class="term" href="#term-validation" aria-describedby="term-validation">validation</a>'
        ' &lt;b&gt; of 3 <a class="term" href="#term-seed" aria-describedby="term-seed">seeds</a>'
        ", and validation"
    )
    assert [name for _, name, _ in marker.entries()] == ["validation", "seed"]


@pytest.mark.parametrize("name", glossary.TERMS)
def test_a_term_finds_itself(name):
    marker = glossary.Marker()
    marker({"p": "p, paired t"}.get(name, name))
    assert name in marker.found
    assert len({glossary.anchor(other) for other in glossary.TERMS}) == len(glossary.TERMS)


def test_where_some_seeds_reach_the_target_it_says_how_many(tmp_path, monkeypatch):
    monkeypatch.setattr(convergence, "AXES", convergence.AXES[:1])
    monkeypatch.setattr(Contents, "curve_metrics", synthetic.one_curve)
    write_study(tmp_path, optimizers=("adam", "sgd", "momentum"), lrs=(1e-3,), seeds=(0, 1, 2))
    for run in tmp_path.glob("*/*/*"):
        record = records.read(run / "record.json")
        reached = {"adam": 3, "momentum": 2, "sgd": 1}[record.optimizer] > record.seed
        seconds = 0.5 + record.seed if reached else None
        record.target |= {"step": 400 if reached else None, "seconds": seconds}
        records.write(record, run)
    html = write(studies.read(tmp_path)).page.read_text()
    words = re.sub(r"<(script|style|svg).*?</\1>", "", html, flags=re.DOTALL)
    cells = [html_of.replace(text.SPACE, " ") for html_of in re.findall(r"<td[^>]*>([^<]*)", words)]
    assert cells.count("1 of 3 seeds") == 4  # epochs in the summary; epochs, steps, seconds
    assert "1.5 s (at best 0.5 s; 2 of 3 seeds)" in cells
    assert not re.search(r"\b(nan|inf|never)\b", " ".join(cells))
