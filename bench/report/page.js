"use strict";

const make = (tag, text = "", name = "") => {
  const node = document.createElement(tag);
  node.textContent = text;
  node.className = name;
  return node;
};

// A panel with several views shows one at a time; all panels follow the choice of axis.
const panels = [...document.querySelectorAll("[data-views]")];

function choose(label) {
  for (const panel of panels) {
    const buttons = [...panel.querySelectorAll(".switch button")];
    const chosen = buttons.findIndex((button) => button.textContent === label);
    if (chosen < 0) continue;
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(i === chosen)));
    panel.querySelectorAll(".view").forEach((view, i) => { view.hidden = i !== chosen; });
  }
}

for (const panel of panels) {
  panel.querySelector(".switch").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const top = button.getBoundingClientRect().top;
    choose(button.textContent);
    window.scrollBy({ top: button.getBoundingClientRect().top - top, behavior: "instant" });
  });
}

// An optimizer is lifted above the others, or hidden, in all figures and tables at once: what is
// drawn and written of it has the class of its number.
const hidden = new Set();
let lifted = null;
const rules = document.head.appendChild(make("style"));
const isShown = (place) => !hidden.has(place);
const isLifted = (place) => lifted === null || place === null || place === lifted;

function restyle() {
  rules.textContent = [...hidden].map((place) => `main .series-${place} { display: none; }`).join(" ")
    + (lifted === null ? "" : ` main [class*="series-"]:not(.series-${lifted}) { opacity: .13; }`);
  for (const chip of document.querySelectorAll(".chip")) {
    const place = Number(chip.dataset.place);
    chip.classList.toggle("hidden", hidden.has(place));
    chip.classList.toggle("lifted", place === lifted);
    chip.classList.toggle("faded", !isLifted(place));
    chip.querySelector("[data-lift]").setAttribute("aria-pressed", String(place === lifted));
    const button = chip.querySelector("[data-hide]");
    button.setAttribute("aria-pressed", String(hidden.has(place)));
    button.textContent = hidden.has(place) ? "+" : "\u00d7";
    button.title = hidden.has(place) ? "Show" : "Hide";
  }
  const all = document.querySelector(".legend .all");
  if (all) all.hidden = !hidden.size && lifted === null;
  document.dispatchEvent(new Event("restyled"));
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-lift], [data-hide], .legend .all");
  if (!button) return;
  if (button.dataset.lift) {
    const place = Number(button.dataset.lift);
    lifted = lifted === place ? null : place;
    hidden.delete(place);
  } else if (button.dataset.hide) {
    const place = Number(button.dataset.hide);
    if (!hidden.delete(place)) hidden.add(place);
    if (lifted === place) lifted = null;
  } else {
    hidden.clear();
    lifted = null;
  }
  restyle();
});

// What stands under the pointer, or where the arrow keys went, is told in words.
const tip = document.getElementById("tip");

function tell(nodes, x, y) {
  tip.replaceChildren(...nodes);
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const right = document.documentElement.clientWidth - width - 8;
  tip.style.left = `${Math.max(8, Math.min(x + 14, right))}px`;
  tip.style.top = `${y > height + 16 ? y - height - 12 : y + 18}px`;
}

function hush() {
  tip.hidden = true;
  document.querySelector(".at")?.remove();
}

const form = (value) => (typeof value === "number" ? String(Number(value.toPrecision(4))) : value);

for (const view of document.querySelectorAll("[data-points]")) {
  const svg = view.querySelector("svg");
  const { names, points } = JSON.parse(view.dataset.points);
  const low = names.findIndex(([key]) => key === "low");
  const main = names.findLastIndex(([key]) => key === "y" || key === "value");
  const near = 40; // units of the drawing, within which a point is meant
  let current = null;
  if (!points.length) continue;
  svg.tabIndex = 0;

  const words = ([place, , , ...values]) => [
    ...(place === null ? [] : [make("b", document.querySelector(`[data-lift="${place}"]`)?.textContent)]),
    ...names.flatMap(([key, name], i) => {
      if (values[i] === null || key === "low" || key === "high") return [];
      const range = i === main && low >= 0 && values[low] !== null && values[low + 1] !== null
        ? ` (${form(values[low])} to ${form(values[low + 1])})` : "";
      return [make("p", `${name}: ${form(values[i])}${range}`)];
    }),
  ];
  const visible = () => points.filter(([place]) => isShown(place) && isLifted(place));
  const scale = () => svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;

  function show(point) {
    current = point;
    hush();
    const ring = document.createElementNS(svg.namespaceURI, "circle");
    const [, cx, cy] = point;
    for (const [key, value] of Object.entries({ class: "at", cx, cy, r: 5.5 })) ring.setAttribute(key, value);
    svg.append(ring);
    const together = visible().filter(([, x, y]) => Math.hypot(x - cx, y - cy) < 1.5).slice(0, 6);
    const { left, top } = svg.getBoundingClientRect();
    tell(together.flatMap(words), left + cx * scale(), top + cy * scale());
  }

  function point(event) {
    const { left, top } = svg.getBoundingClientRect();
    const [x, y] = [(event.clientX - left) / scale(), (event.clientY - top) / scale()];
    const distance = ([, px, py]) => Math.hypot(px - x, py - y);
    const nearest = visible().reduce((a, b) => (a && distance(a) <= distance(b) ? a : b), null);
    if (nearest && distance(nearest) < near) show(nearest);
    else hush();
  }

  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") hush(); });
  svg.addEventListener("blur", hush);
  svg.addEventListener("keydown", (event) => {
    const shown = visible();
    const at = shown.indexOf(current);
    const along = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const across = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") hush();
    if (!(along || across) || !shown.length) return;
    event.preventDefault();
    let next = shown[(at + (along ?? 0) + shown.length) % shown.length];
    if (across && at >= 0) { // the nearest of the series before or after
      const places = [...new Set(shown.map(([place]) => place))];
      const to = places[(places.indexOf(current[0]) + across + places.length) % places.length];
      const off = ([, x]) => Math.abs(x - current[1]);
      next = shown.filter(([place]) => place === to).reduce((a, b) => (off(a) <= off(b) ? a : b));
    }
    show(next ?? shown[0]);
  });
}

