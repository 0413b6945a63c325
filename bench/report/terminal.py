"""The report's table in the terminal."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.report import text
from bench.report.contents import Contents, setting_names


def show(contents: Contents, console: Console) -> None:
    """Prints the best setting of each optimizer, and what is to be noted about it."""
    for workload, best in contents.best.groupby("workload"):
        table = Table(
            title=Text(f"{workload}: each optimizer at its best setting by validation"),
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
        )
        settings = setting_names(contents.study)
        table.add_column("optimizer", no_wrap=True)
        for heading in settings:
            table.add_column(heading, justify="right", overflow="fold")
        for heading, width in (("validation %", 12), ("test %", 12), ("seeds", 5), ("diverged", 8)):
            table.add_column(heading, justify="right", min_width=width)
        winner = best["score"].max()
        for _, row in best.iterrows():
            table.add_row(
                row["optimizer"],
                *(text.number(row[name]) for name in settings),
                text.spread(row["score"], row["std"]),
                text.spread(row["test"], row["test_std"]),
                str(row["seeds"]),
                f"{row['all_diverged']} of {row['runs']}",
                style="bold" if row["score"] == winner else None,
            )
        console.print(table)
        for _, row in best[best["notes"] != ""].iterrows():
            console.print(Text(f"  {row['optimizer']}: {row['notes']}", style="yellow"))
    unfinished = len(contents.study.unfinished)
    if unfinished:
        console.print(f"{unfinished} runs have no record yet: in progress, or interrupted")
