"""The cache: nothing wrong gets in, nothing wrong is read, nothing is left behind."""

import hashlib
import json
import multiprocessing
import os

import numpy as np
import pytest

import bench.data
from bench.data import cache
from bench.data.formats import (
    read_cifar_png_files,
    read_diabetes_files,
    read_idx_files,
    read_texts,
)
from bench.data.specs import OTHERS, specification, specifications
from bench.errors import BenchError
from tests.data.fake_data import (
    COLOUR,
    FAKES,
    GREY,
    HTML,
    NUMBERS,
    VERSE,
    Folder,
    InMemory,
    Unreachable,
    colour_spec,
    fake_cache,
    grey_spec,
    numbers_spec,
    same,
    verse_spec,
    write_cifar_png,
    write_idx,
    write_numbers,
    write_plays,
)


@pytest.fixture
def cached(tmp_path):
    cache.fetch(grey_spec(), tmp_path)
    return tmp_path


def cached_files(data_dir):
    return {path.name for path in data_dir.glob("*/*")} - {"lock"}


def swap(one, other):
    between = one.with_name("between")
    one.rename(between)
    other.rename(one)
    between.rename(other)


def flip_last_byte(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("make_spec", "arrays", "write", "decode"),
    [
        (grey_spec, GREY, write_idx, read_idx_files),
        (colour_spec, COLOUR, write_cifar_png, read_cifar_png_files),
        (verse_spec, VERSE, write_plays, read_texts),
        (numbers_spec, NUMBERS, write_numbers, read_diabetes_files),
    ],
)
def test_what_is_fetched_is_read_back(tmp_path, make_spec, arrays, write, decode):
    source = tmp_path / "source"
    source.mkdir()
    write(source, arrays)
    spec = make_spec(Folder(source, decode))
    assert cache.open_arrays(spec, tmp_path) is None
    cache.fetch(spec, tmp_path)
    assert same(cache.open_arrays(spec, tmp_path), arrays)
    assert json.loads((tmp_path / spec.name / "manifest.json").read_text())["source"] == (
        "folder source"
    )


def test_what_happens_to_a_file_does_not_reach_what_was_read(cached):
    images = cache.open_arrays(grey_spec(), cached)["train-images"]
    os.truncate(cached / "grey" / "train-images.npy", 0)
    assert np.array_equal(images, GREY["train-images"])


# --- data sets by name ----------------------------------------------------------------------


def test_arrays_of_any_kind_by_name(tmp_path, monkeypatch):
    for made, arrays in ((grey_spec, GREY), (verse_spec, VERSE), (numbers_spec, NUMBERS)):
        spec = made()
        monkeypatch.setitem(OTHERS, spec.name, spec)
        assert same(dict(bench.data.arrays(spec.name, tmp_path)), arrays)
        assert bench.data.specification(spec.name) is spec


@pytest.mark.parametrize("get", [bench.data.arrays, bench.data.specification])
def test_a_name_that_nothing_has(get):
    with pytest.raises(BenchError) as caught:
        get("minst")
    assert str(caught.value) == (
        "no data set 'minst'; there are mnist, cifar10, fashion_mnist, shakespeare, diabetes"
    )


def test_checksums_stay():
    """Records hold them: with another one, what was measured before could not be found again."""
    assert {name: spec.checksum for name, spec in specifications().items()} == {
        "mnist": "5c2571cecdd0b409",
        "cifar10": "fb5b6da3fcb9aaa4",
        "fashion_mnist": "0dd45651d8ecb434",
        "shakespeare": "3ff42a87e29d0b45",
        "diabetes": "a9c46019228206cf",
    }


def test_what_older_versions_cached_stays_valid(tmp_path):
    spec, directory = grey_spec(), tmp_path / "grey"
    directory.mkdir()
    files = {}
    for name, array in GREY.items():
        np.save(directory / f"{name}.npy", array)
        content = (directory / f"{name}.npy").read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        files[name] = {"bytes": len(content), "shape": array.shape, "dtype": "uint8"}
        files[name]["sha256"] = digest
    manifest = {"dataset": "grey", "source": "memory", "md5": spec.md5, "files": files}
    (directory / "manifest.json").write_text(json.dumps(manifest))
    assert same(cache.open_arrays(spec, tmp_path), GREY)


