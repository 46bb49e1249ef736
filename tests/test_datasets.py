"""Data sets of Keras: from files that are there, and downloaded from a server of our own."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pickle
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from handmill import config, datasets
from handmill.data.datasets import location
from handmill.data.pickles import load_npz, load_pickle
from handmill.utils import get_file

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves files by name, and may break off.

    Attributes:
        files: name -> bytes.
        breaks: how many bytes of an answer are sent before the connection ends.
        asked: the ranges that were asked for.
        tag: the version that the answers carry.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.breaks: int | None = None
        self.asked: list[str | None] = []
        self.tag: str | None = '"one"'

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range")
        server.asked.append(wanted)
        data = server.files.get(self.path.lstrip("/"))
        if data is None:
            self.send_error(404)
            return
        start = 0
        if wanted and self.headers.get("If-Range") == server.tag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        if server.tag:
            self.send_header("ETag", server.tag)
        self.end_headers()
        self.wfile.write(data[start:][: server.breaks])

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    made = Server()
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without files, and a working directory without them."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.delenv("HANDMILL_DATA", raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


# Downloads.


def test_a_file_is_downloaded_once(
    server: Server, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files["a.bin"] = CONTENT
    path = get_file("b.bin", origin=server.url + "a.bin", file_hash=SHA)
    assert Path(path) == home / ".keras/datasets/b.bin"
    assert Path(path).read_bytes() == CONTENT
    assert f"Downloading data from {server.url}a.bin" in capsys.readouterr().out
    assert get_file("b.bin", origin=server.url + "a.bin", file_hash=SHA) == path
    assert capsys.readouterr().out == ""
    assert len(server.asked) == 1
    get_file("b.bin", origin=server.url + "a.bin", force_download=True)
    assert len(server.asked) == 2
    assert sorted(p.name for p in Path(path).parent.iterdir()) == ["b.bin"]
    md5 = hashlib.md5(CONTENT).hexdigest()
    assert get_file("b.bin", origin=server.url + "a.bin", md5_hash=md5) == path
    assert Path(get_file(origin=server.url + "a.bin", cache_subdir="models")).name == "a.bin"


@pytest.mark.parametrize("tag", ('"one"', None))
def test_a_broken_download_goes_on_where_it_stopped(server: Server, home: Path, tag: Any) -> None:
    server.files["a.bin"], server.tag, server.breaks = CONTENT, tag, 1_000_000
    with pytest.raises(OSError, match="ended after 1000000 of 3000000 bytes"):
        get_file(origin=server.url + "a.bin", file_hash=SHA)
    folder = home / ".keras/datasets"
    assert not (folder / "a.bin").exists()
    server.breaks = None
    path = Path(get_file(origin=server.url + "a.bin", file_hash=SHA))
    assert path.read_bytes() == CONTENT
    # Without a version nobody knows whether the rest belongs to the same file.
    assert server.asked == [None, "bytes=1000000-" if tag else None]
    assert [p.name for p in folder.iterdir()] == ["a.bin"]


def test_a_file_that_changed_meanwhile_is_begun_anew(server: Server, home: Path) -> None:
    server.files["a.bin"], server.breaks = bytes(3_000_000), 1_000_000
    with pytest.raises(OSError, match="ended after"):
        get_file(origin=server.url + "a.bin")
    server.files["a.bin"], server.breaks, server.tag = CONTENT, None, '"two"'
    assert Path(get_file(origin=server.url + "a.bin")).read_bytes() == CONTENT


def test_halves_of_two_files_are_noticed_by_their_hash(server: Server, home: Path) -> None:
    server.files["a.bin"], server.breaks = bytes(3_000_000), 1_000_000
    with pytest.raises(OSError, match="ended after"):
        get_file(origin=server.url + "a.bin", file_hash=SHA)
    server.files["a.bin"], server.breaks = CONTENT, None  # under the same tag
    assert Path(get_file(origin=server.url + "a.bin", file_hash=SHA)).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1000000-", None]


def test_another_hash_is_refused_and_the_old_file_stays(
    server: Server, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files["a.bin"] = b"old"
    path = Path(get_file(origin=server.url + "a.bin"))
    with pytest.raises(ValueError, match="corrupted file detected"):
        get_file(origin=server.url + "a.bin", file_hash=SHA)
    assert "its hash is not" in capsys.readouterr().out
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["a.bin"]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    (
        ({}, ValueError, '"origin"'),
        ({"origin": "http://127.0.0.1/"}, ValueError, "`fname`"),
        ({"fname": "a/b", "origin": "http://127.0.0.1/x"}, ValueError, "no longer accepted"),
        ({"fname": "..", "origin": "http://127.0.0.1/x"}, ValueError, "no longer accepted"),
        ({"origin": "data:text/plain,x"}, ValueError, "expected a URL"),
        ({"origin": "http://127.0.0.1:1/x"}, OSError, "URL fetch failure on http://127.0.0.1:1/x"),
    ),
)
def test_what_cannot_be_downloaded(
    home: Path, arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        get_file(**arguments)


def test_hashes_are_checked_before_they_are_used(server: Server, home: Path) -> None:
    server.files["a"] = b"x"
    get_file(origin=server.url + "a")
    for options, text in (
        ({"file_hash": "abc"}, "64 digits"),
        ({"file_hash": SHA, "hash_algorithm": "md5"}, "64 digits"),
        ({"file_hash": SHA, "hash_algorithm": "crc"}, "`hash_algorithm`"),
    ):
        with pytest.raises(ValueError, match=text):
            get_file(origin=server.url + "a", **options)  # type: ignore[arg-type]
    with pytest.raises(OSError, match="404"):
        get_file(origin=server.url + "absent")


# Archives.


def tar_of(files: dict[str, bytes], extra: tarfile.TarInfo | None = None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        if extra is not None:
            tar.addfile(extra)
    return stream.getvalue()


def zip_of(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


@pytest.mark.parametrize("make", (tar_of, zip_of))
def test_archives(server: Server, home: Path, make: Any) -> None:
    server.files["a"] = make({"x/1.txt": b"one", "x/y/2.txt": b"two"})
    folder = Path(get_file("things", origin=server.url + "a", extract=True))
    assert folder == home / ".keras/datasets/things"
    assert (folder / "x/y/2.txt").read_bytes() == b"two"
    (folder / "x/1.txt").write_bytes(b"changed by the user")
    get_file("things", origin=server.url + "a", extract=True)
    assert (folder / "x/1.txt").read_bytes() == b"changed by the user"
    dotted = get_file("b.tar.gz", origin=server.url + "a", extract=True)
    assert Path(dotted).name == "b_extracted"
    assert sorted(p.name for p in folder.parent.iterdir()) == [
        "b.tar.gz",
        "b_extracted",
        "things",
        "things_archive",
    ]
    server.files["text"] = b"no archive"
    with pytest.warns(UserWarning, match="Could not extract"):
        get_file(origin=server.url + "text", extract=True)
    with pytest.raises(ValueError, match="`archive_format`"):
        get_file("c", origin=server.url + "a", extract=True, archive_format="rar")


def link(kind: bytes, name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


@pytest.mark.parametrize(
    "data",
    (
        tar_of({"good": b"", "../bad": b"x"}),
        tar_of({"good": b"", "/bad": b"x"}),
        zip_of({"good": b"", "../../bad": b"x"}),
        zip_of({"good": b"", "a\\..\\..\\bad": b"x"}),
        tar_of({"good": b""}, link(tarfile.SYMTYPE, "bad")),
        tar_of({"good": b""}, link(tarfile.LNKTYPE, "bad")),
        tar_of({"good": b""}, link(tarfile.CHRTYPE, "bad")),
    ),
)
def test_archives_that_leave_their_folder_are_refused(
    server: Server, home: Path, data: bytes
) -> None:
    server.files["a"] = data
    with pytest.raises(ValueError, match=r"outside of the folder|link or a device"):
        get_file("things", origin=server.url + "a", extract=True)
    found = [p.name for p in home.rglob("*") if p.is_file() or p.is_symlink()]
    assert found == ["things_archive"]


# Data sets.


def ragged(rows: list[list[int]]) -> Any:
    result = np.empty(len(rows), object)
    result[:] = rows
    return result


def texts(count: int, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return ragged([rng.integers(1, 60, rng.integers(1, 12)).tolist() for _ in range(count)])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small files in the formats of all data sets."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(3)
    for name, columns in (("boston_housing", 13), ("california_housing", 8)):
        rows = 700 if columns == 8 else 50
        np.savez(
            folder / f"{name}.npz", x=rng.normal(size=(rows, columns)), y=rng.normal(size=rows)
        )
    np.savez(
        folder / "imdb.npz",
        x_train=texts(30, 1),
        y_train=rng.integers(0, 2, 30),
        x_test=texts(20, 2),
        y_test=rng.integers(0, 2, 20),
    )
    np.savez(folder / "reuters.npz", x=texts(40, 4), y=rng.integers(0, 46, 40))
    np.savez(
        folder / "mnist.npz",
        x_train=rng.integers(0, 256, (6, 28, 28), dtype=np.uint8),
        y_train=np.arange(6, dtype=np.uint8),
        x_test=rng.integers(0, 256, (2, 28, 28), dtype=np.uint8),
        y_test=np.arange(2, dtype=np.uint8),
    )
    for name in ("imdb", "reuters"):
        (folder / f"{name}_word_index.json").write_text('{"the": 1}')
    for prefix, rows in (("train", 5), ("t10k", 3)):
        pixels = rng.integers(0, 256, (rows, 28, 28), dtype=np.uint8)
        head = bytes([0, 0, 8, 3]) + np.array(pixels.shape, ">u4").tobytes()
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(
            gzip.compress(head + pixels.tobytes())
        )
        head = bytes([0, 0, 8, 1]) + np.array([rows], ">u4").tobytes()
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(
            gzip.compress(head + bytes(range(rows)))
        )
    return folder


def cifar_member(rng: Any, rows: int, keys: tuple[str, ...]) -> bytes:
    """A pickle as Python 2 and its NumPy wrote it, opcode by opcode."""

    def text(value: str) -> bytes:
        return b"U" + bytes([len(value)]) + value.encode()

    def integer(value: int) -> bytes:
        return b"J" + value.to_bytes(4, "little", signed=True)

    pixels = rng.bytes(rows * 3072)
    dtype = b"cnumpy\ndtype\n" + text("u1") + b"K\x00K\x01\x87R"
    dtype += b"(K\x03" + text("|") + b"NNN" + integer(-1) + integer(-1) + b"K\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n"
    array += b"K\x00\x85" + text("b") + b"tR"
    array += b"(K\x01" + integer(rows) + integer(3072) + b"\x86" + dtype + b"\x89"
    array += b"T" + len(pixels).to_bytes(4, "little") + pixels + b"tb"
    found = b"\x80\x02}(" + text("data") + array
    for key in keys:
        labels = rng.integers(0, 10, rows).tolist()
        found += text(key) + b"](" + b"".join(map(integer, labels)) + b"e"
    return found + b"u."


def cifar_files(folder: Path) -> None:
    rng = np.random.default_rng(5)
    members = {
        f"cifar-10-batches-py/{name}": cifar_member(rng, 4, ("labels",))
        for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    }
    (folder / "cifar-10-python.tar.gz").write_bytes(tar_of(members))
    members = {
        f"cifar-100-python/{name}": cifar_member(rng, 4, ("fine_labels", "coarse_labels"))
        for name in ("train", "test")
    }
    (folder / "cifar-100-python.tar.gz").write_bytes(tar_of(members))


@pytest.fixture
def offline(files: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HANDMILL_DATA", str(files))
    return files


def test_offline_nothing_is_downloaded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDMILL_DATA", str(home))
    for name in datasets.__dir__():
        if name != "digits":
            with pytest.raises(FileNotFoundError, match=r"looked at .*Nothing is downloaded"):
                getattr(datasets, name).load_data()
    with pytest.raises(FileNotFoundError, match="a path was given"):
        datasets.mnist.load_data(home / "mnist.npz")


def test_files_come_from_the_web_where_there_are_none(
    server: Server, files: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = (files / "mnist.npz").read_bytes()
    server.files["mnist.npz"] = data
    file = location.RemoteFile(
        "mnist.npz", server.url + "mnist.npz", hashlib.sha256(data).hexdigest()
    )
    monkeypatch.setattr("handmill.data.datasets.mnist.FILE", file)
    for _ in range(2):
        (x_train, y_train), _ = datasets.mnist.load_data()
        assert x_train.shape == (6, 28, 28)
        assert y_train.tolist() == list(range(6))
    assert len(server.asked) == 1
    (home / ".keras/datasets/mnist.npz").write_bytes(b"damaged")
    datasets.mnist.load_data()
    assert len(server.asked) == 2
    server.files.clear()
    (home / ".keras/datasets/mnist.npz").write_bytes(b"damaged")
    with pytest.raises(OSError, match=r"no file mnist.npz; looked at .*404.*HANDMILL_DATA"):
        datasets.mnist.load_data()


@pytest.mark.parametrize("name", ("boston_housing", "california_housing"))
def test_houses(offline: Path, keras: ModuleType, name: str, monkeypatch: Any) -> None:
    theirs = pytest.importorskip(f"keras.src.datasets.{name}")
    monkeypatch.setattr(theirs, "get_file", lambda path, **_: offline / path)
    ours = getattr(datasets, name)
    versions = ({}, {"version": "small"}) if name == "california_housing" else ({},)
    for options in versions:
        options = {**options, "test_split": 0.3, "seed": 5}
        for got, expected in zip(
            ours.load_data(**options), theirs.load_data(**options), strict=True
        ):
            np.testing.assert_array_equal(got[0], expected[0])
            np.testing.assert_array_equal(got[1], expected[1])
    with pytest.raises(ValueError, match="`test_split`"):
        ours.load_data(test_split=1.0)
    if name == "california_housing":
        with pytest.raises(ValueError, match="`version`"):
            ours.load_data(version="tiny")


@pytest.mark.parametrize(
    "options",
    (
        {},
        {"num_words": 40, "skip_top": 5},
        {"maxlen": 8, "seed": 1},
        {"start_char": None, "index_from": 0},
        {"start_char": None, "index_from": 2, "num_words": 30},
        {"oov_char": None, "num_words": 40},
    ),
)
@pytest.mark.parametrize("name", ("imdb", "reuters"))
def test_texts(
    offline: Path, keras: ModuleType, name: str, options: dict[str, Any], monkeypatch: Any
) -> None:
    theirs = pytest.importorskip(f"keras.src.datasets.{name}")
    monkeypatch.setattr(theirs, "get_file", lambda fname, **_: offline / fname)
    ours = getattr(datasets, name)
    for got, expected in zip(ours.load_data(**options), theirs.load_data(**options), strict=True):
        assert got[0].dtype == object
        assert list(got[0]) == list(expected[0])
        np.testing.assert_array_equal(got[1], expected[1])
    assert ours.get_word_index() == {"the": 1}
    with pytest.raises(ValueError, match="Increase maxlen"):
        ours.load_data(maxlen=1)


def test_pictures_of_clothes(offline: Path) -> None:
    (x_train, y_train), (x_test, y_test) = datasets.fashion_mnist.load_data()
    assert (x_train.shape, x_test.shape) == ((5, 28, 28), (3, 28, 28))
    assert (y_train.tolist(), y_test.tolist()) == ([0, 1, 2, 3, 4], [0, 1, 2])
    assert x_train.dtype == y_train.dtype == np.uint8


@pytest.mark.parametrize("unpacked", (False, True))
def test_photographs(
    home: Path, tmp_path: Path, unpacked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    cifar_files(folder)
    members: dict[str, Any] = {}
    for archive in list(folder.iterdir()):
        with tarfile.open(archive) as tar:
            for name in tar.getnames():
                data = tar.extractfile(name).read()  # type: ignore[union-attr]
                members[name] = load_pickle(data, name, encoding="bytes")
                if unpacked:
                    (folder / name).parent.mkdir(exist_ok=True)
                    (folder / name).write_bytes(data)
        if unpacked:
            archive.unlink()
    monkeypatch.setenv("HANDMILL_DATA", str(folder))
    (x_train, y_train), (x_test, y_test) = datasets.cifar10.load_data()
    assert (x_train.shape, y_train.shape) == ((20, 32, 32, 3), (20, 1))
    assert (x_test.shape, y_test.shape) == ((4, 32, 32, 3), (4, 1))
    second = members["cifar-10-batches-py/data_batch_2"]
    np.testing.assert_array_equal(y_train[4:8, 0], second[b"labels"])
    pixels = second[b"data"].reshape(4, 3, 32, 32).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(x_train[4:8], pixels)
    assert x_train.dtype == y_train.dtype == np.uint8
    for mode in ("fine", "coarse"):
        _, (_, labels) = datasets.cifar100.load_data(mode)
        expected = members["cifar-100-python/test"][f"{mode}_labels".encode()]
        np.testing.assert_array_equal(labels[:, 0], expected)
    with pytest.raises(ValueError, match="`label_mode`"):
        datasets.cifar100.load_data("rough")
    monkeypatch.setattr(config, "image_data_format", lambda: "channels_first")
    assert datasets.cifar100.load_data()[0][0].shape == (4, 3, 32, 32)


# Files that hold something else.


class Command:
    def __reduce__(self) -> Any:
        return os.system, ("echo ran > ran.txt",)


class Huge:
    def __reduce__(self) -> Any:
        return np.zeros(0).__reduce__()[0], (np.ndarray, (10**13,), b"b")


@pytest.mark.parametrize("value", (Command(), Huge(), [Command()], {"a": Huge()}))
def test_pickles_run_nothing_and_allocate_nothing(home: Path, value: Any) -> None:
    data = pickle.dumps(value, protocol=2)
    with pytest.raises(ValueError, match=r"cannot read thing: it asks for .*malicious"):
        load_pickle(data, "thing")
    assert list(Path().iterdir()) == []


def test_every_truncation_is_told(tmp_path: Path) -> None:
    good = pickle.dumps({b"data": np.arange(6)}, protocol=2)
    for end in range(len(good)):
        with pytest.raises(ValueError, match="cannot read thing"):
            load_pickle(good[:end], "thing")
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(3.0), y=ragged([[1], [2, 3]]))
    whole = path.read_bytes()
    assert load_npz(path)["y"].tolist() == [[1], [2, 3]]
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match="cannot read"):
            load_npz(path)


def test_arrays_that_claim_more_than_there_is(tmp_path: Path) -> None:
    stream = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
    np.lib.format.write_array_header_1_0(stream, header)
    path = tmp_path / "a.npz"
    path.write_bytes(zip_of({"x.npy": stream.getvalue() + bytes(8)}))
    with pytest.raises(ValueError, match="are not the 8 bytes there"):
        load_npz(path)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    (
        ("mnist", zip_of({"a.npy": b"no"}), "cannot read"),
        ("imdb", b"no zip", "cannot read"),
        ("fashion_mnist", gzip.compress(bytes(30)), "no array of bytes of rank 3"),
        ("cifar10", tar_of({"cifar-10-batches-py/data_batch_1": pickle.dumps([1])}), "3072 pixels"),
    ),
    ids=("mnist", "imdb", "fashion_mnist", "cifar10"),  # the bytes of archives hold the time
)
def test_other_files_are_named(
    home: Path, tmp_path: Path, name: str, content: bytes, text: str, monkeypatch: Any
) -> None:
    monkeypatch.setenv("HANDMILL_DATA", str(tmp_path))
    file = {
        "cifar10": "cifar-10-python.tar.gz",
        "fashion_mnist": "train-images-idx3-ubyte.gz",
    }.get(name, f"{name}.npz")
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError, match=text):
        getattr(datasets, name).load_data()


def test_word_ranks_are_json(home: Path, tmp_path: Path) -> None:
    for content in ("no json", json.dumps([1])):
        path = tmp_path / "words.json"
        path.write_text(content)
        with pytest.raises(ValueError, match="cannot read"):
            datasets.imdb.get_word_index(path)
