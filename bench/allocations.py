"""Counts calls of malloc and its kin in steps of ``fit``; Linux with glibc and a C compiler only.

    python bench/allocations.py

The script runs itself again with a small library in front of the C library's functions.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

COUNTER = r"""
#include <stddef.h>
static volatile long count;
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t), *__libc_memalign(size_t, size_t);
long hm_allocations(void) { return __atomic_load_n(&count, __ATOMIC_RELAXED); }
static void more(void) { __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED); }
void *malloc(size_t n) { more(); return __libc_malloc(n); }
void *calloc(size_t m, size_t n) { more(); return __libc_calloc(m, n); }
void *realloc(void *p, size_t n) { more(); return __libc_realloc(p, n); }
void *memalign(size_t a, size_t n) { more(); return __libc_memalign(a, n); }
void *aligned_alloc(size_t a, size_t n) { more(); return __libc_memalign(a, n); }
int posix_memalign(void **p, size_t a, size_t n) {
  more();
  *p = __libc_memalign(a, n);
  return *p ? 0 : 12;
}
"""
FEW, MANY = 50, 250


def count_allocations(workloads: Sequence[str]) -> dict[str, dict[str, float]] | None:
    """Calls of malloc for each workload; None where they cannot be counted.

    Returns:
        By workload, ``"step"``: for each further step of a fit; ``"plan"``: to make the plan of a
        training step for one more batch size.
    """
    compiler = shutil.which("cc")
    if not sys.platform.startswith("linux") or compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "counter.c", Path(folder) / "counter.so"
        source.write_text(COUNTER)
        command = (compiler, "-O1", "-shared", "-fPIC", str(source), "-o", str(library))
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            return None
        environment = dict(os.environ, LD_PRELOAD=str(library), HM_COUNT=",".join(workloads))
        done = subprocess.run(
            (sys.executable, __file__), env=environment, capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    found: dict[str, dict[str, float]] = json.loads(done.stdout)
    return found


def allocations_per_step(workload: str = "tiny") -> float | None:
    """Calls of malloc for each further step of a fit; None where they cannot be counted."""
    found = count_allocations([workload])
    return None if found is None else found[workload]["step"]


def count(workload: str) -> dict[str, float]:
    """In the process where malloc is counted."""
    import numpy as np

    from handmill.inspection.benchmarks.handmill_jobs import make_model
    from handmill.inspection.benchmarks.workloads import KNOWN

    warnings.simplefilter("ignore")
    counter = ctypes.CDLL(None).hm_allocations
    counter.restype = ctypes.c_long
    w = KNOWN[workload]
    x, y = (np.resize(a, (w.batch * MANY, *a.shape[1:])) for a in w.data())
    model = make_model(w)

    def of_fit(steps: int) -> int:
        n = steps * w.batch
        before = counter()
        model.fit(x[:n], y[:n], batch_size=w.batch, epochs=1, verbose=0, shuffle=False)
        return counter() - before

    of_fit(FEW)
    of_fit(MANY)
    few = min(of_fit(FEW) for _ in range(3))
    many = min(of_fit(MANY) for _ in range(3))

    function, _ = model.step_to_compare(x, y)
    program, _, _ = function.signature(function.specs_of([x, y])).program(feeds=False)

    def of_plan() -> int:
        before = counter()
        program.specialize([w.batch])
        return counter() - before

    return {"step": (many - few) / (MANY - FEW), "plan": min(of_plan() for _ in range(3))}


if __name__ == "__main__":
    if "HM_COUNT" in os.environ:
        print(json.dumps({name: count(name) for name in os.environ["HM_COUNT"].split(",")}))
    else:
        print(f"{allocations_per_step()} allocations a step")
