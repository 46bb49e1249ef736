"""Docstrings and pages: their examples run, their links lead somewhere, their names exist."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import handmill
from handmill import config

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs/guides").glob("*.md")]
)

checkout = pytest.mark.skipif(
    not (ROOT / "README.md").is_file(), reason="no pages beside the tests"
)


def modules() -> list[str]:
    found = [m.name for m in pkgutil.walk_packages(handmill.__path__, "handmill.")]
    return ["handmill", *(n for n in found if n not in ("handmill.__main__", "handmill._core"))]


@pytest.mark.slow
@pytest.mark.skipif(not config.has_kernels(), reason="examples show what kernels give")
@pytest.mark.parametrize("name", modules())
def test_examples_in_docstrings(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if name.startswith(("handmill.models.estimators.", "handmill.exchange.sklearn")):
        pytest.importorskip("sklearn", minversion="1.6", reason="no scikit-learn")
    if name.startswith("handmill.inspection.") and name.endswith("plots"):
        pytest.importorskip("matplotlib", reason="no Matplotlib")
    if name == "handmill.saving.file_editor":
        pytest.importorskip("h5py", reason="no h5py")
    module = importlib.import_module(name)
    text = inspect.getdoc(module)
    assert text, "no docstring"
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, name):
        if test.globs.get("__name__") == name:  # not what the module imports
            runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
            assert runner.run(test).failed == 0, test.name


def test_public_names_have_docstrings() -> None:
    """Every class and function of Keras's that is here says what it does."""
    lacking = []
    for name, (here, _) in supported().public_names().items():
        if name == "wrappers" and importlib.util.find_spec("sklearn") is None:
            continue
        module = supported().module_of(name)
        for attribute in here:
            value = getattr(module, attribute)
            if callable(value) and not inspect.getdoc(value):
                lacking.append(f"{name}.{attribute}")
    assert lacking == []


# Pages.


def examples() -> Iterator[tuple[Path, list[str]]]:
    for page in PAGES:
        found = re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
        if found:
            yield page, found


PACKAGES = {
    "sklearn": "sklearn",
    "handmill.wrappers": "sklearn",
    ".keras": "h5py",
    "plot.": "matplotlib",
    "save_img": "PIL",
}
"""What stands in an example -> the package that it needs."""


def is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


