"""Files and folders written whole or not at all, with the rights of what they replace."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from handmill.saving.pieces import size_of

_SECONDS_UNTIL_STALE = 60.0


def write_bytes(path: Path, content: Sequence[Any]) -> None:
    """Writes a file so that either the old or the complete new one is there, whatever happens.

    The new file is written beside the old one, brought to the disk, then put in its place. It has
    the rights of the old one; a first one has those that the umask leaves. What writers that were
    killed left beside it is removed.

    Args:
        path: where; no link.
        content: pieces of it, each bytes or anything that has a buffer of them.

    Raises:
        OSError: if it cannot be written, or something is there that is no file; nothing is
            changed then.
    """
    write_several({path: content})


def write_several(contents: Mapping[Path, Sequence[Any]]) -> None:
    """Writes files of one folder as :func:`write_bytes` does; none if one cannot be written.

    They are put in their places one after the other, in this order, once all are on the disk: a
    process that is killed between two of these renames leaves new files beside old ones.

    Args:
        contents: what each file gets.

    Raises:
        OSError: if one cannot be written; nothing is changed then.
    """
    for path in contents:
        _check_replaceable(path)
    temporaries: dict[Path, Path] = {}
    try:
        with contextlib.ExitStack() as opened:  # open, hence locked, until all are written
            for path, content in contents.items():
                temporaries[path] = _temporary(path)
                _write_new(temporaries[path], content, _rights_of(path), opened)
        _put_in_place(temporaries)
    except BaseException:
        for temporary in temporaries.values():
            with contextlib.suppress(OSError):
                temporary.unlink()
        raise
    for path in contents:
        _remove_stale(path)
        _sync_directory(path.parent)


def _check_replaceable(path: Path) -> None:
    """Raises an OSError for what must not become a file: a folder, a pipe, a device, a socket.

    So it does where the folder of the file is missing, which errors of the temporary file beside
    it would hide.
    """
    if not path.parent.exists():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(path.parent))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    with contextlib.suppress(FileNotFoundError):
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
            raise FileExistsError(
                errno.EEXIST,
                "not replaced: a pipe, device or socket",
                str(path),
            )


def _put_in_place(temporaries: Mapping[Path, Path]) -> None:
    """Renames files to their places; where one cannot be, all have their old content again."""
    old: dict[Path, Path | None] = {}
    new = {path for path in temporaries if not path.exists()}
    try:
        for path, temporary in temporaries.items():
            if len(temporaries) > 1:
                old[path] = _second_name(path)
            temporary.replace(path)
    except BaseException:
        for path, kept in old.items():
            with contextlib.suppress(OSError):
                if kept is not None:
                    kept.replace(path)
                elif path in new and not temporaries[path].exists():
                    path.unlink()
        raise
    finally:
        for kept in old.values():
            if kept is not None:
                kept.unlink(missing_ok=True)


def _second_name(path: Path) -> Path | None:
    """Gives a file a second name beside it; None where there is no file, or it can have none."""
    kept = _temporary(path)
    try:
        os.link(path, kept, follow_symlinks=False)
    except OSError:  # there is no file, or a file system without hard links
        return None
    return kept


def _write_new(
    path: Path, content: Sequence[Any], rights: int | None, opened: contextlib.ExitStack
) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(
        path, flags | getattr(os, "O_BINARY", 0), 0o666 if rights is None else 0o600
    )
    opened.callback(os.close, descriptor)
    _try_lock(descriptor)
    _reserve(descriptor, size_of(content))
    _write_pieces(descriptor, content)
    if rights is not None and hasattr(os, "fchmod"):
        os.fchmod(descriptor, rights)
    os.fsync(descriptor)


def write_folder(path: Path, contents: Mapping[str, Sequence[Any]]) -> None:
    """Writes a folder of files so that the old or the complete new one is there.

    The new folder is made beside the old one, then put in its place. Between the two renames of
    that the old one lies beside it under a name that begins with a dot, which :func:`kept_folder`
    finds. What writers that were killed left beside it is removed.

    Args:
        path: where; no link.
        contents: what each file gets, by its path inside the folder (with ``/``).

    Raises:
        OSError: if it cannot be written; nothing is changed then.
    """
    temporary = _temporary(path)
    old = temporary.with_name(f"{temporary.name}{_OLD}")
    temporary.mkdir()
    try:
        with contextlib.ExitStack() as opened:
            for name, content in contents.items():
                file = temporary / name
                file.parent.mkdir(parents=True, exist_ok=True)
                _write_new(file, content, None, opened)
        for folder in (temporary, *(p for p in temporary.rglob("*") if p.is_dir())):
            _sync_directory(folder)
        replaces = path.is_dir()
        if replaces:
            temporary.chmod(stat.S_IMODE(path.stat().st_mode))
            path.rename(old)
        try:
            temporary.rename(path)
        except BaseException:
            if replaces:
                old.rename(path)
            raise
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    try:
        _sync_directory(path.parent)
    finally:
        shutil.rmtree(old, ignore_errors=True)
        _remove_stale_folders(path)


def kept_folder(path: Path) -> Path | None:
    """The folder that was at ``path`` before a writer was killed while it replaced it."""
    with contextlib.suppress(OSError):
        prefix = _temporary_prefix(path)
        found = [p for p in path.parent.iterdir() if p.name.startswith(prefix)]
        old = [p for p in found if p.name.endswith(_OLD) and p.is_dir()]
        if old:
            return max(old, key=lambda p: p.stat().st_mtime)
    return None


def _remove_stale_folders(path: Path) -> None:
    """Removes what writers of the folder ``path`` left that are gone; it is whole now."""
    prefix = _temporary_prefix(path)
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            pid, _, random = entry.name[len(prefix) :].removesuffix(_OLD).partition(".")
            ours = entry.name.startswith(prefix) and pid.isdecimal() and len(random) == 8
            if ours and entry.is_dir(follow_symlinks=False) and not _is_running(int(pid)):
                shutil.rmtree(entry.path, ignore_errors=True)


def _rights_of(path: Path) -> int | None:
    """The permission bits of a regular file, None where there is none."""
    with contextlib.suppress(OSError):
        mode = os.lstat(path).st_mode
        if stat.S_ISREG(mode):
            return mode & 0o777
    return None


_OLD = ".old"


def _temporary(path: Path) -> Path:
    """A new name beside ``path``."""
    return path.with_name(f"{_temporary_prefix(path)}{os.getpid()}.{os.urandom(4).hex()}")


def _temporary_prefix(path: Path) -> str:
    return f".{path.name}.tmp."


def _try_lock(descriptor: int) -> bool:
    """Locks an open file until it is closed; whether that was possible.

    The lock tells a file that is being written from one whose writer is gone. A file system
    without locks does without.
    """
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


def _remove_stale(path: Path) -> None:
    """Removes the temporary files of writers of `path` that ended before they had finished."""
    prefix = _temporary_prefix(path)
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            if entry.name.startswith(prefix):
                with contextlib.suppress(OSError):
                    _remove_if_stale(entry.path, entry.name[len(prefix) :])


def _remove_if_stale(path: str, suffix: str) -> None:
    pid, _, random = suffix.partition(".")
    if not pid.isdecimal() or len(random) != 8:
        return  # not a name that write_bytes makes
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags)
    try:
        # A new file is open for a moment before it is locked.
        old = time.time() - os.fstat(descriptor).st_mtime > _SECONDS_UNTIL_STALE
        if _try_lock(descriptor) and (old or not _is_running(int(pid))):
            Path(path).unlink()
    finally:
        os.close(descriptor)


def _is_running(pid: int) -> bool:
    """Whether this machine may have such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True


def _reserve(descriptor: int, size: int) -> None:
    """Asks for the space at once, so that a full disk is known before anything is written."""
    if size and hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise


def _write_pieces(descriptor: int, content: Sequence[Any]) -> None:
    at = begun = 0
    for piece in content:
        left = memoryview(piece).cast("B")
        while left:
            count = os.write(descriptor, left[:_WRITE_AT_ONCE])
            left = left[count:]
            at += count
            if at - begun >= _WRITE_AT_ONCE:
                _begin_writeback(descriptor, begun, at - begun)
                begun = at


_WRITE_AT_ONCE = 8 << 20  # bytes that go to the disk while the next ones are copied


def _begin_writeback(descriptor: int, at: int, size: int) -> None:
    from handmill import config

    if config.has_kernels():
        from handmill import _core

        _core.begin_writeback(descriptor, at, size)


def _sync_directory(directory: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
