"""``handmill launch``: a training script on several processes, started again if one is lost."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from handmill.distribution.board import Board
from handmill.distribution.ranks import LOST

_PROCESS = re.compile(rb"(?:\bPID |with PID )(\d+)")
"""How the launchers of MPICH, Intel MPI and Open MPI name a process that has died."""

_TAIL = 1 << 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds how many, and the script."""
    parser.add_argument("-n", dest="ranks", type=int, required=True, help="number of processes")
    parser.add_argument(
        "--restarts",
        type=int,
        default=0,
        help="how often to start again with the ranks that are left when one is lost (default 0); "
        "the script goes on where it was if it trains with fit(resume=...)",
    )
    parser.add_argument("--mpiexec", help="the launcher; default: that of the environment")
    parser.add_argument("script", help="a Python file that calls distribution.set_distribution()")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="passed on to the script")


def run(options: argparse.Namespace) -> int:
    """Runs the script; its status is that of the last start, ``LOST`` if a rank was lost in it."""
    problem = _problem(options)
    mpiexec = options.mpiexec or _mpiexec()
    if not problem and mpiexec is None:
        problem = "no mpiexec found: pip install 'handmill[mpi]' mpich, or pass --mpiexec PATH"
    if problem or mpiexec is None:
        print(f"handmill launch: {problem}", file=sys.stderr)
        return 2
    ranks = options.ranks
    for left in range(options.restarts, -1, -1):
        status, lost = _start(mpiexec, ranks, options.script, options.arguments)
        if status == 0 or lost is None:
            return status
        print(f"handmill launch: {lost}", file=sys.stderr)
        if left:
            ranks = max(ranks - 1, 1)
            print(
                f"handmill launch: starting again on {ranks} of {options.ranks} ranks "
                f"({left - 1} more restarts)",
                file=sys.stderr,
                flush=True,
            )
    return LOST


def _problem(options: argparse.Namespace) -> str:
    if options.ranks < 1:
        return f"-n got {options.ranks}; expected at least 1"
    if options.restarts < 0:
        return f"--restarts got {options.restarts}; expected at least 0"
    if not Path(options.script).is_file():
        return f"no file {options.script!r}"
    return ""


def _mpiexec() -> str | None:
    beside = Path(sys.executable).parent / "mpiexec"  # of a wheel, which mpi4py finds first
    return str(beside) if beside.is_file() else shutil.which("mpiexec")


def _start(mpiexec: str, ranks: int, script: str, arguments: list[str]) -> tuple[int, str | None]:
    """Starts the ranks once; returns the status, and which rank was lost if one was."""
    with tempfile.TemporaryDirectory(prefix="handmill-") as folder:
        path = Path(folder) / "board"
        board = Board.create(path, ranks)
        worker = [sys.executable, "-m", "handmill.distribution.worker", str(path)]
        command = [mpiexec, *_bindings(mpiexec), "-n", str(ranks), *worker, script, *arguments]
        said = [b"", b""]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            pairs = enumerate(((process.stdout, sys.stdout), (process.stderr, sys.stderr)))
            readers = [
                threading.Thread(target=_pass_on, args=(source, target, said, i))
                for i, (source, target) in pairs
            ]
            for reader in readers:
                reader.start()
            try:
                status = process.wait()
            except KeyboardInterrupt:
                process.send_signal(signal.SIGINT)
                status = process.wait()
            for reader in readers:
                reader.join()
        notes = board.notes()
        board.close()
    return status, _lost(status, b"".join(said), notes)


def _bindings(mpiexec: str) -> list[str]:
    """What keeps Open MPI from giving each of two ranks one core, and from refusing more."""
    asked = subprocess.run((mpiexec, "--version"), capture_output=True, text=True, check=False)
    is_open = "Open MPI" in asked.stdout or "OpenRTE" in asked.stdout
    return ["--bind-to", "none", "--map-by", ":OVERSUBSCRIBE"] if is_open else []


def _pass_on(source: Any, target: Any, said: list[bytes], place: int) -> None:
    """Passes on what the ranks say, and keeps the end of it."""
    while part := os.read(source.fileno(), 1 << 12):
        target.write(part.decode(errors="replace"))
        target.flush()
        said[place] = (said[place] + part)[-_TAIL:]


def _lost(status: int, said: bytes, notes: list[dict[str, object]]) -> str | None:
    if status == 0:
        return None
    if status == LOST:
        return "a rank was lost, see above"
    is_signal = status < 0 or status in (9, 11, 6, 7, 15) or status > 128
    for number in map(int, _PROCESS.findall(said)):
        for rank, note in enumerate(notes):
            if note.get("process") == number and is_signal:
                return (
                    f"rank {rank} (process {number} on {note['host']}) has died at "
                    f"{note['place']}: status {status}"
                )
    if is_signal:
        places = "; ".join(f"rank {q} at {note.get('place')}" for q, note in enumerate(notes))
        return f"a rank has died (status {status}); {places}"
    return None
