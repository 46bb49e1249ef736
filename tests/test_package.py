"""The package as a guest: small, quick to import, and leaving its host's state alone."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import io
import json
import re
import statistics
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from processes import environment

pytestmark = pytest.mark.alone

WHEEL_BYTES = 4_300_000
IMPORT_MILLISECONDS = 30.0

# Dependencies and extras are imported when a call first needs them.
LAZY = (
    "PIL", "tqdm", "safetensors", "h5py", "matplotlib", "sklearn", "scipy", "ml_dtypes", "onnx",
    "cv2", "optuna", "tensorboard", "tokenizers", "soundfile", "mpi4py", "torch", "keras", "jax",
    "pandas", "polars", "uvicorn",
)  # fmt: skip


def run_fresh(code: str, *options: str, cwd: Path) -> str:
    """Run code in a new interpreter, away from the source tree, and return what it prints."""
    done = subprocess.run(
        (sys.executable, *options, "-c", code),
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def distribution() -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution("handmill")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("handmill runs from the source tree and is not installed")


def test_wheel_is_small() -> None:
    """The installed files, packed as a wheel packs them, stay within the budget."""
    files = distribution().files
    assert files
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as wheel:
        for file in files:
            if file.suffix != ".pyc":
                wheel.write(str(file.locate()), str(file))
    assert packed.tell() <= WHEEL_BYTES


def test_import_is_quick(tmp_path: Path) -> None:
    distribution()
    code = (
        "import numpy, time; start = time.perf_counter(); import handmill;"
        "print((time.perf_counter() - start) * 1e3)"
    )
    run_fresh(code, cwd=tmp_path)  # writes the bytecode
    medians = []
    for _ in range(3):  # another process may take the core for one round
        times = [float(run_fresh(code, cwd=tmp_path)) for _ in range(7)]
        medians.append(statistics.median(times))
        if medians[-1] <= IMPORT_MILLISECONDS:
            break
    assert min(medians) <= IMPORT_MILLISECONDS, medians


def test_import_is_lazy(tmp_path: Path) -> None:
    code = (
        "import sys, json, handmill;"
        f"print(json.dumps([name for name in {LAZY!r} if name in sys.modules]))"
    )
    assert json.loads(run_fresh(code, cwd=tmp_path)) == []


def test_import_raises_no_warning(tmp_path: Path) -> None:
    assert run_fresh("import numpy, handmill", "-W", "error", cwd=tmp_path) == ""


def test_import_keeps_subnormal_numbers(tmp_path: Path) -> None:
    """No flush-to-zero mode, in this thread or in one started later."""
    code = """
import threading
import numpy as np, handmill

def halve():
    x = np.full(64, 1e-40, np.float32)
    assert (x * np.float32(0.5) != 0).all()
    assert np.float32(1e-45) != 0 and np.finfo(np.float32).smallest_subnormal != 0
    found.append(True)

found = []
halve()
thread = threading.Thread(target=halve)
thread.start()
thread.join()
print(len(found))
"""
    assert run_fresh(code, "-W", "error", cwd=tmp_path).strip() == "2"


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads under /proc")
def test_import_leaves_the_process_alone(tmp_path: Path) -> None:
    code = """
import decimal, locale, logging, os, random, signal, sys, threading, warnings
import numpy as np

def state():
    return {
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "signal handlers": {s: signal.getsignal(s) for s in signal.valid_signals()},
        "floating-point errors": np.geterr(),
        "print options": np.get_printoptions(),
        "random state": random.getstate(),
        "NumPy random state": repr(np.random.get_state()),
        "warning filters": list(warnings.filters),
        "locale": locale.setlocale(locale.LC_ALL),
        "hooks": (sys.excepthook, sys.displayhook, threading.excepthook),
        "log handlers": (list(logging.root.handlers), logging.root.level),
        "recursion limit": sys.getrecursionlimit(),
        "switch interval": sys.getswitchinterval(),
        "affinity": os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None,
        "decimal context": repr(decimal.getcontext()),
        "threads": len(os.listdir("/proc/self/task")),
        "files": len(os.listdir("/proc/self/fd")),
        "import path": list(sys.path),
    }

