"""``python -m bench.report runs/<study>``: a study's figures, tables and page."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from bench.errors import BenchError
from bench.report import terminal, write


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.report",
        description="Writes a study's report: figures, tables and a page that holds them all.",
    )
    parser.add_argument("directory", type=Path, help="a study's directory, such as runs/quickstart")
    options = parser.parse_args(arguments)
    console = Console()
    try:
        report = write(options.directory)
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    terminal.show(report.contents, console)
    for problem in report.contents.problems:
        print(f"skipped: {problem}", file=sys.stderr)
    print(f"report      {report.page}")
    print(f"curves      tensorboard --logdir {options.directory}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
