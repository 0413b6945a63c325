"""Damaged records, curves and notes of overrides: what does a report make of a study with them?

Every study has healthy runs and damaged ones. ``python -m bench.report`` must end in time and in
success, show every healthy run, say at most one line for each damaged file, leave nothing outside
its folder, and write pages and figures in which nothing that a record says is more than text.
"""

import csv
import json
import os
import random
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from bench import records
from bench.board import by_short_names
from bench.metrics import Description
from bench.report import page, table

TOGETHER = 20  # damaged runs in one study
PATIENCE = 120  # seconds for a report
OPTIMIZERS, LRS, SEEDS = ("adam", "sgd"), (1e-3, 1e-2, 1e-1), (0, 1)

HOSTILE = (
    '<script>alert("1")</script>',
    'x" onload="alert(1)',
    "x' onmouseover='alert(1)",
    "</script><script>alert(1)</script>",
    "</title><img src=x onerror=alert(1)>",
    "]]><svg onload=alert(1)>",
    "<!--",
    "javascript:alert(1)",
    "../../../escaped",
    "/tmp/escaped",
    "a/b\\c",
    "$\\frac{1$",
    "$x$ $",
    "[red]bold[/] [/] [link=file:///]",
    "{{ 7 * 7 }} {% raw %}",
    "${optimizer.lr} ${nope} ${oc.env:HOME}",
    "[x](javascript:alert(1)) | ![y](//z) `",
    "=HYPERLINK(1)",
    "\x1b]0;title\x07\x1b[31mred\x1b[2J",
    "line\nbreak\r\ttab\x00null\u2028",
    "\u202eright to left",
    "優化器 🙂 ﷽",
    "",
    " ",
    ".",
    "nan",
    "None",
    "0x10",
    "__proto__",
    "y" * 150,
    "long " * 50_000,
    "\ud800",
)
NUMBERS = (
    *(0, -1, 1, -0.0, 0.5, 1e-320, -1e-320, 1e39, -1e39, 1e99, -1e99, 1e101, 1e308, -1e308),
    *(2**31, 2**53, 2**53 + 1, 2**63, -(2**63), 10**30, 10**400, float("nan"), float("inf")),
)
SHAPES: tuple[Any, ...] = (
    *(None, True, False, [], {}, [None], [[[]]], [1, 2], {"a": {"b": []}}, ["x", 1, None]),
    *({"": 0}, {"lr": "fast"}, {"x": 1e308}, [float("inf")], list(range(100_000))),
)
# Names that the tables of a report use themselves.
NAMES = (
    *("seed", "trial", "score", "test", "status", "workload", "optimizer", "run", "runs", "low"),
    *("width", "time", "k", "index", "level_0", "val/f1", "target/step", "lr", "name"),
)
BOMB = "a: &a [x,x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
OVERRIDES = (
    "- optimizer.weight_decay=${optimizer.lr}\n",
    "- optimizer.lr=${nope}\n- ${oc.env:HOME}\n",
    "- !!python/object/apply:os.system ['touch escaped']\n",
    BOMB,
    f"- {'[' * 5000}",
    "- 1\n- {a: b}\n",
    "text",
    "",
    "- 'x\x1b[31m<script>alert(1)</script>'\n",
    "- *nowhere\n",
    '- "\\ud800"\n',
    "- x\n" * 50_000,
)
CURVES = (
    "",
    "step\n",
    "a,b\n1,2\n",
    "step,step,val/f1\n1,2,3\n",
    "step,epoch,seconds,val/f1\n1,2,3,4,5,6\n1\n",
    "step,epoch,seconds,val/f1\n-5,-1,-1,-1\n1e308,1e308,1e308,1e308\n",
    "step,epoch,seconds,val/loss\n1,1,1,1e99\n2,2,2,-1e99\n3,3,3,1e-320\n4,4,4,inf\n",
    "step,epoch,seconds,val/loss\n1,1,1,1e39\n2,2,2,1e39\n",
    "step,epoch,seconds,val/loss\nx,y,z,<script>\nnan,nan,nan,nan\n",
    "step,epoch,seconds,val/loss\n9007199254740992,1e-320,0,0\n0,0,0,0\n",
    'step,"epoch\n1,2\n',
    "step,epoch,val/loss\n\x00,\x00,\x00\n1,1,1\n",
    ",".join(f"c{i}" for i in range(200_000)),
    "step,epoch,seconds,run,val/f1\n1,1,1,1,0.5\n",
    "step;epoch\n1;2\n",
    "\n\n\n\n",
)

