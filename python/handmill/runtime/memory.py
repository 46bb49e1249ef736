"""How much memory this process can still have, and what is refused because it has less."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator
from contextvars import ContextVar, Token
from pathlib import Path, PurePosixPath

UNKNOWN = 1 << 47
"""What a process can address, where nobody says how much there is."""


FEW_BYTES = 1 << 26
"""So many are had without a look at what there is, which takes some 50 us."""


def in_gigabytes(count: float) -> str:
    """A number of bytes, as messages say it."""
    return f"{count / 1e9:.4g} GB"


def check_room(needed: int, what: str, remedy: str) -> int:
    """Refuses what this process cannot have, before it is asked for.

    A system that promises more than there is ends processes when they use it.

    Args:
        needed: bytes.
        what: who needs them, and how many: the beginning of the message.
        remedy: what helps, a sentence.

    Returns:
        How many bytes there are.

    Raises:
        MemoryError: if there are fewer.
    """
    free = available_bytes()
    if needed > free:
        # A model that is forgotten keeps its memory until then: layers know each other.
        gc.collect()
        free = available_bytes()
        if needed > free:
            raise MemoryError(
                f"{what}; this process can have {in_gigabytes(free)} more. Nothing was allocated. "
                f"{remedy}"
            )
    return free


class Account:
    """Counts the variables made in a ``with`` block together, for none is used before its end.

    What the system says is available does not count them: it gives memory out when it is used.

    Args:
        what: what they are, for messages; in an outer block that counts, they are part of that.
        remedy: what helps where they are too many, a sentence.
    """

    def __init__(self, what: str, remedy: str) -> None:
        self._what, self._remedy = what, remedy
        self._bytes = self._count = 0
        self._enough = FEW_BYTES
        self._token: Token[Account | None] | None = None

    def __enter__(self) -> None:
        if COUNTING.get() is None:
            self._token = COUNTING.set(self)

    def __exit__(self, *raised: object) -> None:
        if self._token is not None:
            COUNTING.reset(self._token)

    def add(self, size: int, name: str) -> None:
        """Counts what is asked for next.

        Raises:
            MemoryError: if all of it together is more than there is.
        """
        self._bytes += size
        self._count += 1
        if self._bytes > self._enough:
            self._enough = check_room(
                self._bytes,
                f"{self._what}: the first {self._count}, up to {name!r}, need "
                f"{in_gigabytes(self._bytes)} together",
                self._remedy,
            )


COUNTING: ContextVar[Account | None] = ContextVar("COUNTING", default=None)
"""The account that counts what is asked for here, if one does."""


def available_bytes(root: str = "/") -> int:
    """The least of what the machine, the control group and the limits of the process leave.

    Args:
        root: where ``proc`` and ``sys`` are, but in tests.
    """
    return max(0, min([UNKNOWN, *_machine(root), *_control_group(root), *_address_space(root)]))


def _machine(root: str) -> Iterator[int]:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    found = _fields(root, "proc/meminfo")
    if "MemAvailable:" in found:
        yield (found["MemAvailable:"] + found.get("SwapFree:", 0)) * 1024


def _control_group(root: str) -> Iterator[int]:
    for folder, limit, used, cache in (
        ("sys/fs/cgroup", "memory.max", "memory.current", "file"),
        ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache"),
    ):
        for group in _groups(root):
            with contextlib.suppress(OSError, ValueError):  # no limit is called "max"
                place = Path(root, folder, group)
                most, now = (int((place / name).read_text()) for name in (limit, used))
                # Files that are cached make room.
                stat = _fields(root, f"{folder}/{group}/memory.stat")
                yield most - now + stat.get(cache, 0)


def _groups(root: str) -> Iterator[str]:
    """The folders of the groups that this process is in, below those of their controllers."""
    yield "."
    with contextlib.suppress(OSError):
        for line in Path(root, "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2) if line.count(":") > 1 else ("", "x", "")
            if controllers not in ("", "memory"):
                continue
            own = PurePosixPath(path.lstrip("/"))
            if ".." not in own.parts:  # such a path lies outside of this process's namespace
                yield from (str(group) for group in (own, *own.parents) if str(group) != ".")


def _address_space(root: str) -> Iterator[int]:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        most, _ = resource.getrlimit(resource.RLIMIT_AS)
        if most != resource.RLIM_INFINITY:
            pages = int(Path(root, "proc/self/statm").read_text().split()[0])
            yield most - pages * os.sysconf("SC_PAGE_SIZE")


def _fields(root: str, path: str) -> dict[str, int]:
    """The lines ``name number ...`` of a file."""
    with contextlib.suppress(OSError):
        lines = (line.split() for line in Path(root, path).read_text().splitlines())
        return {p[0]: int(p[1]) for p in lines if len(p) > 1 and p[1].isdecimal()}
    return {}