for (const term of document.querySelectorAll(".term")) {
  const meaning = document.getElementById(term.hash.slice(1)).textContent;
  const explain = () => {
    const { left, top, height } = term.getBoundingClientRect();
    tell([make("p", meaning)], left, top + height / 2);
  };
  term.addEventListener("pointerenter", explain);
  term.addEventListener("focus", explain);
  term.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") hush(); });
  term.addEventListener("blur", hush);
  term.addEventListener("click", (event) => { event.preventDefault(); explain(); });
}

document.addEventListener("scroll", hush, { passive: true });
document.addEventListener("pointerdown", (event) => {
  if (!event.target.closest("[data-points] svg, .term")) hush();
});

// Paper has no folds.
window.addEventListener("beforeprint", () => {
  hush();
  document.querySelectorAll("details:not([open])").forEach((details) => {
    details.open = true;
    window.addEventListener("afterprint", () => { details.open = false; }, { once: true });
  });
});

// A filter is made of words and comparisons, which must all hold; "or" joins what stands beside it,
// and a word after it takes over the comparison before: optimizer = adam or momentum, lr < 0.01.
const COMPARE = {
  "<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b,
  "=": (a, b) => a === b, "!=": (a, b) => a !== b,
};

// Gives the conditions, each on a row and its number, and a complaint for each term without meaning.
function understand(text, columns, holds) {
  const tokens = text.toLowerCase().replaceAll("\u2264", "<=").replaceAll("\u2265", ">=").replaceAll("==", "=")
    .match(/"[^"]*"?|[<>!]=|[<>=]|[^\s<>=!",]+/g) ?? [];
  const plain = (words) => words.map((word) => word.replaceAll('"', "")).join(" ");
  const isOperator = (token) => Object.hasOwn(COMPARE, token ?? "");
  const isJoin = (token) => token === "and" || token === "or";
  const columnOf = (said) => columns.findIndex(({ title, name }) =>
    [title, name, name.replaceAll("_", " ")].some((known) => known.toLowerCase() === said));
  const conditions = [];
  const complaints = [];
  let joined = false;
  let before = null; // the column and the operator of a comparison

  function add(term, condition) {
    if (typeof condition === "string") {
      complaints.push(`'${term}' is left out: ${condition}.`);
    } else if (joined && conditions.length) {
      const other = conditions.pop();
      conditions.push((...row) => other(...row) || condition(...row));
    } else {
      conditions.push(condition);
    }
    joined = false;
  }

  function comparison(column, operator, value) {
    const { numeric, title } = columns[column];
    if (value === undefined) return "it compares with nothing";
    if (numeric && (value === "" || Number.isNaN(Number(value)))) return `'${value}' is no number`;
    if (!numeric && !"!=".includes(operator)) return `${title} is a word, which is only = or !=`;
    if (!numeric) holds(value); // else it says so
    const [of, wanted] = numeric ? [Number, Number(value)] : [(cell) => String(cell).toLowerCase(), value];
    return (row) => row[column] !== null && COMPARE[operator](of(row[column]), wanted);
  }

  function addWord(token) {
    const word = plain([token]);
    if (!joined) before = null;
    add(word, before ? comparison(...before, word) : holds(word));
  }

  while (tokens.length) {
    const stop = tokens.findIndex((token) => isOperator(token) || isJoin(token));
    const words = tokens.splice(0, stop < 0 ? tokens.length : stop);
    if (isOperator(tokens[0])) {
      const named = words.findIndex((_, i) => columnOf(plain(words.slice(i))) >= 0);
      const first = named < 0 ? Math.max(words.length - 1, 0) : named;
      words.slice(0, first).forEach(addWord);
      const name = plain(words.slice(first));
      const operator = tokens.shift();
      const value = tokens.length && !isOperator(tokens[0]) && !isJoin(tokens[0]) ? plain([tokens.shift()]) : undefined;
      before = columnOf(name) < 0 ? null : [columnOf(name), operator];
      add([name, operator, value].join(" ").trim(),
        before ? comparison(...before, value) : `there is no column '${name}'`);
    } else {
      words.forEach(addWord);
    }
    while (isJoin(tokens[0])) joined = tokens.shift() === "or";
  }
  return { conditions, complaints };
}