METRICS = (
    Description(name="f1", unit="fraction", higher_is_better=True, chance=0.1),
    Description(name="mae", unit="k$", higher_is_better=False, chance=None),
    Description(name="loss", unit="", higher_is_better=False, chance=2.3),
)
OWN_LINKS = ("#", "data:,", "data:image/png;base64,")  # the last is a heat map's colour scale

Damage = Callable[[random.Random, Path], None]


def run(count: int, seed: int) -> list[str]:
    """Reports on ``count`` damaged runs.

    Returns:
        A line for each fault, with what was damaged how; the same for the same seed.
    """
    faults = []
    for first in range(0, count, TOGETHER):
        faults += _search(seed, range(first, min(first + TOGETHER, count)))
    return faults


def _search(seed: int, numbers: Sequence[int]) -> list[str]:
    """The faults of the damaged runs of these numbers, each with as few of them as it takes."""
    faults = _faults(seed, numbers)
    if not faults or len(numbers) == 1:
        return faults
    middle = len(numbers) // 2
    return _search(seed, numbers[:middle]) + _search(seed, numbers[middle:]) or faults


def damage(rng: random.Random, run: Path) -> str:
    """Damages a healthy run's directory; says how."""
    chosen = rng.choices(DAMAGES, weights=[weight for _, weight in DAMAGES])[0][0]
    chosen(rng, run)
    return chosen.__name__


def write_run(
    directory: Path,
    *,
    optimizer: str,
    lr: float,
    seed: int,
    name: str,
    metric: Description = METRICS[0],
) -> Path:
    """A healthy run."""
    run = directory / "mnist_mlp" / optimizer / name
    (run / ".hydra").mkdir(parents=True)
    value = 0.9 + 0.01 * len(optimizer) - 0.1 * lr + 0.001 * seed
    record = records.Record(
        id=name,
        study=directory.name,
        workload="mnist_mlp",
        optimizer=optimizer,
        schedule="constant",
        seed=seed,
        hyperparameters={"lr": lr, "weight_decay": 0.01, "batch_size": 128},
        status="completed",
        steps=800,
        epochs=2.0,
        metrics={
            "train/loss": 0.1,
            "val/loss": 0.1,
            f"val/{metric['name']}": value,
            "test/loss": 0.1,
            f"test/{metric['name']}": value,
        },
        metric=metric,
        units={metric["name"]: metric["unit"], "loss": "nats"},
        best={f"val/{metric['name']}": value, "epoch": 2},
        target={"metric": f"val/{metric['name']}", "value": 0.9, "step": 400, "seconds": 0.5},
        timing={"train_seconds": 1.0, "total_seconds": 1.5, "runs_together": 1},
        config={
            "study": directory.name,
            "seed": seed,
            "workload": {
                "name": "mnist_mlp",
                "batch_size": 128,
                "model": {"hidden_sizes": [128, 128], "init": "default"},
            },
            "optimizer": {"name": optimizer, "lr": lr, "weight_decay": 0.01},
            "schedule": {"name": "constant"},
            "trainer": {"max_epochs": 2, "max_steps": -1, "accelerator": "cpu"},
        },
        search={
            "sampler": "grid",
            "prior": {"optimizer.lr": "1e-3,1e-2,1e-1"},
            "command": ["-m", f"optimizer={optimizer}", "optimizer.lr=1e-3,1e-2,1e-1"],
        },
        environment={"python": "3.11", "device": "cpu", "git": {"commit": "0123abc"}},
    )
    records.write(record, run)
    lines = ["step,epoch,seconds,lr,train/loss,val/loss,val/" + metric["name"]]
    lines += [f"{n},{n / 400},{n / 800},{lr},{9 / n},{8 / n},{value}" for n in (400, 800)]
    (run / records.FILE_NAME).with_name("metrics.csv").write_text("\n".join(lines) + "\n")
    (run / ".hydra" / "overrides.yaml").write_text(f"- optimizer={optimizer}\n")
    return run


