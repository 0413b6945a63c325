# mypy: disable-error-code="import-untyped"
"""TensorBoard's event files and what they hold, by its own protocol buffers."""

import os
import re
import struct
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as custom_scalars
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
from tensorboard.plugins.hparams import metadata as hparams
from tensorboard.plugins.text import metadata as texts
from tensorboard.summary.writer.record_writer import RecordWriter

Setting = float | int | str | bool

PATTERN = "events.out.tfevents.*"
BEST, STEPS = "end/best {}", "end/steps to target"  # tags of what HParams says of a run's metric
MOST_VALUES = 30  # of a word, to be chosen from by a mark at each


class Point(NamedTuple):
    """A value of a file: when it was so, and at which step."""

    value: Summary.Value
    step: int = 0
    when: float | None = None  # seconds since 1970; now, where nothing is said


def write(
    directory: Path,
    points: Iterable[Point],
    *,
    kind: str,
    began: float | None = None,
    restarts: bool = False,
) -> None:
    """Writes one event file, in the place of those of its kind.

    A TensorBoard that shows the directory follows no file that is written over; it sees a new one.

    Args:
        kind: a word; a directory may hold a file of each kind.
        restarts: whether what the directory's earlier files had at any step is to be forgotten.
        began: seconds since 1970, by which TensorBoard orders runs, and so colours them.
    """
    directory.mkdir(parents=True, exist_ok=True)
    now = time.time()
    partial = directory / f".{kind}.partial"
    with open(partial, "wb") as file:
        records = RecordWriter(file)
        start = Event(wall_time=now if began is None else began, file_version="brain.Event:2")
        records.write(start.SerializeToString())
        if restarts:
            log = SessionLog(status=SessionLog.START)
            records.write(Event(wall_time=start.wall_time, session_log=log).SerializeToString())
        for value, step, when in points:
            event = Event(wall_time=now if when is None else when, step=step)
            event.summary.value.append(value)
            records.write(event.SerializeToString())
        records.flush()
    before = files(directory, kind)
    # TensorBoard reads files in the order of their names; ours go before a run's own.
    os.replace(partial, directory / f"events.out.tfevents.0.{time.time_ns()}.{kind}")
    for path in before:
        path.unlink(missing_ok=True)


def files(directory: Path, kind: str = "*") -> list[Path]:
    """The event files of a kind that are in a directory."""
    return sorted(directory.glob(f"events.out.tfevents.0.*.{kind}"))


def began(path: Path) -> float:
    """The time of an event file's first event, in seconds since 1970.

    Raises:
        ValueError: it has none.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        head = file.read(12)
        length = struct.unpack("<Q", head[:8])[0] if len(head) == 12 else 0
        if not 0 < length < 1000:
            raise ValueError(f"{path}: not an event file")
        event = Event()
        event.ParseFromString(file.read(length))
    return float(event.wall_time)


def together(values: Iterable[Summary.Value]) -> Summary:
    """As torch's writer takes them."""
    return Summary(value=values)


def scalar(tag: str, value: float) -> Summary.Value:
    return Summary.Value(tag=tag, simple_value=value)


def text(tag: str, markdown: str) -> Summary.Value:
    return _words(tag, markdown.encode(), texts.create_summary_metadata("", ""))


def layout(charts: layout_pb2.Layout) -> Summary.Value:
    return _words(
        custom_scalars.CONFIG_SUMMARY_TAG,
        charts.SerializeToString(),
        custom_scalars.create_summary_metadata(),
    )


def image(tag: str, png: bytes) -> Summary.Value:
    width, height = struct.unpack(">II", png[16:24])  # of the IHDR chunk, which is always first
    picture = Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=png)
    return Summary.Value(tag=tag, image=picture)


def session(
    settings: Mapping[str, Setting], *, status: str, seconds: tuple[float, float]
) -> list[Summary.Value]:
    """What makes a run a row of HParams.

    Args:
        seconds: since 1970, at which it began and ended.
    """
    start = plugin_data_pb2.SessionStartInfo(start_time_secs=seconds[0])
    for name, value in ({"status": status} | dict(settings)).items():
        if isinstance(value, bool):
            start.hparams[name].bool_value = value
        elif isinstance(value, str):
            start.hparams[name].string_value = value
        else:
            start.hparams[name].number_value = value
    ended = api_pb2.STATUS_SUCCESS if status == "completed" else api_pb2.STATUS_FAILURE
    end = plugin_data_pb2.SessionEndInfo(status=ended, end_time_secs=seconds[1])
    return [
        _hparams(hparams.SESSION_START_INFO_TAG, session_start_info=start),
        _hparams(hparams.SESSION_END_INFO_TAG, session_end_info=end),
    ]


def outcome(best: Mapping[str, Any], target: Mapping[str, Any]) -> list[Summary.Value]:
    """A record's ``best`` and ``target`` as columns of HParams."""
    found = {
        BEST.format(name.partition("/")[2]): value for name, value in best.items() if "/" in name
    } | {STEPS: target.get("step")}
    return [scalar(tag, value) for tag, value in found.items() if value is not None]


def experiment(
    sessions: Sequence[Mapping[str, Setting]], varying: Collection[str], metrics: Mapping[str, str]
) -> Summary.Value:
    """The columns of HParams: without it, every scalar of every run is one.

    Args:
        sessions: the settings of every run.
        varying: the names of those that come first.
        metrics: what to call each tag.
    """
    columns = []
    for name in sorted({name for settings in sessions for name in settings}):
        values = {settings[name] for settings in sessions if name in settings}
        column = api_pb2.HParamInfo(name=name, differs=name in varying)
        words = sorted(value for value in values if isinstance(value, str))
        column.type = api_pb2.DATA_TYPE_STRING if words else api_pb2.DATA_TYPE_FLOAT64
        if len(words) == len(values) <= MOST_VALUES:
            column.domain_discrete.extend(words)
        columns.append(column)
    about = api_pb2.Experiment(
        hparam_infos=columns,
        metric_infos=[
            api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=name)
            for tag, name in metrics.items()
        ],
        time_created_secs=time.time(),
    )
    return _hparams(hparams.EXPERIMENT_TAG, experiment=about)


def exactly(tag: str) -> str:
    """A regular expression that matches one tag."""
    return f"^{re.escape(tag)}$"


def _hparams(tag: str, **content: Any) -> Summary.Value:
    data = plugin_data_pb2.HParamsPluginData(version=hparams.PLUGIN_DATA_VERSION, **content)
    about = SummaryMetadata()
    about.plugin_data.plugin_name = hparams.PLUGIN_NAME
    about.plugin_data.content = data.SerializeToString()
    return Summary.Value(tag=tag, metadata=about, tensor=hparams.NULL_TENSOR)


def _words(tag: str, content: bytes, metadata: SummaryMetadata) -> Summary.Value:
    tensor = TensorProto(dtype="DT_STRING", string_val=[content], tensor_shape=TensorShapeProto())
    return Summary.Value(tag=tag, metadata=metadata, tensor=tensor)