@pytest.mark.parametrize("name", FAKES)
def test_a_made_up_cache_is_read_but_does_not_pass_for_the_data(tmp_path, name, monkeypatch):
    made_up = fake_cache(name, tmp_path, monkeypatch)
    assert same(dict(bench.data.arrays(name, tmp_path)), made_up)
    with pytest.raises(BenchError, match=f"{name}: damaged .*MD5"):
        cache.open_arrays(specification(name), tmp_path, official=True)


# --- what a source gave ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda d: os.truncate(d / "train-images-idx3-ubyte", 100),
            "376 bytes expected, found 100",
        ),
        (lambda d: flip_last_byte(d / "t10k-images-idx3-ubyte"), "t10k-images-idx3-ubyte: MD5"),
        (
            lambda d: swap(d / "train-labels-idx1-ubyte", d / "t10k-labels-idx1-ubyte"),
            "train-labels-idx1-ubyte: MD5",
        ),
        (
            lambda d: swap(d / "train-images-idx3-ubyte", d / "train-labels-idx1-ubyte"),
            r"train-images: uint8 \(12, 1, 6, 5\) expected, found uint8 \(12,\)",
        ),
        (
            lambda d: (d / "t10k-labels-idx1-ubyte").write_bytes(HTML),
            "t10k-labels-idx1-ubyte: an IDX file of bytes expected",
        ),
        (
            lambda d: (d / "train-images-idx3-ubyte").unlink(),
            "train-images-idx3-ubyte.*No such file",
        ),
    ],
    ids=["truncated", "one byte", "swapped splits", "swapped kinds", "html", "missing"],
)
def test_wrong_data_from_a_source_are_refused(tmp_path, damage, message):
    source = tmp_path / "source"
    source.mkdir()
    write_idx(source, GREY)
    damage(source)
    data_dir = tmp_path / "data"
    with pytest.raises(BenchError, match=message):
        cache.fetch(grey_spec(Folder(source, read_idx_files)), data_dir)
    assert cached_files(data_dir) == set()


def test_cifar_batches_in_the_wrong_order_are_refused(tmp_path):
    write_cifar_png(tmp_path, COLOUR)
    swap(tmp_path / "data_batch_1.png", tmp_path / "data_batch_4.png")
    with pytest.raises(BenchError, match=r"data_batch_1\.bin: MD5 \w+ expected, found \w+"):
        cache.fetch(colour_spec(Folder(tmp_path, read_cifar_png_files)), tmp_path / "data")


TEXT = {
    "another character": {"characters": VERSE["characters"] ^ (np.arange(29) == 20)},
    "a play that ends early": {"starts": VERSE["starts"] - [0, 1, 0, 0]},
    "alphabet out of order": {
        "alphabet": VERSE["alphabet"][::-1],
        "characters": len(VERSE["alphabet"]) - 1 - VERSE["characters"],
    },
    "places beyond the alphabet": {"characters": VERSE["characters"] | 128},
    "points beyond Unicode": {"alphabet": VERSE["alphabet"] + np.uint32(2**31)},
    "another type": {"characters": VERSE["characters"].astype(np.int64)},
    "one play too few": {"starts": VERSE["starts"][:-1]},
}
TABLE = {
    "a rounding error": {"features": NUMBERS["features"] * (1 + 1e-15)},
    "rows in another order": {"features": NUMBERS["features"][::-1]},
    "single precision": {"target": NUMBERS["target"].astype(np.float32)},
    "not a number": {"target": NUMBERS["target"] * np.nan},
    "a column too few": {"features": NUMBERS["features"][:, 1:]},
}


