"""The raw formats, on small files made here: what is right is read, what is wrong is named."""

import gzip
import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bench.data.formats import (
    as_arrays,
    cifar_binary_files,
    read_cifar_png_files,
    read_diabetes_files,
    read_idx,
    read_idx_files,
    read_png_rows,
    read_texts,
    text_files,
)
from bench.errors import BenchError
from tests.data.fake_data import (
    COLOUR,
    GREY,
    HTML,
    NUMBERS,
    PLAYS,
    VERSE,
    same,
    write_cifar_png,
    write_idx,
    write_numbers,
    write_plays,
)


@pytest.mark.parametrize("compress", [False, True])
def test_idx_files_are_read_back(tmp_path, compress):
    write_idx(tmp_path, GREY, compress=compress)
    assert same(read_idx_files(tmp_path), GREY)


def test_cifar_png_files_are_read_back(tmp_path):
    write_cifar_png(tmp_path, COLOUR)
    assert same(read_cifar_png_files(tmp_path), COLOUR)


def test_texts_are_read_in_the_order_of_their_names_to_the_last_character(tmp_path):
    write_plays(tmp_path, VERSE)
    (tmp_path / "a" / "__init__.py").touch()
    arrays = read_texts(tmp_path)
    assert same(arrays, VERSE)
    text = "".join(map(chr, arrays["alphabet"][arrays["characters"]]))
    spans = zip(arrays["starts"], arrays["starts"][1:], strict=False)
    assert [text[start:end] for start, end in spans] == list(PLAYS.values())
    assert {n: content.decode() for n, content in text_files(PLAYS, arrays)} == PLAYS


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_any_text_is_written_back(tmp_path_factory, texts):
    directory = tmp_path_factory.mktemp("texts")
    (directory / "all").mkdir()
    contents = {str(number): text.encode("utf-8", "replace") for number, text in enumerate(texts)}
    for name, content in contents.items():
        (directory / "all" / f"{name}.md").write_bytes(content)
    assert dict(text_files(contents, read_texts(directory))) == contents


@pytest.mark.parametrize("content", [b"caf\xe9", "Æ".encode("utf-16")])
def test_a_text_that_is_none_is_named(tmp_path, content):
    write_plays(tmp_path, VERSE)
    (tmp_path / "b" / "lear.md").write_bytes(content)
    with pytest.raises(BenchError, match=r"^lear\.md: no text in UTF-8 \(.*codec can't decode"):
        read_texts(tmp_path)


def test_a_directory_without_texts(tmp_path):
    assert read_texts(tmp_path)["characters"].shape == (0,)


def test_a_table_is_read_back(tmp_path):
    write_numbers(tmp_path, NUMBERS)
    assert same(read_diabetes_files(tmp_path), NUMBERS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"1 2\n3 x\n", mtime=0), "rows of numbers expected .*could not convert"),
        (gzip.compress(b"1 2\n3\n", mtime=0), "rows of numbers expected .*inhomogeneous"),
        (gzip.compress("½ 2".encode("utf-16"), mtime=0), "rows of numbers expected"),
        (gzip.compress(b"1 2\n", mtime=0)[:-4], "cannot be read"),
        (HTML, "cannot be read .*Not a gzipped file"),
    ],
)
def test_a_wrong_table_is_named(tmp_path, content, message):
    write_numbers(tmp_path, NUMBERS)
    (tmp_path / "diabetes_data_raw.csv.gz").write_bytes(content)
    with pytest.raises(BenchError, match=rf"^diabetes_data_raw\.csv\.gz: {message}"):
        read_diabetes_files(tmp_path)


def test_the_binary_version_of_cifar_has_a_label_then_three_planes():
    files = dict(cifar_binary_files(COLOUR))
    assert list(files) == [*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]
    third = files["data_batch_2.bin"][:3073]  # ten images in five batches: image 2
    assert third[0] == COLOUR["train-labels"][2]
    assert third[1:1025] == COLOUR["train-images"][2, 0].tobytes()
    assert third[2049:] == COLOUR["train-images"][2, 2].tobytes()


IDX = b"\0\0\x08\x02" + b"\0\0\0\x02" + b"\0\0\0\x03" + bytes(6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (IDX[:-1], "18 bytes expected, found 17"),
        (IDX + b"\0", "18 bytes expected, found 19"),
        (IDX[:7], "an IDX file of bytes expected"),
        (b"", "an IDX file of bytes expected"),
        (HTML, "an IDX file of bytes expected, it starts b'<!DOCTYPE ht'"),
        (b"\0\0\x0d\x02" + IDX[4:], "an IDX file of bytes expected"),  # floats
        (b"\0\0\x08\x01" + b"\xff\xff\xff\xff", "4,294,967,303 bytes expected, found 8"),
    ],
)
def test_a_wrong_idx_file_is_named(tmp_path, content, message):
    path = tmp_path / "images-idx"
    path.write_bytes(content)
    with pytest.raises(BenchError, match="images-idx: ") as caught:
        read_idx(path)
    assert message in str(caught.value)


@pytest.mark.parametrize("content", [gzip.compress(IDX, mtime=0)[:-9], HTML, b""])
def test_a_wrong_compressed_file_is_named(tmp_path, content):
    path = tmp_path / "images-idx.gz"
    path.write_bytes(content)
    with pytest.raises(BenchError, match=r"images-idx\.gz: "):
        read_idx(path)


def test_a_missing_idx_file_is_named(tmp_path):
    with pytest.raises(BenchError, match=r"train-images-idx3-ubyte.*No such file"):
        read_idx_files(tmp_path)


@given(st.binary(max_size=64))
def test_no_content_makes_the_idx_reader_fail_otherwise(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(content)
    with suppress(BenchError):
        assert read_idx(path).nbytes <= len(content)


@pytest.mark.parametrize("damage", [lambda png: png[:-40], lambda png: HTML, lambda png: b""])
def test_a_wrong_png_is_named(tmp_path, damage):
    write_cifar_png(tmp_path, COLOUR)
    path = tmp_path / "data_batch_3.png"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BenchError, match=r"data_batch_3\.png: cannot be read as a PNG"):
        read_cifar_png_files(tmp_path)


def test_a_png_of_another_shape_is_named(tmp_path):
    path = tmp_path / "grey.png"
    Image.fromarray(np.zeros((2, 1024), np.uint8)).save(path)
    with pytest.raises(BenchError, match=r"grey\.png: RGB rows of 1024 pixels expected"):
        read_png_rows(path, 32)


@pytest.mark.parametrize("labels", [[256], [-1], [0.5], ["cat"], [[1], [2, 3]], {"a": 1}])
def test_labels_that_are_not_bytes_are_refused(tmp_path, labels):
    write_cifar_png(tmp_path, COLOUR)
    (tmp_path / "test_lables.json").write_text(json.dumps(labels))
    with pytest.raises(BenchError, match="test-labels: whole numbers from 0 to 255 expected"):
        read_cifar_png_files(tmp_path)


def test_labels_that_are_not_json_are_named(tmp_path):
    write_cifar_png(tmp_path, COLOUR)
    (tmp_path / "train_lables.json").write_bytes(HTML)
    with pytest.raises(BenchError, match=r"train_lables\.json: cannot be read as JSON"):
        read_cifar_png_files(tmp_path)


def test_grey_images_get_a_channel():
    arrays = as_arrays(np.zeros((2, 6, 5)), [0, 1], np.zeros((1, 6, 5)), [2])
    assert arrays["train-images"].shape == (2, 1, 6, 5)
    assert arrays["train-images"].dtype == np.uint8
