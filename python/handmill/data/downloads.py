"""Files from the web: verified, resumed where a connection broke, kept in a cache."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from handmill.console import say
from handmill.data.archives import archive_kind, unpack
from handmill.errors import warn_caller

_CHUNK = 1 << 18
_TIMEOUT = 60.0
_SMALL = 1 << 20  # bytes, below which no progress is shown
_SCHEMES = ("http", "https", "file", "ftp")
_STAMP = ".handmill-unpacked"


def get_file(
    fname: str | os.PathLike[str] | None = None,
    origin: str | None = None,
    untar: bool = False,
    md5_hash: str | None = None,
    file_hash: str | None = None,
    cache_subdir: str = "datasets",
    hash_algorithm: str = "auto",
    extract: bool = False,
    archive_format: Any = "auto",
    cache_dir: str | os.PathLike[str] | None = None,
    force_download: bool = False,
) -> str:
    """Returns the path of a file from the web, which is downloaded if the cache has none.

    What arrives is written beside its place and moved there once it is whole and has the right
    hash, so the cache never holds half a file; a download that broke off goes on where it stopped.

    Args:
        fname: its name in the cache; default: the last part of ``origin``. With ``extract`` and no
            dot in it, the name of the folder.
        origin: the URL.
        untar: older name of ``extract``, for tar archives.
        md5_hash: older name of ``file_hash``.
        file_hash: the SHA-256 or MD5 that the file must have, in hexadecimal digits.
        cache_subdir: the folder within the cache; or an absolute path.
        hash_algorithm: ``"sha256"``, ``"md5"``, or ``"auto"`` by the length of the hash.
        extract: whether to unpack an archive (tar, also compressed, or zip).
        archive_format: ``"auto"``, ``"tar"``, ``"zip"``, a list of them, or None.
        cache_dir: the cache; default: ``~/.keras``.
        force_download: whether to download what the cache has.

    Returns:
        The path of the file, or of the folder that it was unpacked into.

    Raises:
        ValueError: for a hash that differs, an archive whose members would lie outside of the
            folder, and arguments that do not fit.
        OSError: if the file cannot be had; the message names the URL.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from handmill.utils import get_file
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     there = Path(folder, "there.txt")
        ...     _ = there.write_text("hello")
        ...     path = get_file("here.txt", origin=there.as_uri(), cache_dir=folder)
        ...     print(Path(path).name, Path(path).read_text())  # doctest: +ELLIPSIS
        Downloading data from file:...
        here.txt hello
    """
    if origin is None:
        raise ValueError('Please specify the "origin" argument (URL of the file to download).')
    if md5_hash is not None and file_hash is None:
        file_hash, hash_algorithm = md5_hash, "md5"
    name = _checked_name(fname, origin)
    home = Path("~/.keras" if cache_dir is None else cache_dir).expanduser()
    folder = home / cache_subdir
    folder.mkdir(parents=True, exist_ok=True)
    unpacks = extract or untar
    target = folder / name
    inside = folder / name
    if unpacks:
        if fname is not None and "." in name:
            inside = folder / f"{name[: name.find('.')]}_extracted"
        else:
            target = folder / f"{name}_archive"
    if force_download or not _is_there(target, file_hash, hash_algorithm):
        say(f"Downloading data from {origin}")
        download(origin, target, file_hash, hash_algorithm)
    if not unpacks:
        return str(target)
    _unpack_once(target, inside, "tar" if untar else archive_format)
    return str(inside)


def _checked_name(fname: Any, origin: str) -> str:
    name = "" if fname is None else os.fspath(fname)
    if not name:
        name = Path(urllib.parse.unquote(urllib.parse.urlsplit(origin).path)).name
        if not name:
            raise ValueError(
                f"Can't parse the file name from the origin provided: {origin!r}. Please specify "
                "the `fname` argument."
            )
    if "/" in name or os.sep in name or name in (".", ".."):
        raise ValueError(
            "Paths are no longer accepted as the `fname` argument. To specify the file's parent "
            f"directory, use the `cache_dir` argument. Received: fname={name}"
        )
    return name


def _is_there(path: Path, file_hash: str | None, algorithm: str) -> bool:
    if not path.is_file():
        return False
    if file_hash is None or has_hash(path, file_hash, algorithm):
        return True
    say(
        f"The file {path} is there, but its hash is not {file_hash}, so it is incomplete or "
        "outdated; it is downloaded again."
    )
    return False


def has_hash(path: Path, file_hash: str, algorithm: str = "auto") -> bool:
    """Whether a file has a hash.

    Raises:
        ValueError: for an unknown algorithm, and a hash that is none.
    """
    if algorithm not in ("auto", "sha256", "md5"):
        raise ValueError(f"`hash_algorithm` must be 'auto', 'sha256' or 'md5', got {algorithm!r}")
    wanted = str(file_hash).lower()
    length = {"sha256": 64, "md5": 32}.get(algorithm, len(wanted))
    if len(wanted) != length or length not in (32, 64) or set(wanted) - set("0123456789abcdef"):
        raise ValueError(
            f"`file_hash` must be the 64 digits of a SHA-256 or the 32 of an MD5, got {file_hash!r}"
        )
    digest = hashlib.sha256() if length == 64 else hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while data := file.read(_CHUNK):
            digest.update(data)
    return digest.hexdigest() == wanted


def download(
    origin: str, target: Path, file_hash: str | None = None, algorithm: str = "auto"
) -> None:
    """Downloads a file to a place where, until it is whole and verified, nothing changes.

    Raises:
        ValueError: if it has another hash.
        OSError: if it cannot be had, or the connection breaks.
    """
    scheme = urllib.parse.urlsplit(origin).scheme
    if scheme not in _SCHEMES:
        raise ValueError(f"origin: expected a URL of {', '.join(_SCHEMES)}, got {origin!r}")
    part = target.with_name(f"{target.name}.part")
    note = target.with_name(f"{target.name}.part.json")
    with _Lock(part) as alone:
        if not alone:  # another process is at it: this one gets a file of its own
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as place:
                own = Path(place) / "part"
                _receive(origin, own, None)
                _verify(own, origin, file_hash, algorithm)
                own.replace(target)
            return
        resumed = _receive(origin, part, note)
        try:
            _verify(part, origin, file_hash, algorithm)
        except ValueError:
            note.unlink(missing_ok=True)
            if not resumed:
                part.unlink()
                raise
            _receive(origin, part, note)  # the two halves were not of one file
            _verify(part, origin, file_hash, algorithm)
        part.replace(target)
        note.unlink(missing_ok=True)


class _Lock:
    """Holds a file that is being downloaded, as long as the process lives."""

    def __init__(self, part: Path) -> None:
        self._path = part
        self._descriptor: int | None = None

    def __enter__(self) -> bool:
        try:
            import fcntl
        except ImportError:  # not POSIX: nobody can tell who else is there
            return False
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(descriptor), self._path.stat()):
                raise OSError("another process has just finished it")
        except OSError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def __exit__(self, *exception: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


def _receive(origin: str, part: Path, note: Path | None) -> bool:
    """Writes what a URL holds; goes on with what is there. Returns whether it did."""
    done, version = 0, None
    if note is not None and part.is_file() and note.is_file():
        try:
            found = json.loads(note.read_text("utf-8"))
            version = found["version"] if found["origin"] == origin else None
        except (ValueError, KeyError, TypeError):
            version = None
        done = part.stat().st_size if version else 0
    request = urllib.request.Request(origin, headers={"User-Agent": "handmill"})
    if done:
        request.add_header("Range", f"bytes={done}-")
        request.add_header("If-Range", str(version))
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            resumes = done > 0 and getattr(answer, "status", None) == 206
            start = done if resumes else 0
            length = answer.headers.get("Content-Length")
            whole = start + int(length) if length and length.isdigit() else None
            tag = answer.headers.get("ETag") or ""
            kept = answer.headers.get("Last-Modified") if tag.startswith("W/") or not tag else tag
            if note is not None:
                note.write_text(json.dumps({"origin": origin, "version": kept}), "utf-8")
            _write(answer, part, start, whole, origin)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and done:  # what is there is no beginning of it
            os.truncate(part, 0)
            return _receive(origin, part, note)
        raise OSError(f"URL fetch failure on {origin}: {error.code} -- {error.reason}") from error
    except urllib.error.URLError as error:
        raise OSError(f"URL fetch failure on {origin}: {error.reason}") from error
    return resumes


def _write(answer: Any, part: Path, start: int, whole: int | None, origin: str) -> None:
    from handmill.callbacks.progbar import Progbar

    bar = None if whole is not None and whole < _SMALL else Progbar(whole, unit_name="byte")
    done = start
    with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
        file.truncate(start)
        file.seek(start)
        while data := answer.read(_CHUNK):
            file.write(data)
            done += len(data)
            if bar is not None:
                bar.show(done, {}, finalize=whole is not None and done >= whole)
    if whole is not None and done < whole:
        raise OSError(
            f"URL fetch failure on {origin}: the connection ended after {done} of {whole} bytes; "
            "the next call goes on there"
        )


def _verify(part: Path, origin: str, file_hash: str | None, algorithm: str) -> None:
    if file_hash is not None and not has_hash(part, file_hash, algorithm):
        raise ValueError(
            f"Incomplete or corrupted file detected: what {origin} holds has not the hash "
            f"{file_hash}"
        )


def _unpack_once(archive: Path, folder: Path, archive_format: Any) -> None:
    status = archive.stat()
    stamp = f"{status.st_size} {status.st_mtime_ns}"
    note = folder / _STAMP
    if note.is_file() and note.read_text() == stamp:
        return
    kind = archive_kind(archive, archive_format)
    if kind is None:
        warn_caller(f"Could not extract archive {archive}: it is no tar or zip file.", UserWarning)
        return
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix=".unpack-") as place:
        fresh = Path(place) / "files"
        fresh.mkdir()
        unpack(archive, fresh, kind)
        (fresh / _STAMP).write_text(stamp)
        if folder.exists():
            shutil.copytree(fresh, folder, dirs_exist_ok=True)
        else:
            fresh.replace(folder)