@pytest.mark.parametrize(
    ("make_spec", "arrays"),
    [
        *((verse_spec, VERSE | altered) for altered in TEXT.values()),
        *((numbers_spec, NUMBERS | altered) for altered in TABLE.values()),
    ],
    ids=[*TEXT, *TABLE],
)
def test_every_value_of_every_kind_is_checked(tmp_path, make_spec, arrays):
    with pytest.raises(BenchError, match=r"Tried memory: \S.* expected") as caught:
        cache.fetch(make_spec(InMemory(arrays)), tmp_path)
    assert "\n" not in str(caught.value)
    assert cached_files(tmp_path) == set()


def test_the_next_source_is_tried(tmp_path):
    altered = {**GREY, "test-labels": GREY["test-labels"][::-1]}
    spec = grey_spec(Unreachable("the moon"), InMemory(altered), InMemory(GREY))
    cache.fetch(spec, tmp_path)
    assert same(cache.open_arrays(spec, tmp_path), GREY)


def test_every_source_that_failed_is_named_on_one_line(tmp_path):
    with pytest.raises(BenchError) as caught:
        cache.fetch(grey_spec(Unreachable("the moon"), Unreachable("mars")), tmp_path)
    assert str(caught.value) == (
        "grey: no source gave the data. Tried the moon: no route to the moon; "
        f"mars: no route to mars. Check the network, or copy {tmp_path / 'grey'} "
        "from a machine that has it"
    )
    assert cached_files(tmp_path) == set()


# --- what lies in the cache -----------------------------------------------------------------

