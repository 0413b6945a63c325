"""`python -m bench.data`."""

import subprocess
import sys

import pytest

from bench.data.__main__ import main
from tests.data.fake_data import grey_spec, numbers_spec, verse_spec, without_sources


@pytest.fixture(autouse=True)
def only_grey(monkeypatch):
    monkeypatch.setattr("bench.data.specs.IMAGES", {"grey": grey_spec()})
    monkeypatch.setattr("bench.data.specs.OTHERS", {})


def test_lists_fetches_and_verifies(tmp_path, capsys):
    where = ["--data-dir", str(tmp_path)]
    for arguments, state in (
        ([], "not fetched"),
        (["grey"], "intact"),
        ([], "intact"),
        (["--verify"], "verified"),
    ):
        assert main([*arguments, *where]) == 0
        output = capsys.readouterr()
        assert state in output.out
        assert output.err == ""


def test_each_kind_says_what_it_holds(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "bench.data.specs.OTHERS", {"verse": verse_spec(), "numbers": numbers_spec()}
    )
    assert main(["verse", "numbers", "grey", "--data-dir", str(tmp_path)]) == 0
    rows = [line.strip("│ ").split("│") for line in capsys.readouterr().out.splitlines()[4:-1]]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["verse", "3 plays, 29 characters, 21 distinct", "intact"],
        ["numbers", "2 rows, 10 features and a target", "intact"],
        ["grey", "12 + 12 images 1x6x5, 10 classes", "intact"],
    ]


def test_listing_writes_nothing(tmp_path):
    assert main(["--data-dir", str(tmp_path / "data")]) == 0
    assert not (tmp_path / "data").exists()


def test_damage_is_told_and_repaired_on_request(tmp_path, capsys):
    where = ["--data-dir", str(tmp_path)]
    main(["grey", *where])
    (tmp_path / "grey" / "test-labels.npy").write_bytes(b"")
    capsys.readouterr()
    assert main(where) == 1
    output = capsys.readouterr()
    assert "damaged" in output.out
    assert output.err.startswith(f"bench.data: {tmp_path / 'grey' / 'test-labels.npy'}: damaged")
    assert output.err.count("\n") == 1
    assert main(["grey", *where]) == 0


def test_no_source(tmp_path, capsys, monkeypatch):
    spec = without_sources(grey_spec())
    monkeypatch.setattr("bench.data.specs.IMAGES", {"grey": spec})
    assert main(["grey", "--data-dir", str(tmp_path)]) == 1
    assert "Tried the moon: no route to the moon" in capsys.readouterr().err


def test_verifying_what_is_not_there(tmp_path, capsys):
    assert main(["--verify", "grey", "--data-dir", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "bench.data: grey: not fetched\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["minst"],
            "no data set 'minst'; there are mnist, cifar10, fashion_mnist, shakespeare, diabetes",
        ),
        (["mnist", "--data-dir", "/dev/null"], "/dev/null"),
        (["--data-dir"], "expected one argument"),
        (["--fetch"], "unrecognized arguments: --fetch"),
    ],
)
def test_wrong_invocations(arguments, message):
    done = subprocess.run(
        [sys.executable, "-m", "bench.data", *arguments], capture_output=True, text=True
    )
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["IMAGES", "arrays", "specification", "default_data_dir"])
def test_what_needs_no_torch_does_not_wait_for_it(name):
    code = f"import sys; from bench.data import {name}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
