"""``python -m bench.report runs/<study>``: a study's figures, tables and page; of several studies,
one that sets them against each other."""

import argparse
import subprocess
import sys
import webbrowser
from pathlib import Path

from rich.console import Console

from bench import letters
from bench import study as studies
from bench.board import all_runs, shown_from
from bench.errors import BenchError
from bench.report import joined, terminal, write
from bench.study import Study


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.report",
        description="Writes a study's report: figures, tables, and a page that shows them. Given "
        "several studies, one report that sets them against each other.",
    )
    parser.add_argument(
        "directories",
        nargs="+",
        type=Path,
        metavar="directory",
        help="a study's directory, such as runs/quickstart",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="of several studies: where to write the report (default: compare/<a>-vs-<b> beside "
        "the first)",
    )
    parser.add_argument(
        "--open",
        action="store_true",
        help="show the page in a browser, and start TensorBoard on this machine's loopback address",
    )
    options = parser.parse_args(arguments)
    letters.never_fail()
    try:
        study = _read(options.directories, options.output)
        for problem in study.problems:
            print(f"skipped: {problem}", file=sys.stderr)
        report = write(study)
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for problem in report.contents.problems[len(study.problems) :]:
        print(f"skipped: {problem}", file=sys.stderr)
    terminal.show(report.contents, Console())
    print(f"report   {report.page}")
    curves = shown_from(study.directory)
    print(f"curves   tensorboard --logdir {curves}")
    for source in study.sources:
        if (every := all_runs(source, len(study.runs))) is not None:
            print(f"of all   {every}")
    if options.open:
        return _open(report.page, curves)
    return 0


def _read(directories: list[Path], output: Path | None) -> Study:
    if len(directories) > 1:
        return joined.read(directories, output)
    if output is not None:
        raise BenchError("--output: only for several studies; one has its report in its directory")
    return studies.read(directories[0])


def _open(page: Path, directory: Path) -> int:
    webbrowser.open(page.resolve().as_uri())
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(directory)]
    try:
        return subprocess.run([*command, "--host", "127.0.0.1"], check=False).returncode
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
