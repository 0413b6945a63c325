"use strict";

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

// The table of trials: sorted by any column, filtered by words and comparisons, a page at a time.
const explorer = document.getElementById("explorer");

if (explorer) {
  const ROWS = 50;
  const { columns, rows } = JSON.parse(document.getElementById("trial-rows").textContent);
  const head = explorer.querySelector("thead");
  const body = explorer.querySelector("tbody");
  const input = explorer.querySelector("input");
  const output = explorer.querySelector("output");
  const pager = explorer.querySelector(".pager");
  const words = rows.map((row) => row.map((cell) => cell ?? "").join(" ").toLowerCase());
  let order = { column: columns.findIndex((column) => column.first), descending: true };
  let kept = [];
  let page = 0;

  const COMPARE = {
    "<": (a, b) => a < b, "<=": (a, b) => a <= b, "=": (a, b) => a === b,
    ">": (a, b) => a > b, ">=": (a, b) => a >= b,
  };

  function condition(term) {
    const parts = term.match(/^([^<>=]+)(<=|>=|<|>|=)(.+)$/);
    if (parts) {
      const column = columns.findIndex(({ title, name }) =>
        title.toLowerCase() === parts[1] || name.toLowerCase() === parts[1]);
      const value = Number(parts[3]);
      if (column >= 0 && columns[column].numeric && !Number.isNaN(value)) {
        return (row) => row[column] !== null && COMPARE[parts[2]](row[column], value);
      }
      if (column >= 0 && parts[2] === "=") {
        return (row) => String(row[column] ?? "").toLowerCase() === parts[3];
      }
    }
    return (row, i) => words[i].includes(term);
  }

  function cell(value, column) {
    const td = document.createElement("td");
    if (column.numeric) td.className = "number";
    if (value === null) {
      td.textContent = "\u2013";
    } else if (column.optimizer) {
      const key = document.createElement("span");
      key.className = "key";
      key.style.setProperty("--mark", `var(${column.optimizer[value] ?? "--muted"})`);
      key.textContent = value;
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
      const tr = document.createElement("tr");
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
    const terms = input.value.toLowerCase().split(/\s+/).filter(Boolean).map(condition);
    kept = rows.map((_, i) => i).filter((i) => terms.every((term) => term(rows[i], i)));
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
    const th = document.createElement("th");
    th.scope = "col";
    if (column.numeric) th.className = "number";
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = column.title;
    button.addEventListener("click", () => {
      const again = order.column === j;
      order = { column: j, descending: again ? !order.descending : Boolean(column.first) };
      page = 0;
      update();
    });
    th.append(button);
    return th;
  });
  const row = document.createElement("tr");
  row.append(...titles);
  head.append(row);
  input.addEventListener("input", () => { page = 0; update(); });
  pager.addEventListener("click", (event) => {
    const step = Number(event.target.dataset.step);
    if (step) { page += step; show(); }
  });
  update();
}