before = state()
import handmill
after = state()
print([name for name in before if before[name] != after[name]])
"""
    assert run_fresh(code, cwd=tmp_path).strip() == "[]"


def test_version_matches_metadata() -> None:
    import handmill

    assert handmill.__version__ == distribution().version


# The floors of the house, from the ground up: a file imports, where it is loaded, from its own room
# and from floors below. (What a function imports when it is called is another matter.)
FLOORS = (
    "keras_names",
    "lazy errors naming files console devices arguments",
    "tree dtype_policies as_keras",
    "config mixed_precision ir",
    "primitives",
    "runtime",
    "ops random saving",
    "session activations initializers constraints quantizers regularizers data losses optimizers "
    "callbacks",
    "metrics layers datasets preprocessing",
    "models",
    "inspection distribution",
    "applications strategy explanation selfsup hub exchange",
    "compress distillation",
    "utils audio backend plot serving sklearn wrappers",
    "cli",
    "__init__ __main__",
)
FLOOR = {room: i for i, floor in enumerate(FLOORS) for room in floor.split()}
PACKAGE = Path(__file__).resolve().parent.parent / "python" / "handmill"

# Folders that hold nothing but names which Keras has there.
FACES = ("datasets", "preprocessing", "utils")
MOST_ROOMS = 24

checkout = pytest.mark.skipif(not PACKAGE.is_dir(), reason="no source tree beside the tests")


def sources() -> dict[str, Path]:
    """Dotted name within the package -> file; a package is called by its ``__init__``."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def loaded_imports(path: Path) -> Iterator[str]:
    """What a file imports from the package when it is loaded, within the package."""
    waiting: list[ast.stmt] = list(ast.parse(path.read_text("utf-8")).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "handmill":
            inside = (node.module or "").split(".")[1:]
            yield from (".".join([*inside, alias.name]) for alias in node.names)
        elif isinstance(node, ast.Import):
            names = (alias.name.split(".") for alias in node.names)
            yield from (".".join(name[1:]) for name in names if name[0] == "handmill")
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += [n for n in ast.iter_child_nodes(node) if isinstance(n, ast.stmt)]


def imported_files() -> dict[str, set[str]]:
    files = sources()

    def file_of(name: str) -> str | None:
        for found in (name, f"{name}.__init__".lstrip("."), name.rpartition(".")[0]):
            if found in files:
                return found
        package = f"{name.rpartition('.')[0]}.__init__".lstrip(".")
        return package if package in files else None

    graph = {}
    for name, path in files.items():
        found = {file_of(target) for target in loaded_imports(path)}
        graph[name] = {f for f in found if f is not None and f != name}
    return graph


@pytest.mark.slow
@checkout
def test_imports_come_from_floors_below() -> None:
    upward = []
    for name, targets in imported_files().items():
        room = name.split(".")[0]
        for target in targets - {"__init__"}:  # `from handmill import _core`
            other = target.split(".")[0]
            if other != room and FLOOR[other] >= FLOOR[room]:
                upward.append(f"{name} (floor {FLOOR[room]}) -> {target} (floor {FLOOR[other]})")
    assert upward == []


@pytest.mark.slow
@checkout
def test_no_circles_of_files() -> None:
    graph = {name: targets - {"__init__"} for name, targets in imported_files().items()}
    # A package that hands on what its own files define is no circle.
    for name, targets in graph.items():
        if not name.endswith("__init__"):
            graph[name] = {t for t in targets if t != f"{name.rpartition('.')[0]}.__init__"}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


@checkout
def test_there_are_few_rooms() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    rooms -= set(FACES)
    assert len(rooms) <= MOST_ROOMS, sorted(rooms)


@checkout
@pytest.mark.parametrize("face", FACES)
def test_faces_define_nothing(face: str) -> None:
    for path in (PACKAGE / face).rglob("*.py"):
        body = ast.parse(path.read_text("utf-8")).body
        assert not [n for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef)], path


@pytest.mark.parametrize(
    "name",
    (
        "layers",
        "models",
        "optimizers",
        "callbacks",
        "losses",
        "metrics",
        "utils",
        "saving",
        "datasets",
    ),
)
def test_star_imports_bring_every_public_name(name):
    module = importlib.import_module(f"handmill.{name}")
    found: dict[str, object] = {}
    exec(f"from handmill.{name} import *", found)
    assert set(dir(module)) <= set(found)
    assert "lazy_exports" not in found


def test_no_module_takes_the_place_of_a_public_name() -> None:
    """Importing ``losses/hinge.py`` would make ``losses.hinge``, the function, a module."""
    package = Path(importlib.import_module("handmill").__file__ or "").parent
    taken = []
    for init in sorted(package.rglob("__init__.py")):
        for name, where in re.findall(r'"(\w+)": "([\w.:]+)"', init.read_text("utf-8")):
            is_module = (init.parent / f"{name}.py").exists() or (init.parent / name).is_dir()
            if is_module and where.rpartition(".")[2] != name:
                taken.append(f"{init.parent.name}.{name}")
    assert taken == []
