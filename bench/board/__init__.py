"""TensorBoard, by its own protocol buffers and without torch: ``events`` writes its files, ``live``
keeps ``bench.report.overview`` up to date while a sweep goes on."""

from pathlib import Path

DIRECTORY = "tensorboard"
MOST_RUNS = 480  # by short names; TensorBoard selects none by itself where there are more than 500


def by_short_names(study: Path) -> Path:
    """Where the runs of a study lie by short names, beside its overview: ``runs/tensorboard/NAME``
    of ``runs/NAME``, and not below it, where TensorBoard would show each run twice."""
    study = study if study.name not in ("", "..") else study.resolve()
    return study.parent / DIRECTORY / study.name


def shown_from(study: Path) -> Path:
    """What to point TensorBoard at: the short names, once there are any."""
    place = by_short_names(study)
    return place if place.is_dir() else study


def all_runs(study: Path, runs: int) -> str | None:
    """The command for the curves of every run, where short names leave some out. TensorBoard keeps
    up to 1,000 points of each curve in memory unless it is told another number."""
    if runs <= MOST_RUNS:
        return None
    return f"tensorboard --logdir {study} --samples_per_plugin scalars=100"
