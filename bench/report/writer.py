"""Writes a report to disk."""

from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

from bench.errors import BenchError
from bench.report import page, sections, style, table, tensorboard
from bench.report.contents import Contents, gather
from bench.report.joined import Joined
from bench.report.overview import Overview
from bench.study import Study


@dataclass(frozen=True)
class Report:
    """What was written: ``page`` is the HTML file, its neighbours are the figures and tables."""

    contents: Contents
    page: Path


def write(study: Study) -> Report:
    """Writes a study's report into its ``report_directory``, over the one before, and the table of
    all its records beside it.

    Raises:
        BenchError: there is nothing to report on, or the report cannot be written.
    """
    contents = gather(study)
    target = study.report_directory
    if target.is_symlink():  # of which the files would be replaced
        raise BenchError(f"{target}: a link; the report is written into a directory of its own")
    try:
        _empty(target)
        gallery = page.Gallery(target)
        with mpl.rc_context(style.RC):
            built = sections.build(contents, gallery)
        path = page.write(built, target, contents.looks)
        tensorboard.write(built, gallery.titles, target)
        Overview(study.directory).write(study)
        if not isinstance(study, Joined):
            table.write(study)
    except OSError as error:
        raise BenchError(f"{target}: the report cannot be written ({error.strerror})") from error
    return Report(contents, path)


def _empty(target: Path) -> None:
    """Removes what an earlier report wrote, so that nothing stale stays beside the new one."""
    target.mkdir(parents=True, exist_ok=True)
    tensorboard.clear(target)
    for path in target.iterdir():
        if path.suffix in (".svg", ".pdf", ".png", ".csv", ".html"):
            path.unlink(missing_ok=True)