@pytest.mark.slow
@checkout
@pytest.mark.parametrize(
    ("page", "codes"), [pytest.param(*e, id=str(e[0].relative_to(ROOT))) for e in examples()]
)
def test_examples_in_pages(
    page: Path, codes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The examples of a page run in order, as a reader types them, into one interpreter."""
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "page"}
    for i, code in enumerate(codes):
        if any(word in code and not is_installed(name) for word, name in PACKAGES.items()):
            continue  # the page says what it needs
        exec(compile(code, f"{page.name}, example {i + 1}", "exec"), namespace)


@checkout
def test_relative_links_resolve() -> None:
    broken = [
        f"{page.name}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))
        if not re.match(r"[a-z]+:", target)
        and not (page.parent / target.partition("#")[0]).exists()
    ]
    assert broken == []


@checkout
def test_names_in_pages_exist() -> None:
    """`handmill.x.y`, and `config.x` in code quotes, are names; files in code quotes are files."""
    missing = []
    tops = "|".join(n for n in dir(handmill) if inspect.ismodule(getattr(handmill, n)))
    for page in PAGES:
        text = page.read_text("utf-8")
        if page.name == "supported.md":  # lists what is missing; another test holds it right
            continue
        names = re.findall(r"\bhandmill\.([A-Za-z_][\w.]*\w)", text)
        names += re.findall(rf"`(?:keras\.)?((?:{tops})\.[A-Za-z_][\w.]*\w)(?=[`(])", text)
        names = [n for n in names if not n.endswith((".py", ".md", ".cpp", ".h", ".json"))]
        missing += [f"{page.name}: {n}" for n in names if not exists(n)]
    assert missing == []


def exists(name: str) -> bool:
    value: object = handmill
    for part in name.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            return False
        except ImportError:  # of a package that is not installed
            return part in dir(value)
    return True


@checkout
def test_files_named_in_pages_exist() -> None:
    missing = []
    pattern = r"(?<![\w/.])((?:examples|tools|bench|tests|docs|csrc|\.ci)/[\w./<>*-]*\w)"
    for page in PAGES:
        for name in re.findall(pattern, page.read_text("utf-8")):
            if not (ROOT / name).exists() and not any(c in name for c in "<*{"):
                missing.append(f"{page.name}: {name}")
    assert missing == []


# What is supported, held against Keras itself.


def supported() -> ModuleType:
    if "make_supported" not in sys.modules:
        path = ROOT / "tools" / "make_supported.py"
        spec = importlib.util.spec_from_file_location("make_supported", path)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules["make_supported"] = module
        spec.loader.exec_module(module)
    return sys.modules["make_supported"]


@checkout
def test_supported_page_is_current() -> None:
    tool = supported()
    found = tool.PAGE.read_text("utf-8")
    assert found == tool.page(), "run python tools/make_supported.py"


@pytest.fixture(scope="module")
def keras() -> ModuleType:
    if importlib.util.find_spec("keras") is None:
        pytest.skip("Keras is the oracle")
    return supported().keras()


# Arguments besides Keras's, each for a reason.
EXTRA = {
    "Variable": "its penalty and its condition; Keras keeps them with what it makes by add_weight",
    "preprocessing.image_dataset_from_directory": "skip_corrupt, cache_bytes: Keras has neither",
    "losses.SparseCategoricalCrossentropy": "label_smoothing: Keras has it for one-hot rows only",
    "losses.sparse_categorical_crossentropy": "label_smoothing",
    "metrics.sparse_categorical_crossentropy": "label_smoothing: it is the same function",
    "layers.Embedding": "sparse_rows: Keras walks the whole table in each step",
    "layers.Pipeline": "sample_once: Keras samples for each layer",
    "layers.MelSpectrogram": "convention: that of librosa or torchaudio, which differ from Keras's",
    "distillation.Distiller": "cache_teacher: Keras asks the teacher again in each epoch",
    "distillation.FeatureDistillation": "projection: Keras refuses features of other widths",
    "quantizers.serialize": "quantizer: Keras calls it initializer",
    "distribution.DataParallel": "shards, deadline: Keras's runtimes decide on these",
}


@checkout
def test_arguments_are_those_of_keras(keras: ModuleType) -> None:
    differences = supported().differences()
    assert [d.name for d in differences if d.order] == []
    public = [d for d in differences if not d.name.startswith(("tree.", "saving.", "utils."))]
    assert [d.name for d in public if d.defaults] == []
    assert {d.name for d in public if d.extra} <= set(EXTRA)


@checkout
def test_list_of_names_is_that_of_keras(keras: ModuleType) -> None:
    from handmill.keras_names import KERAS_METHODS, KERAS_NAMES, KERAS_VERSION

    if keras.__version__ != KERAS_VERSION:
        pytest.skip(f"the list is that of Keras {KERAS_VERSION}, here is {keras.__version__}")
    for module, names in KERAS_NAMES.items():
        place = importlib.import_module(f"keras.{module}" if module else "keras")
        absent = [n for n in names.split() if not hasattr(place, n)]
        assert absent == [], module
        exported = {n for n in dir(place) if not n.startswith("_")} - {"src"}
        assert exported - set(names.split()) <= set(), module
    for kind, methods in KERAS_METHODS.items():
        of_layers = KERAS_METHODS["Layer"] if kind == "Model" else ""
        found = set(f"{methods} {of_layers}".split())
        cls = getattr(keras, kind)
        public = {n for n in dir(cls) if not n.startswith("_") and callable(getattr(cls, n))}
        assert found == public, kind


@checkout
def test_names_beyond_keras_exist() -> None:
    for module, names in supported().OWN.items():
        for name in names.split():
            assert exists(f"{module}.{name}".lstrip(".")), name
