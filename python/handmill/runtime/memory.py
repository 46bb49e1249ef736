"""How much memory this process can still have."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

UNKNOWN = 1 << 47
"""What a process can address, where nobody says how much there is."""


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
        with contextlib.suppress(OSError, ValueError):  # no limit is called "max"
            place = Path(root, folder)
            most, now = (int((place / name).read_text()) for name in (limit, used))
            # Files that are cached make room.
            yield most - now + _fields(root, f"{folder}/memory.stat").get(cache, 0)


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