# What can be done to a run ------------------------------------------------------------------------


def a_value(rng: random.Random, run: Path) -> None:
    """Some values, at any depth, become others."""
    content = _content(run)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        container, key = rng.choice(list(_places(content)))
        container[key] = _anything(rng)
    _put(run, content)


def a_text(rng: random.Random, run: Path) -> None:
    """Texts, and sometimes the names of values, are hostile."""
    content = _content(run)
    texts = [(c, key) for c, key in _places(content) if isinstance(c[key], str) and key != "status"]
    for container, key in rng.sample(texts, rng.choice((1, 3, len(texts)))):
        container[key] = rng.choice(HOSTILE)
    for group in ("hyperparameters", "metrics", "config", "environment", "timing"):
        if rng.random() < 0.3:
            name = rng.choice(HOSTILE) + ("/x" if group == "metrics" else "")
            content[group][name] = rng.choice((0.5, 2.0))
    if rng.random() < 0.3:
        content["status"], content["reason"] = "failed", rng.choice(HOSTILE)
    _put(run, content)


def a_name(rng: random.Random, run: Path) -> None:
    """A setting is called as something else is."""
    content = _content(run)
    name = rng.choice(NAMES)
    content["hyperparameters"][name] = rng.choice((0.5, 2, 1e-3))
    content["config"]["optimizer"][name] = rng.choice((0.5, "word", None, [1], 1e99))
    _put(run, content)


def a_number(rng: random.Random, run: Path) -> None:
    """Many numbers are extreme."""
    content = _content(run)
    for container, key in list(_places(content)):
        if isinstance(container[key], int | float) and key != "schema" and rng.random() < 0.3:
            container[key] = rng.choice(NUMBERS)
    _put(run, content)


def a_key(rng: random.Random, run: Path) -> None:
    """A key is gone, new, another, or there twice."""
    content = _content(run)
    container, key = rng.choice([(c, key) for c, key in _places(content) if isinstance(c, dict)])
    what = rng.randrange(4)
    if what == 0:
        del container[key]
    elif what == 1:
        container[rng.choice((*HOSTILE, *NAMES))] = _anything(rng)
    elif what == 2:
        container[rng.choice(NAMES)] = container.pop(key)
    text = json.dumps(content)
    if what == 3:
        quoted = json.dumps(key) + ":"
        text = text.replace(quoted, f"{quoted} {json.dumps(_anything(rng))}, {quoted}", 1)
    (run / records.FILE_NAME).write_text(text)


def many(rng: random.Random, run: Path) -> None:
    """More of something than anybody needs."""
    content = _content(run)
    number = rng.choice((200, 2000, 50_000))
    group = rng.choice(("hyperparameters", "metrics", "environment", "config", "timing"))
    slash = "/x" if group == "metrics" else ""
    content[group] |= {f"n{i}{slash}": rng.random() for i in range(number)}
    _put(run, content)


