"""The report's table in the terminal."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.report import text
from bench.report.contents import Contents, setting_names
from bench.report.sections import summary

MOST_COLUMNS = 2  # of settings, beside five others, in 80 characters


def show(contents: Contents, console: Console) -> None:
    """Prints the best setting of each optimizer, and what is to be noted about it."""
    names = setting_names(contents.study)
    headings = names if len(names) <= MOST_COLUMNS else ["setting"]
    for workload, best in contents.best.groupby("workload"):
        table = Table(
            title=Text(f"{workload}: each optimizer at its best setting by validation"),
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
        )
        table.add_column("optimizer", no_wrap=True)
        for heading in headings:
            table.add_column(Text(heading), justify="right", overflow="fold")
        metric = contents.metric(str(workload))
        scores = [(text.heading(split, metric), 12) for split in ("validation", "test")]
        for heading, width in (*scores, ("seeds", 5), ("diverged", 8)):
            table.add_column(Text(heading), justify="right", min_width=width)
        winner = metric.sign * (metric.sign * best["score"]).max()
        for _, row in best.iterrows():
            values = [text.number(row[name]) for name in names]
            if headings != names:
                values = ["\n".join(map("=".join, zip(names, values, strict=True)))]
            table.add_row(
                Text(row["optimizer"]),
                *map(Text, values),
                text.spread(metric, row["score"], row["std"]),
                text.spread(metric, row["test"], row["test_std"]),
                str(row["seeds"]),
                f"{row['all_diverged']} of {row['runs']}",
                style="bold" if row["score"] == winner else None,
            )
        console.print(table)
    for warning in summary.warnings(contents):
        console.print(Text(f"note: {warning}", style="yellow"))
