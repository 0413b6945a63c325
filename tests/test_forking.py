"""The fork server is begun early where a command will most likely need it."""

from pathlib import Path

import pytest

from bench.command_line import CONF
from bench.sweeps import forking


@pytest.mark.parametrize(
    ("words", "begins"),
    [
        (["-m", "seed=0,1"], True),
        (["optimizer=sgd,adam", "--multirun", "hydra/launcher=stacked"], True),
        (["experiment=quickstart"], True),
        (["experiment=quickstart", "hydra.launcher.n_jobs=1"], True),
        ([], False),
        (["optimizer.lr=0.1"], False),
        (["experiment=tuned"], False),  # one run
        (["experiment=nobody_has_this"], False),
        (["-m", "seed=0,1", "hydra/launcher=slurm"], False),
        (["-m", "seed=0,1", "hydra/launcher=basic"], False),
        (["-m", "seed=0,1", "hydra.launcher.threads=2"], False),
        (["experiment=quickstart", "hydra.mode=RUN"], False),
        (["-m", "seed=0,1", "--cfg", "job"], False),
        (["--help"], False),
        (["--repeat", "runs/one"], False),
    ],
)
def test_what_words_foresee(
    words: list[str], begins: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    monkeypatch.setattr(forking, "begin", begun.append)
    forking.foresee(words, Path(CONF, "experiment"))
    assert begun == [1] * begins


def test_one_that_cannot_be_started_is_nobodys_mistake_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(threads: int) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(forking, "begin", begin)
    forking.foresee(["-m", "seed=0,1"], Path(CONF, "experiment"))
