"""The processes of a training and what they exchange: bytes, each wait with a deadline.

MPI carries bytes alone. It never adds: the order of its sums is free and changes with algorithm,
size and version. And no call of it blocks: requests are tested, so that a rank which has died or
hangs is named by those that wait for it.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from handmill import config
from handmill.distribution.board import Board
from handmill.ir.op import Array
from handmill.models.distributed import launched_ranks

DEADLINE = 60.0
"""Seconds that a rank waits for another."""

LOST = 75
"""Exit status after a rank was lost: that of sysexits.h for what may be tried again."""

_SPIN = 0.002
"""Seconds of testing without a pause: a message between neighbours takes some microseconds."""

_LONGEST_PAUSE = 0.001
_LOOK_EVERY = 0.25
"""Seconds between two looks whether a rank on this machine is still a process."""

_LEVELS = ("none", "portable", "avx2", "avx512")


class RankLostError(RuntimeError):
    """A rank has died, or did not come to an exchange before the deadline."""


class DisagreementError(ValueError):
    """Ranks of one training have different models, data, settings or places in the program."""


class Member(NamedTuple):
    """A rank as the others know it.

    Attributes:
        rank: its number.
        host: the name of its machine.
        process: its number there.
    """

    rank: int
    host: str
    process: int

    def __str__(self) -> str:
        return f"rank {self.rank} (process {self.process} on {self.host})"


class Alone:
    """One process: there is nobody to exchange anything with."""

    rank = 0
    size = 1
    local_size = 1
    deadline = DEADLINE
    at = ""
    board: Board | None = None

    def gather(self, data: bytes) -> list[bytes]:
        """Returns what each rank gave."""
        return [data]

    def exchange(self, sends: Sequence[Any], receives: Sequence[Any]) -> None:
        """Sends ``sends[q]`` to rank q and fills ``receives[q]`` from it; None for nothing."""


class MpiRanks:
    """The processes that an MPI launcher has started.

    Args:
        comm: a communicator of mpi4py, used by nobody else.
        mpi: the module ``mpi4py.MPI``.

    Attributes:
        rank: the number of this one.
        size: how many there are.
        local_size: how many of them are on this machine.
        deadline: seconds that this one waits for others.
        at: where in the program this one is, for messages.
        members: all of them.
        board: where this one notes its place for the launcher.
    """

    board: Board | None = None

    def __init__(self, comm: Any, mpi: Any) -> None:
        self._comm = comm
        self._mpi = mpi
        self.rank = int(comm.Get_rank())
        self.size = int(comm.Get_size())
        self.deadline = DEADLINE
        self.at = "the start"
        self._heard = ["the start"] * self.size
        self._windows: list[Any] = []
        self._host = socket.gethostname()
        self.members = [Member(q, "?", 0) for q in range(self.size)]
        own = json.dumps([self._host, os.getpid()]).encode()
        self.members = [Member(q, *json.loads(data)) for q, data in enumerate(self.gather(own))]
        self.local_size = sum(member.host == self._host for member in self.members)

    def gather(self, data: bytes) -> list[bytes]:
        """Returns what each rank gave, in the order of the ranks."""
        lengths = np.zeros((self.size, 1), np.int64)
        lengths[self.rank] = len(data)
        self._to_all(lengths)
        parts = [np.empty(int(n), np.uint8) for n in lengths[:, 0]]
        parts[self.rank] = np.frombuffer(data, np.uint8)
        self._to_all(parts)
        return [part.tobytes() for part in parts]

    def meet(self) -> None:
        """Waits until all ranks are here."""
        flags = np.zeros((self.size, 1), np.uint8)
        self._to_all(flags)

    def shared(self, nbytes: int) -> tuple[list[Array], Array] | None:
        """Memory of this machine that every rank can read; called by all.

        Args:
            nbytes: how much each rank gets.

        Returns:
            Bytes for each rank to write, and as many that all write together; None where ranks are
            on several machines or there is not enough.
        """
        wanted = self.local_size == self.size and _has_shared_memory(nbytes * (self.size + 1))
        if any(answer != b"1" for answer in self.gather(b"1" if wanted else b"0")):
            return None
        mine = 2 * nbytes if self.rank == 0 else nbytes
        window = self._mpi.Win.Allocate_shared(mine, 1, comm=self._comm)
        self._windows.append(window)  # lives as long as the process: others may still read
        found = [np.frombuffer(window.Shared_query(q)[0], np.uint8) for q in range(self.size)]
        return [a[:nbytes] for a in found], found[0][nbytes : 2 * nbytes]

    def _to_all(self, parts: Any) -> None:
        mine = parts[self.rank]
        others = [None if q == self.rank else parts[q] for q in range(self.size)]
        self.exchange([None if q == self.rank else mine for q in range(self.size)], others)

    def exchange(self, sends: Sequence[Any], receives: Sequence[Any]) -> None:
        """Sends ``sends[q]`` to rank q and fills ``receives[q]`` from it.

        Args:
            sends: an array for each rank, None for nothing.
            receives: as ``sends``; both sides of a pair know what goes between them.

        Raises:
            RankLostError: if a rank has died, or has not come here before the deadline.
        """
        self.finish(self.begin(sends, receives, 1))

    def begin(
        self, sends: Sequence[Any], receives: Sequence[Any], tag: int
    ) -> list[tuple[int, Any]]:
        """Begins what :meth:`exchange` does.

        Args:
            sends: as there; to be left as they are until :meth:`finish` returns.
            receives: as there.
            tag: a number that both sides of a pair give to what belongs together.

        Returns:
            A rank and a request of MPI for each array.
        """
        byte = self._mpi.BYTE
        into = [
            (q, self._comm.Irecv([a.view(np.uint8), byte], q, tag))
            for q, a in enumerate(receives)
            if a is not None and a.size
        ]
        out = [
            (q, self._comm.Isend([a.view(np.uint8), byte], q, tag))
            for q, a in enumerate(sends)
            if a is not None and a.size
        ]
        return [*into, *out]

    def look(self, begun: Sequence[tuple[int, Any]]) -> bool:
        """Lets MPI go on with what was begun; whether all of it is done."""
        return bool(self._mpi.Request.Testall([request for _, request in begun]))

    def finish(self, begun: Sequence[tuple[int, Any]]) -> None:
        """Waits for what was begun; raises as :meth:`exchange`."""
        requests = [request for _, request in begun]
        if requests and not self._mpi.Request.Testall(requests):
            self._wait(requests, [q for q, _ in begun])

    def _wait(self, requests: list[Any], peers: list[int]) -> None:
        test = self._mpi.Request.Testall
        start = time.perf_counter()
        pause, looked = 2e-5, start
        while not test(requests):
            now = time.perf_counter()
            if now - start < _SPIN:
                os.sched_yield()
                continue
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            if now - looked < _LOOK_EVERY:
                continue
            looked = now
            missing = sorted(
                {q for q, request in zip(peers, requests, strict=True) if not request.Test()}
            )
            gone = [q for q in missing if self._is_gone(self.members[q])]
            if gone:
                raise self._lost(gone, "died", now - start)
            if missing and now - start > self.deadline:
                raise self._lost(missing, "not arrived", now - start)

    def _is_gone(self, member: Member) -> bool:
        """Whether a rank of this machine is no process any more (or one that nobody buried)."""
        if member.host != self._host or not member.process:
            return False
        try:
            stat = Path(f"/proc/{member.process}/stat").read_bytes()
        except FileNotFoundError:
            return Path("/proc/self/stat").exists()
        except OSError:
            return False
        return stat.rpartition(b")")[2].split()[0] in (b"Z", b"X")

    def _lost(self, ranks: Sequence[int], how: str, waited: float) -> RankLostError:
        names = ", ".join(str(self.members[q]) for q in ranks)
        last = ", ".join(sorted({self._heard[q] for q in ranks}))
        has = "has" if len(ranks) == 1 else "have"
        why = (
            ""
            if how == "died"
            else f" The deadline is {self.deadline:g} s: they may hang, be far slower, or have "
            "taken another way through the program; DataParallel(deadline=...) sets another."
        )
        return RankLostError(
            f"{names} {has} {how}: last heard of at {last}. Rank {self.rank} waited "
            f"{waited:.1f} s at {self.at}.{why} A fit(resume=path) goes on from its last file, on "
            "as many ranks as are left, to the same bits."
        )

    def note(self, places: Sequence[str]) -> None:
        """Notes where all ranks are."""
        self._heard = list(places)


def _has_shared_memory(nbytes: int) -> bool:
    """Whether the file system that shared memory lies in has room; containers have 64 MB there."""
    try:
        found = os.statvfs("/dev/shm")
    except OSError:
        return False
    return found.f_bavail * found.f_frsize > 2 * nbytes


class _World:
    ranks: Any = None


def ranks() -> Any:
    """The processes of this training; found when first asked for."""
    if _World.ranks is None:
        _World.ranks = _start()
    return _World.ranks


def rank() -> int:
    """The number of this process among those of the training, from 0.

    Rank 0 writes files and shows progress.

    Returns:
        0 in a process that no launcher of MPI has started.

    Example:
        >>> from handmill import distribution
        >>> distribution.rank()
        0
    """
    return int(ranks().rank)


def initialize(
    job_addresses: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Finds the processes that ``mpiexec`` has started; ``DataParallel()`` does it too.

    Threads are shared out: a process gets its part of the processor cores of its machine, unless
    ``HANDMILL_NUM_THREADS`` or ``config.set_num_threads`` said how many. All use the instruction
    set level that each of them has.

    Args:
        job_addresses: must be None: where processes run is said to ``mpiexec``.
        num_processes: how many there should be; None for what ``mpiexec`` says.
        process_id: which this one should be; None for what ``mpiexec`` says.

    Raises:
        ValueError: if the arguments do not fit what ``mpiexec`` has started.
        ImportError: if it started several and mpi4py is not installed.

    Example:
        >>> from handmill import distribution
        >>> distribution.initialize()
        >>> distribution.list_devices()
        ['cpu:0']
    """
    if job_addresses is not None:
        raise ValueError(
            f"initialize() got job_addresses={job_addresses!r}; expected None: mpiexec is told "
            "where processes run, e.g. mpiexec -hosts a,b -n 2 python train.py"
        )
    found = ranks()
    for name, wanted, have in (
        ("num_processes", num_processes, found.size),
        ("process_id", process_id, found.rank),
    ):
        if wanted is not None and wanted != have:
            raise ValueError(
                f"initialize() got {name}={wanted}, but of what mpiexec has started it is {have}; "
                f"start as many as you want with mpiexec -n, and leave {name} out"
            )


