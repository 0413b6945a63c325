# mypy: disable-error-code="import-untyped"
"""The report inside TensorBoard: a run named ``report`` beside the study's own runs.

Figures as images, the summary as text, and a custom-scalars layout that overlays the optimizers.
TensorBoard's own writer and protocol buffers: no torch.
"""

import html
import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as custom_scalars
from tensorboard.plugins.text import metadata as texts
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from bench.report import curves, page
from bench.report.contents import Contents

PREFIX = "best_setting"


def write(contents: Contents, shown: page.Page, titles: dict[str, str], directory: Path) -> None:
    """Writes one event file into ``directory``, whose name is the run's.

    Args:
        titles: of each figure in ``directory``, by file name without suffix.
    """
    writer = EventFileWriter(str(directory))
    try:
        now = time.time()
        for step, value in _values(contents, shown, titles, directory):
            writer.add_event(Event(wall_time=now, step=step, summary=Summary(value=[value])))
    finally:
        writer.close()


def clear(directory: Path) -> None:
    """Removes the event files of an earlier report."""
    for path in directory.glob("events.out.tfevents.*"):
        path.unlink()


def _values(
    contents: Contents, shown: page.Page, titles: dict[str, str], directory: Path
) -> Iterator[tuple[int, Summary.Value]]:
    yield 0, _text("summary", _markdown(shown), texts.create_summary_metadata("", ""))
    layout, scalars = _overlays(contents)
    yield 0, _layout(layout)
    yield from scalars
    for name, title in titles.items():
        yield 0, _image(title.replace(": ", "/", 1), (directory / f"{name}.png").read_bytes())


def _overlays(contents: Contents) -> tuple[layout_pb2.Layout, list[tuple[int, Summary.Value]]]:
    """A chart a workload and metric with a band an optimizer, and the scalars it shows."""
    categories, scalars = [], []
    for workload, by_optimizer in contents.curves.items():
        charts = []
        for metric in contents.curve_metrics(workload):
            series = []
            for optimizer in filter(by_optimizer.__contains__, contents.looks):
                band = curves.band(by_optimizer[optimizer], "step", metric)
                if band.empty:
                    continue
                tag = f"{PREFIX}/{workload}/{metric}/{optimizer}"
                tags = {"mean": tag, "min": f"{tag}/lowest", "max": f"{tag}/highest"}
                series.append(
                    layout_pb2.MarginChartContent.Series(
                        value=tags["mean"], lower=tags["min"], upper=tags["max"]
                    )
                )
                scalars += [
                    (int(row["step"]), Summary.Value(tag=name, simple_value=row[column]))
                    for row in band.to_dict("records")
                    for column, name in tags.items()
                ]
            if series:
                content = layout_pb2.MarginChartContent(series=series)
                charts.append(layout_pb2.Chart(title=metric, margin=content))
        if charts:
            title = f"{workload}: each optimizer at its best setting"
            categories.append(layout_pb2.Category(title=title, chart=charts))
    every_metric = dict.fromkeys(
        metric for workload in contents.workloads for metric in contents.curve_metrics(workload)
    )
    every = [
        layout_pb2.Chart(
            title=metric, multiline=layout_pb2.MultilineChartContent(tag=[f"^{re.escape(metric)}$"])
        )
        for metric in every_metric
    ]
    categories.append(layout_pb2.Category(title="Every run", chart=every, closed=True))
    return layout_pb2.Layout(category=categories), scalars


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


def _text(tag: str, words: str, metadata: SummaryMetadata) -> Summary.Value:
    tensor = TensorProto(
        dtype="DT_STRING",
        string_val=[words.encode()],
        tensor_shape=TensorShapeProto(),
    )
    return Summary.Value(tag=tag, metadata=metadata, tensor=tensor)


def _layout(layout: layout_pb2.Layout) -> Summary.Value:
    tensor = TensorProto(
        dtype="DT_STRING",
        string_val=[layout.SerializeToString()],
        tensor_shape=TensorShapeProto(),
    )
    return Summary.Value(
        tag=custom_scalars.CONFIG_SUMMARY_TAG,
        metadata=custom_scalars.create_summary_metadata(),
        tensor=tensor,
    )


def _image(tag: str, png: bytes) -> Summary.Value:
    width, height = struct.unpack(">II", png[16:24])  # of the IHDR chunk, which is always first
    return Summary.Value(
        tag=tag,
        image=Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=png),
    )
