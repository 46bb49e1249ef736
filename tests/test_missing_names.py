"""Names that Keras has and handmill lacks: what an import, an attribute and hasattr say."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import handmill
from handmill import lazy

VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
TEXT = "handmill has no layers.TFSMLayer yet (Keras has). Supported names: docs/supported.md"

# What a program may do with a missing name. {many} imports so many names before it that the
# position of the missing one needs an EXTENDED_ARG prefix.
PROGRAM = """
import sys
import handmill, handmill.layers

def text(kind, code):
    try:
        exec(compile(code, "program", "exec"), {{}})
    except kind as error:
        assert type(error) is kind, type(error)
        return str(error)
    raise SystemExit("no error from: " + code)

expected = {expected!r}
assert text(ImportError, "from handmill.layers import TFSMLayer") == expected
assert text(ImportError, "from handmill.layers import Dense, TFSMLayer as Long") == expected
assert text(ImportError, {many!r}) == expected
assert text(AttributeError, "import handmill; handmill.layers.TFSMLayer") == expected
assert text(AttributeError, "import handmill; getattr(handmill.layers, 'TFSMLayer')") == expected
assert text(ImportError, '''
def inside():
    from handmill.layers import TFSMLayer
try:
    import missing_module
except ImportError:
    inside()
''') == expected
assert not hasattr(handmill.layers, "TFSMLayer")
assert getattr(handmill.layers, "TFSMLayer", 7) == 7
mistyped = text(AttributeError, "import handmill; handmill.layers.Dens")
assert mistyped.endswith("Did you mean 'Dense'?"), mistyped
assert "Did you mean 'Dense'" in text(ImportError, "from handmill.layers import Dens")
assert not hasattr(handmill.layers, "__wrapped__") and not hasattr(handmill, "__path_hooks__")
traced = []
sys.settrace(lambda *event: traced.append(event[1]))
try:
    assert text(ImportError, "from handmill.layers import TFSMLayer") == expected
finally:
    sys.settrace(None)
assert traced and callable(handmill.layers.Dense)
print("ok")
"""


def program() -> str:
    many = "from handmill.layers import Dense\n"
    many += "\n".join(f"name_{i} = {i}" for i in range(300))
    many += "\nfrom handmill.layers import TFSMLayer"
    return PROGRAM.format(expected=TEXT, many=many)


def run(python: str, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        (python, "-c", program()),
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def interpreter(version: str) -> str:
    """A working Python of that version, or a skip."""
    if version == "{}.{}".format(*sys.version_info[:2]):
        return sys.executable
    found = [shutil.which(f"python{version}")]
    if pyenv := shutil.which("pyenv"):
        root = subprocess.run((pyenv, "root"), capture_output=True, text=True, check=False).stdout
        found += map(str, sorted(Path(root.strip()).glob(f"versions/{version}.*/bin/python")))
    for python in filter(None, found):
        tried = subprocess.run((python, "-c", ""), capture_output=True, check=False)
        if tried.returncode == 0:
            return str(python)
    pytest.skip(f"no Python {version} here")


def stub(folder: Path) -> Path:
    """A package of handmill's name with its lazy.py and keras_names.py, but without NumPy."""
    package = folder / "handmill"
    (package / "layers").mkdir(parents=True)
    here = Path(lazy.__file__).parent
    for name in ("lazy.py", "keras_names.py"):
        shutil.copy(here / name, package / name)
    start = "from handmill.lazy import lazy_exports\n"
    exports = "__getattr__, __dir__ = lazy_exports(__name__, {})\n"
    (package / "__init__.py").write_text(start + exports.format({"layers": ".layers"}))
    (package / "layers" / "__init__.py").write_text(start + exports.format({"Dense": ".core"}))
    (package / "layers" / "core.py").write_text("class Dense: ...\n")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_every_python(version: str, tmp_path: Path) -> None:
    """lazy.py reads opcodes, which differ from Python to Python."""
    assert run(interpreter(version), tmp_path, PYTHONPATH=str(stub(tmp_path))) == "ok"


@pytest.mark.slow
def test_this_installation(tmp_path: Path) -> None:
    source = str(Path(handmill.__file__).parent.parent)
    before = os.environ.get("PYTHONPATH")
    path = os.pathsep.join(filter(None, (source, before)))
    assert run(sys.executable, tmp_path, PYTHONPATH=path) == "ok"


def test_every_missing_name_says_so() -> None:
    from handmill.keras_names import KERAS_NAMES

    for module, names in KERAS_NAMES.items():
        try:
            place = importlib.import_module(f"handmill.{module}" if module else "handmill")
        except ModuleNotFoundError:
            continue
        for name in names.split():
            if name not in dir(place) and not hasattr(place, name):
                dotted = f"{module}.{name}".lstrip(".")
                with pytest.raises(AttributeError, match=rf"handmill has no {dotted} yet"):
                    getattr(place, name)


def test_dir_lists_what_is_here() -> None:
    for module in ("layers", "metrics", "losses", "optimizers", "ops", "utils", "datasets"):
        place = getattr(handmill, module)
        lacking = [n for n in dir(place) if not n.startswith("_") and not hasattr(place, n)]
        assert lacking == [], module