// The table of trials: sorted by any column, filtered by words and comparisons, a page at a time.
const explorer = document.getElementById("explorer");

if (explorer) {
  const ROWS = 50;
  const { columns, rows } = JSON.parse(document.getElementById("trial-rows").textContent);
  const head = explorer.querySelector("thead");
  const body = explorer.querySelector("tbody");
  const input = explorer.querySelector("input");
  const output = explorer.querySelector("output");
  const complaint = explorer.querySelector(".complaint");
  const pager = explorer.querySelector(".pager");
  const words = rows.map((row) => row.map((cell) => cell ?? "").join(" ").toLowerCase());
  const optimizer = columns.findIndex(({ places }) => places);
  const placeOf = (row) => columns[optimizer].places[row[optimizer]];
  let order = { column: columns.findIndex((column) => column.first), descending: true };
  let kept = [];
  let page = 0;

  function cell(value, column) {
    const td = make("td", "", column.numeric ? "number" : "");
    if (value === null) {
      td.textContent = "\u2013";
    } else if (column.places) {
      const key = make("button", value, "key");
      key.type = "button";
      key.dataset.lift = column.places[value];
      key.style.setProperty("--mark", `var(--series-${column.places[value]})`);
      td.append(key);
    } else {
      td.textContent = column.digits === undefined ? String(value) : value.toFixed(column.digits);
    }
    return td;
  }

  function show() {
    const pages = Math.max(1, Math.ceil(kept.length / ROWS));
    page = Math.min(Math.max(page, 0), pages - 1);
    body.replaceChildren(...kept.slice(page * ROWS, (page + 1) * ROWS).map((i) => {
      const tr = make("tr", "", `series-${placeOf(rows[i])}`);
      tr.append(...columns.map((column, j) => cell(rows[i][j], column)));
      return tr;
    }));
    output.textContent = `${kept.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} trials`;
    pager.hidden = pages === 1;
    pager.querySelector("span").textContent = `page ${page + 1} of ${pages}`;
    pager.querySelector("[data-step='-1']").disabled = page === 0;
    pager.querySelector("[data-step='1']").disabled = page === pages - 1;
    [...head.querySelectorAll("th")].forEach((th, j) => {
      if (j !== order.column) th.removeAttribute("aria-sort");
      else th.setAttribute("aria-sort", order.descending ? "descending" : "ascending");
    });
  }

  function update() {
    const nowhere = [];
    const { conditions, complaints } = understand(input.value, columns, (word) => {
      if (!words.some((line) => line.includes(word))) nowhere.push(`No trial has '${word}'.`);
      return (_, i) => words[i].includes(word);
    });
    complaint.textContent = [...complaints, ...nowhere].join(" ");
    complaint.hidden = !complaint.textContent;
    kept = rows.map((_, i) => i).filter((i) =>
      isShown(placeOf(rows[i])) && conditions.every((condition) => condition(rows[i], i)));
    const { column, descending } = order;
    const sign = descending ? -1 : 1;
    kept.sort((a, b) => {
      const [x, y] = [rows[a][column], rows[b][column]];
      if (x === null || y === null) return (x === null) - (y === null); // missing: always last
      if (x === y) return a - b;
      return sign * (typeof x === "number" ? x - y : String(x).localeCompare(String(y)));
    });
    show();
  }

  const titles = columns.map((column, j) => {
    const th = make("th", "", column.numeric ? "number" : "");
    th.scope = "col";
    const button = make("button", column.title);
    button.type = "button";
    button.addEventListener("click", () => {
      const again = order.column === j;
      order = { column: j, descending: again ? !order.descending : Boolean(column.first) };
      page = 0;
      update();
    });
    th.append(button);
    return th;
  });
  const row = make("tr");
  row.append(...titles);
  head.append(row);
  input.addEventListener("input", () => { page = 0; update(); });
  document.addEventListener("restyled", update);
  pager.addEventListener("click", (event) => {
    const step = Number(event.target.dataset.step);
    if (step) { page += step; show(); }
  });
  update();
}