DAMAGE = {
    "truncated": (
        lambda d: os.truncate(d / "train-images.npy", 300),
        r"train-images\.npy: .*488 bytes expected, found 300",
    ),
    "longer": (
        lambda d: os.truncate(d / "test-images.npy", 489),
        r"test-images\.npy: .*488 bytes expected, found 489",
    ),
    "html": (
        lambda d: (d / "test-images.npy").write_bytes(HTML),
        r"test-images\.npy: .*488 bytes expected, found 63",
    ),
    "a header of more than there is": (
        lambda d: (d / "train-images.npy").write_bytes(
            (d / "train-images.npy").read_bytes().replace(b"(12, 1, 6, 5)", b"(9**9, 6, 5,)")
        ),
        r"train-images\.npy: damaged",
    ),
    "html of the same size": (
        lambda d: (d / "test-images.npy").write_bytes(HTML.ljust(488)),
        r"test-images\.npy: damaged",
    ),
    "another shape": (
        lambda d: np.save(d / "train-labels.npy", np.zeros((3, 4), np.uint8)),
        r"train-labels\.npy: .*uint8 \(12,\) expected, found uint8 \(3, 4\)",
    ),
    "missing": (
        lambda d: (d / "test-labels.npy").unlink(),
        r"test-labels\.npy: .*No such file",
    ),
    "swapped kinds": (
        lambda d: swap(d / "test-labels.npy", d / "test-images.npy"),
        r"test-images\.npy: .*488 bytes expected, found 140",
    ),
    "manifest is html": (
        lambda d: (d / "manifest.json").write_bytes(HTML),
        r"manifest\.json: .*not the manifest of grey",
    ),
    "manifest is empty": (
        lambda d: (d / "manifest.json").write_text("{}"),
        r"manifest\.json: .*not the manifest of grey",
    ),
    "manifest is a list": (
        lambda d: (d / "manifest.json").write_text("[]"),
        r"manifest\.json: .*not the manifest of grey",
    ),
    "manifest of other data": (
        lambda d: (d / "manifest.json").write_text(
            (d / "manifest.json").read_text().replace('"md5": {', '"md5": {"another": "",')
        ),
        r"manifest\.json: .*not the manifest of grey",
    ),
    "a directory": (
        lambda d: ((d / "manifest.json").unlink(), (d / "manifest.json").mkdir()),
        r"manifest\.json: .*Is a directory",
    ),
    "one byte": (
        lambda d: flip_last_byte(d / "train-images.npy"),
        r"train-images\.npy: .*CRC-32 \w+ expected, found \w+",
    ),
    "swapped splits": (
        lambda d: swap(d / "train-images.npy", d / "test-images.npy"),
        r"train-images\.npy: .*CRC-32",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_nothing_damaged_is_read(cached, damage, message):
    damage(cached / "grey")
    with pytest.raises(cache.Damaged, match=message) as caught:
        cache.open_arrays(grey_spec(), cached)
    assert "\n" not in str(caught.value)


def test_no_file_vouches_for_another(cached):
    """Altered together with what the manifest says of it."""
    file = cached / "grey" / "train-labels.npy"
    before = cache.sha256(file)
    flip_last_byte(file)
    manifest = cached / "grey" / "manifest.json"
    manifest.write_text(manifest.read_text().replace(before, cache.sha256(file)))
    with pytest.raises(cache.Damaged, match=r"train-labels\.npy: .*CRC-32"):
        cache.open_arrays(grey_spec(), cached)


@pytest.mark.parametrize(
    "damage", [damage for name, (damage, _) in DAMAGE.items() if name != "a directory"]
)
def test_what_is_damaged_is_fetched_again(cached, damage, caplog):
    damage(cached / "grey")
    assert same(cache.obtain(grey_spec(), cached), GREY)
    (told,) = caplog.messages
    assert "damaged" in told
    assert told.endswith("it is fetched again")
    assert same(cache.obtain(grey_spec(Unreachable("the moon")), cached), GREY)


def test_damage_that_cannot_be_mended_is_told_with_its_cure(cached):
    file = cached / "grey" / "test-labels.npy"
    flip_last_byte(file)
    with pytest.raises(BenchError) as caught:
        cache.obtain(grey_spec(Unreachable("the moon")), cached)
    said = str(caught.value)
    assert said.startswith(f"{file}: damaged or unreadable (CRC-32 ")
    assert "cannot be fetched again: grey: no source gave the data. Tried the moon" in said
    assert said.endswith("from a machine that has it")
    assert "\n" not in said


def test_what_is_intact_is_not_fetched_again(cached):
    cache.fetch(grey_spec(Unreachable("the moon")), cached)


@pytest.mark.parametrize("name", specifications())
def test_the_checksums_are_those_of_the_official_data(name):
    spec = specification(name)
    if not (cache.default_data_dir() / name / cache.MANIFEST).exists():
        pytest.skip(f"{name} is not fetched")
    cache.check_official(spec, cache.obtain(spec, None))


# --- processes ------------------------------------------------------------------------------


@pytest.mark.parametrize("damaged", [False, True])
def test_processes_that_fetch_together_fetch_once(tmp_path, damaged):
    spec = grey_spec(InMemory(GREY, log=tmp_path / "log"))
    if damaged:
        cache.fetch(grey_spec(), tmp_path / "data")
        flip_last_byte(tmp_path / "data" / "grey" / "train-images.npy")
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=cache.obtain, args=(spec, tmp_path / "data")) for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "fetched\n"
    assert same(cache.open_arrays(spec, tmp_path / "data"), GREY)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_fetch_leaves_nothing(tmp_path, monkeypatch, stop):
    def replace(source, target):
        if target.name == cache.MANIFEST:
            raise stop
        return rename(source, target)

    rename = os.replace
    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises((KeyboardInterrupt, BenchError)):
        cache.fetch(grey_spec(), tmp_path)
    assert cache.open_arrays(grey_spec(), tmp_path) is None
    assert not (tmp_path / "grey" / "partial").exists()


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / "grey" / "partial" / "0").mkdir(parents=True)
    (tmp_path / "grey" / "partial" / "0" / "half.bin").write_bytes(b"half")
    assert cache.open_arrays(grey_spec(), tmp_path) is None
    cache.fetch(grey_spec(), tmp_path)
    assert cached_files(tmp_path) == {*(f"{name}.npy" for name in GREY), "manifest.json"}


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BenchError, match=r"file.*: cannot be written .*--data-dir"):
        cache.fetch(grey_spec(), tmp_path / "file")
