"""``python -m bench.report runs/<study>``: a study's figures, tables and page."""

import argparse
import io
import subprocess
import sys
import webbrowser
from pathlib import Path

from rich.console import Console

from bench import study as studies
from bench.board import by_short_names
from bench.errors import BenchError
from bench.report import terminal, write


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.report",
        description="Writes a study's report: figures, tables, and a page that shows them.",
    )
    parser.add_argument("directory", type=Path, help="a study's directory, such as runs/quickstart")
    parser.add_argument(
        "--open",
        action="store_true",
        help="show the page in a browser, and start TensorBoard on this machine's loopback address",
    )
    options = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal may not have every letter
        sys.stdout.reconfigure(errors="replace")
    try:
        study = studies.read(options.directory)
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
    place = by_short_names(options.directory)
    shown = place if place.is_dir() else options.directory
    print(f"curves   tensorboard --logdir {shown}")
    if options.open:
        return _open(report.page, shown)
    return 0


def _open(page: Path, directory: Path) -> int:
    webbrowser.open(page.resolve().as_uri())
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(directory)]
    try:
        return subprocess.run([*command, "--host", "127.0.0.1"], check=False).returncode
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
