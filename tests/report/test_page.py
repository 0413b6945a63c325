"""The page in a real browser: it fits, it sorts, it filters, and its console stays silent."""

import json
import re
import shutil
import subprocess

import pytest

from bench import study as studies
from bench.report import write
from tests.report.synthetic import write_study

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome")

WIDTHS = (1280, 390)
PAPER = 703  # pixels between the margins
TRIALS = 5 * 2 * 11

# Each with the query that pandas would have, and what is said of it.
FILTERS = {
    "optimizer = adam or momentum": ("optimizer == 'adam'", "No trial has 'momentum'.", False),
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
    tables: [...page.querySelectorAll(".scroll")].map((table) => table.scrollWidth - table.clientWidth),
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
  const panel = page.querySelector("[data-views]");
  panel.querySelectorAll(".switch button")[1].click();
  note.views = [...panel.querySelectorAll(".view")].map((view) => !view.hidden);
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


def test_words_and_comparisons_filter(visit, report):
    note = visit["notes"]["390"]
    trials = report.contents.trials
    wanted = trials[
        (trials["optimizer"] == "adam") & (trials["lr"] >= 0.001) & (trials["diverged"] == 0)
    ]
    assert note["words"]["count"] == f"{len(wanted)} of {TRIALS} trials"
    assert {row[0] for row in note["words"]["rows"]} == {"adam"}
    assert note["none"] == {"rows": [], "count": f"0 of {TRIALS} trials"}
    assert len(note["all"]["rows"]) == 50


def test_a_figure_shows_the_axis_that_was_chosen(visit):
    assert visit["notes"]["390"]["views"] == [False, True, False]