def the_bytes(rng: random.Random, run: Path) -> None:
    """The text of one of the files is cut, changed or in another encoding."""
    path = _file(rng, run)
    text = path.read_bytes()
    at = rng.randrange(len(text))
    path.write_bytes(
        rng.choice(
            (
                text[:at],
                text[:at] + rng.randbytes(3) + text[at + 3 :],
                text[:at] + b"\x00" + text[at:],
                text[:at] + b"\xff\xfe" + text[at:],
                text + text,
                rng.randbytes(1000),
                b"",
                text.decode().encode("utf-16"),
                b"\xef\xbb\xbf" + text,
                text.replace(b"0.9", b"NaN"),
                text.replace(b"0.9", b"1e999"),
                text.replace(b"0.", b"9" * 5000 + b"."),
                text.replace(b"\n", b"\r"),
                b"[" * 100_000,
                b'{"schema": ' * 100_000,
                b'{"schema": 1}',
                b"null",
            )
        )
    )


def the_kind(rng: random.Random, run: Path) -> None:
    """In the place of one of the files there is something else."""
    path = _file(rng, run)
    path.unlink()
    what = rng.randrange(9)
    if what == 0:
        os.mkfifo(path)
    elif what == 1:
        path.mkdir()
    elif what == 2:
        with open(path, "wb") as file:
            file.truncate(rng.choice((10_000_000, 1 << 40)))
    elif what < 8:
        path.symlink_to(
            ("/dev/zero", "/dev/random", path.name, "nowhere", "/proc/self/mem")[what - 3]
        )
    # else it is gone


def the_curve(rng: random.Random, run: Path) -> None:
    (run / "metrics.csv").write_text(rng.choice(CURVES))
    _make_best(run)


def the_overrides(rng: random.Random, run: Path) -> None:
    (run / ".hydra" / "overrides.yaml").write_text(rng.choice(OVERRIDES))
    _make_best(run)


def the_place(rng: random.Random, run: Path) -> None:
    """The directory has a name that cannot be printed."""
    names = (
        b"\xff\xfe",
        b"new\nline",
        b"\x1b[31m",
        b"<script>alert(1)",
        b"$x$",
        b"=1",
        b"'",
    )
    run.rename(os.fsdecode(os.fsencode(run) + rng.choice(names)))


DAMAGES: tuple[tuple[Damage, int], ...] = (
    *((a_value, 6), (a_text, 6), (a_number, 4), (a_name, 2), (a_key, 3), (many, 1)),
    *((the_bytes, 4), (the_kind, 3), (the_curve, 3), (the_overrides, 2), (the_place, 1)),
)


def _content(run: Path) -> dict[str, Any]:
    return json.loads((run / records.FILE_NAME).read_text())


def _put(run: Path, content: Any) -> None:
    (run / records.FILE_NAME).write_text(json.dumps(content))


def _make_best(run: Path) -> None:
    """So that its curve and its overrides are shown."""
    content = _content(run)
    better = 0.999 if content["metric"]["higher_is_better"] is True else 0.001
    content["metrics"][f"val/{content['metric']['name']}"] = better
    content["hyperparameters"]["lr"] = content["config"]["optimizer"]["lr"] = content["seed"] / 1e4
    _put(run, content)


