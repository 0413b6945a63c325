"""The report inside TensorBoard: its summary as text and its figures as images, in the run that
``overview`` calls ``figures``."""

import html
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.board import events
from bench.report import page
from bench.report.overview import FIGURES


def write(shown: page.Page, titles: Mapping[str, str], directory: Path) -> None:
    """Writes one event file into the report's ``directory``.

    Args:
        titles: of each figure in ``directory``, by file name without suffix.
    """
    events.write(directory / FIGURES, _points(shown, titles, directory), kind="figures")


def clear(directory: Path) -> None:
    """Removes the event file of a report of an earlier version, which had its runs elsewhere."""
    for path in directory.glob(events.PATTERN):
        path.unlink()


def _points(shown: page.Page, titles: Mapping[str, str], directory: Path) -> Iterator[events.Point]:
    yield events.Point(events.text("summary", _markdown(shown)))
    for name, title in titles.items():
        png = (directory / f"{name}.png").read_bytes()
        yield events.Point(events.image(title.replace(": ", "/", 1), png))


def _markdown(shown: page.Page) -> str:
    """The page's summary."""
    lines = [f"# {_plain(shown.title)}", "", _plain(", ".join(shown.facts))]
    for block in shown.sections[0].blocks:
        if block.heading:
            lines += ["", f"## {_plain(block.heading)}"]
        lines += ["", *(f"- **{_plain(f.about)}**: {_plain(f.sentence)}" for f in block.findings)]
        lines += [f"- {_plain(warning)}" for warning in block.warnings]
        for table in block.tables:
            heads = [_plain(column.title) for column in table.columns]
            marks = ["---:" if column.kind == "number" else "---" for column in table.columns]
            lines += ["", " | ".join(heads), " | ".join(marks)]
            lines += [" | ".join(_plain(cell.text) for cell in row) for row in table.rows]
            lines += ["", _plain(table.caption)]
    return "\n".join(lines)


def _plain(words: str) -> str:
    """Text that Markdown shows as it is."""
    escaped = html.escape(words, quote=False)
    return re.sub(r"[\\`*\[\]!|~]", lambda found: f"&#{ord(found[0])};", escaped)
