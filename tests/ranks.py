"""Scripts run by several processes of MPI, where there is one."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from processes import environment

BESIDE = Path(sys.executable).parent / "mpiexec"
MPIEXEC = str(BESIDE) if BESIDE.is_file() else shutil.which("mpiexec")
HAS_MPI = MPIEXEC is not None and importlib.util.find_spec("mpi4py") is not None

needs_mpi = pytest.mark.skipif(not HAS_MPI, reason="no mpi4py with an MPI")

HEAD = """
import hashlib, json, os, sys, time
from pathlib import Path
import numpy as np
import handmill as keras
from handmill import distribution
import handmill.distribution.ranks
L = keras.layers

def digest(model):
    state = [*model.variables, *model.optimizer.variables]
    return hashlib.sha256(b"".join(v.numpy().tobytes() for v in state)).hexdigest()[:16]

def say(**found):
    Path(sys.argv[1], f"said-{distribution.rank()}.json").write_text(json.dumps(found))

"""


def of_rank(threads: int = 1) -> dict[str, str]:
    """The surroundings of a rank with some threads."""
    return environment(HANDMILL_NUM_THREADS=str(threads), PYTHONWARNINGS="ignore")


def on_ranks(
    ranks: int, body: str, folder: Path, *options: str, threads: int = 1, launch: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a script on some ranks; it gets ``folder`` as its first argument."""
    script = folder / "script.py"
    script.write_text(HEAD + body)
    if launch:
        start = [sys.executable, "-m", "handmill", "launch", "-n", str(ranks), *options]
    else:
        assert MPIEXEC is not None
        start = [MPIEXEC, *options, "-n", str(ranks), sys.executable]
    return subprocess.run(
        (*start, str(script), str(folder)),
        cwd=folder,
        env=of_rank(threads),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def said(folder: Path, ranks: int) -> list[dict[str, Any]]:
    """What each rank said."""
    return [json.loads((folder / f"said-{q}.json").read_text()) for q in range(ranks)]