def _file(rng: random.Random, run: Path) -> Path:
    names = (records.FILE_NAME, records.FILE_NAME, "metrics.csv", ".hydra/overrides.yaml")
    path = run / rng.choice(names)
    if path.name != records.FILE_NAME:
        _make_best(run)
    return path


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Every container, at any depth, with each of its keys."""
    keys = content if isinstance(content, dict) else range(len(content))
    for key in keys:
        yield content, key
        if isinstance(content[key], dict | list):
            yield from _places(content[key])


def _anything(rng: random.Random) -> Any:
    return rng.choice((*HOSTILE, *NUMBERS, *SHAPES))


# What must hold whatever was done -----------------------------------------------------------------


def _faults(seed: int, numbers: Sequence[int]) -> list[str]:
    """Reports on one study with the damaged runs of these numbers."""
    with tempfile.TemporaryDirectory() as parent:
        study = Path(parent, "outer", "study")
        metric = METRICS[numbers[0] // TOGETHER % len(METRICS)]
        healthy = [
            write_run(
                study,
                optimizer=optimizer,
                lr=lr,
                seed=s,
                name=f"{optimizer}-{lr:g}-{s}",
                metric=metric,
            )
            for optimizer in OPTIMIZERS
            for lr in LRS
            for s in SEEDS
        ]
        done = []
        for number in numbers:
            rng = random.Random(f"{seed} {number}")
            optimizer, lr = rng.choice(OPTIMIZERS), rng.choice(LRS)
            run = write_run(
                study,
                optimizer=optimizer,
                lr=lr,
                seed=2 + number,
                name=f"damaged-{number}",
                metric=metric,
            )
            done.append(f"{number} ({damage(rng, run)})")
        before = _outside(Path(parent), study)
        found = _report(study, damaged=len(done))
        if not found:
            found += _missing(study, healthy)
            found += check_page(study / "report" / page.FILE_NAME)
        if _outside(Path(parent), study) != before:
            found.append("something was written outside the report's folders")
    return [f"records {seed}: {', '.join(done)}: {line}" for line in found]


def _report(study: Path, *, damaged: int) -> list[str]:
    command = [sys.executable, "-m", "bench.report", str(study)]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return [f"{shlex.join(command[1:])} takes longer than {PATIENCE} s"]
    said, errors = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    lines = errors.splitlines()
    found = [f"says {line!r:.200}" for line in lines if not line.startswith("skipped: ")][-3:]
    if done.returncode:
        found.append(f"exit status {done.returncode}")
    if len(lines) > 2 * damaged:  # a record, or a curve and the overrides
        found.append(f"{len(lines)} lines for {damaged} damaged runs")
    if re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", said + errors):
        found.append("control characters reach the terminal")
    return found


def _missing(study: Path, healthy: list[Path]) -> list[str]:
    with open(study / "report" / "runs.csv", newline="", encoding="utf-8") as file:
        shown = {row["directory"] for row in csv.DictReader(file)}
    missing = {str(run.relative_to(study)) for run in healthy} - shown
    return [f"healthy runs are not in the report: {sorted(missing)}"] if missing else []


def _outside(parent: Path, study: Path) -> set[Path]:
    """What there is but for the report, all records as one table, and the short names that
    TensorBoard is shown."""
    names = by_short_names(study)
    own = {study / "report", study / table.FILE_NAME, names, names.parent}
    return {
        Path(where, name)
        for where, directories, files in os.walk(parent)
        if not own & {Path(where), *Path(where).parents}
        for name in (*directories, *files)
        if Path(where, name) not in own
    }


def check_page(path: Path) -> list[str]:
    """What is wrong with a report's page and its figures as text that others may have written."""
    parsed = _Page()
    parsed.feed(path.read_text(encoding="utf-8"))
    parsed.close()
    there = {entry.name for entry in path.parent.iterdir()}
    found = parsed.found
    found += [f"leads to {link!r}" for link in parsed.links if link not in there]
    for drawing in path.parent.glob("*.svg"):
        try:
            elements = list(ElementTree.parse(drawing).iter())
        except ElementTree.ParseError as error:
            found.append(f"{drawing.name} is no XML: {error}")
            continue
        names = {element.tag.rpartition("}")[2] for element in elements}
        if "script" in names or "foreignObject" in names:
            found.append(f"{drawing.name} holds a script")
        for element in elements:
            found += [f"{drawing.name} has {key}" for key in element.attrib if key.startswith("on")]
    return found


class _Page(HTMLParser):
    """Collects what a page of ours never has."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.links: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag in ("iframe", "object", "embed", "form", "base", "img", "foreignobject"):
            self.found.append(f"the page has an element {tag}")
        if tag == "script":
            self.scripts += 1
            if self.scripts > 2 or "src" in dict(attributes):
                self.found.append("the page has a script that is not its own")
        for name, value in attributes:
            if name.startswith("on"):
                self.found.append(f"the page has a handler {name}")
            own = (value or "").startswith(OWN_LINKS)
            if name in ("href", "src", "xlink:href") and not own:
                self.links.append(value or "")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