def _start() -> Any:
    if launched_ranks() == 1:
        return Alone()
    try:
        import mpi4py

        mpi4py.rc.thread_level = "serialized"
        from mpi4py import MPI
    except ImportError as error:
        raise ImportError(
            f"mpiexec has started {launched_ranks()} processes, but they cannot reach each other: "
            f"{error}. Install mpi4py and an MPI: pip install 'handmill[mpi]' mpich (the mpiexec "
            "that starts the processes must be of the same MPI)"
        ) from error
    except RuntimeError as error:
        raise ImportError(
            f"mpi4py finds no MPI library: {error}. Install one: pip install mpich"
        ) from error
    if MPI.COMM_WORLD.Get_size() != launched_ranks():
        raise RuntimeError(
            f"mpiexec says that it started {launched_ranks()} processes, but the MPI library of "
            f"mpi4py ({MPI.Get_library_version().split(chr(10))[0].strip()}) sees "
            f"{MPI.COMM_WORLD.Get_size()}: two MPIs are mixed. Use the mpiexec of that library"
        )
    found = MpiRanks(MPI.COMM_WORLD.Dup(), MPI)
    _share_machine(found)
    _end_together(MPI)
    return found


def _share_machine(found: MpiRanks) -> None:
    levels = [data.decode() for data in found.gather(config.isa().encode())]
    lowest = min(levels, key=_LEVELS.index)
    if config.has_kernels() and lowest != config.isa():
        config.set_isa(lowest)
    if "HANDMILL_NUM_THREADS" not in os.environ and "OMP_NUM_THREADS" not in os.environ:
        config.set_num_threads(max(config.num_threads() // found.local_size, 1))


def _end_together(mpi: Any) -> None:
    """Lets an error that ends this process end all: others would wait for it for ever."""
    before = sys.excepthook

    def ended(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        number = mpi.COMM_WORLD.Get_rank()
        text = "".join(traceback.format_exception(kind, error, where))
        sys.stdout.flush()
        sys.stderr.write(f"rank {number} on {socket.gethostname()}:\n{text}")
        sys.stderr.flush()
        if before is not sys.__excepthook__:
            before(kind, error, where)
        mpi.COMM_WORLD.Abort(LOST if isinstance(error, RankLostError) else 1)

    sys.excepthook = ended
