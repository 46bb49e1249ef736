"""What a script uses of Keras, read from its source: names, strings, methods, kinds of files."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator, Mapping

from handmill.as_keras import PREFIXES
from handmill.keras_names import KERAS_METHODS, KERAS_NAMES

ROOTS = (*PREFIXES, "handmill")

TENSORFLOW = "tensorflow"

# Arguments that take names -> the module in which the name is looked up.
_NAMED_BY_STRINGS = {
    "loss": "losses",
    "metrics": "metrics",
    "weighted_metrics": "metrics",
    "optimizer": "optimizers",
    "activation": "activations",
    "recurrent_activation": "activations",
}
_ENDINGS = {
    "_initializer": "initializers",
    "_regularizer": "regularizers",
    "_constraint": "constraints",
}
_COMPILE = ("optimizer", "loss", "loss_weights", "metrics", "weighted_metrics")
_BY_SHAPES = ("accuracy", "acc", "crossentropy", "ce")  # what a metric's name stands for: shapes

_SUFFIXES = (".keras", ".weights.h5")
_OLD_SUFFIXES = (".h5", ".hdf5")  # of many programs: Keras's where Keras is given the file
_FILE_CALLS = (
    "save", "save_weights", "load_weights", "save_model", "load_model", "ModelCheckpoint",
)  # fmt: skip

_MAKE_MODELS = ("load_model", "clone_model", "model_from_json")


def keras_uses(source: str | bytes) -> dict[str, int]:
    """What ``source`` uses of Keras, with the first line of each, by line.

    Public names as ``layers.Dense``; names given as strings as ``metrics "auc"``; methods that
    handmill lacks, called or overridden, as ``Model.export``; suffixes of files as ``files
    ".keras"``; what is TensorFlow's beside Keras as ``tensorflow.data``.

    Example:
        >>> keras_uses("from keras.layers import Dense; import keras; keras.Model")
        {'Model': 1, 'layers.Dense': 1}
    """
    finder = _Finder()
    finder.read(ast.parse(source))
    used = finder.used
    modules = {name for name in used if any(other.startswith(name + ".") for other in used)}
    modules -= set(KERAS_METHODS)  # classes, which have methods
    kept = [(name, line) for name, line in used.items() if name not in modules]
    return dict(sorted(kept, key=lambda item: (item[1], item[0])))


def is_supported(use: str) -> bool:
    """Whether handmill has what :func:`keras_uses` found."""
    if use.startswith("files "):  # all of Keras's kinds are read and written
        return True
    if use.startswith(f"{TENSORFLOW}."):
        return False
    module, quote, text = use.partition(' "')
    if quote:
        return _is_known(module, text[:-1])
    value: object = importlib.import_module("handmill")
    path = "handmill"
    for part in use.split("."):
        path += "." + part
        try:
            value = getattr(value, part)
        except AttributeError:
            try:
                value = importlib.import_module(path)
            except ImportError:
                return False
    return True


def _is_known(module: str, name: str) -> bool:
    if module == "metrics" and name.lower() in _BY_SHAPES[:2]:
        return True
    try:
        importlib.import_module(f"handmill.{module}").get(name)
    except ValueError:
        return False
    except TypeError:  # a class that needs arguments
        return True
    return True


def _is_name_of_keras(module: str, name: str) -> bool:
    plain = name.replace("_", "").lower()
    names = (n.replace("_", "").lower() for n in KERAS_NAMES[module].split())
    return plain in names or (module == "metrics" and name.lower() in _BY_SHAPES)


class _Finder(ast.NodeVisitor):
    """Collects what one script uses.

    Attributes:
        aliases: local name -> what it stands for, below Keras ("" is keras itself,
            "tensorflow" is the package that holds it).
        kinds: local class, or variable that holds an object -> ``"Model"``, ``"Layer"``, ...
        used: what :func:`keras_uses` names -> first line.
    """

    def __init__(self) -> None:
        self.aliases: dict[str, str] = {}
        self.kinds: dict[str, str] = {}
        self.used: dict[str, int] = {}

    def read(self, tree: ast.Module) -> None:
        """Collects from imports and assignments first, since they say what names mean."""
        self.visit(tree)
        texts = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                self.use(self.dotted(node), node.lineno)
                self._use_of_method(self.kind_of(node.value), node.attr, node.lineno)
            elif isinstance(node, ast.Call):
                self._read_call(node)
            elif isinstance(node, ast.ClassDef):
                self._read_class(node)
            elif isinstance(node, ast.Constant) and id(node) not in texts:
                self._use_of_file(node, _SUFFIXES)

    def use(self, name: str | None, line: int) -> None:
        """Records a use."""
        if name:
            self.used[name] = min(line, self.used.get(name, line))

    # What names stand for.

    def visit_Import(self, node: ast.Import) -> None:
        for name in node.names:
            below = _below_keras(name.name)
            top = name.name.partition(".")[0]
            if below is not None:
                self.use(below, name.lineno)
                whole = TENSORFLOW if top == TENSORFLOW else ""
                self.aliases[name.asname or top] = below if name.asname else whole
            elif top == TENSORFLOW:
                if name.name != top:
                    self.use(_within_tensorflow(name.name.split(".")[1:]), name.lineno)
                self.aliases[name.asname or top] = name.name if name.asname else top

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level or not node.module:
            return
        below = _below_keras(node.module)
        for name in node.names:
            local = name.asname or name.name
            if below is not None:
                dotted = ".".join(part for part in (below, name.name) if part)
                self.use(below if name.name == "*" else dotted, name.lineno)
                self.aliases[local] = dotted
            elif node.module == TENSORFLOW and name.name == "keras":
                self.aliases[local] = ""
            elif node.module.partition(".")[0] == TENSORFLOW:
                path = [*node.module.split(".")[1:], name.name]
                self.use(_within_tensorflow(path), name.lineno)
                self.aliases[local] = ".".join((TENSORFLOW, *path))

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._assign(target, node.value)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._assign(node.target, node.value)
        self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for base in node.bases:
            kind = self.kind_of_class(base)
            if kind is not None:
                self.kinds[node.name] = kind
        self.generic_visit(node)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        name = _plain(target)
        if name is None:
            return
        if isinstance(value, ast.Call):
            kind = self.kind_of_class(value.func)
            if kind is not None:
                self.kinds[name] = kind
        elif isinstance(value, ast.Name | ast.Attribute) and "." not in name:
            meant = self.dotted(value)  # layers = keras.layers
            if meant is not None and not meant[:1].isupper():
                self.aliases[name] = meant

    def dotted(self, node: ast.expr) -> str | None:
        """``keras.layers.Dense`` -> ``layers.Dense``; None where no name of Keras is meant."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.insert(0, node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id not in self.aliases:
            return None
        base = self.aliases[node.id]
        if base.partition(".")[0] == TENSORFLOW:
            parts = [*base.split(".")[1:], *parts]
            if parts[:1] != ["keras"]:
                return _within_tensorflow(parts)
            base, parts = "", parts[1:]
        for i, part in enumerate(parts := [*base.split("."), *parts] if base else parts):
            if part[:1].isupper():  # a class; what follows is an attribute of it
                return ".".join(parts[: i + 1])
        return ".".join(parts)

    def kind_of_class(self, node: ast.expr) -> str | None:
        """What kind of object a class or function of Keras makes, or one of the script's own."""
        if isinstance(node, ast.Name) and node.id in self.kinds:
            return self.kinds[node.id]
        name = self.dotted(node)
        if name is None:
            return None
        module, _, last = name.rpartition(".")
        if last in ("Model", "Sequential", "Functional", *_MAKE_MODELS):
            return "Model"
        if not last[:1].isupper():
            return None
        by_module = {"layers": "Layer", "metrics": "Metric", "optimizers": "Optimizer"}
        return by_module.get(module, last if last in KERAS_METHODS and not module else None)

    def kind_of(self, node: ast.expr) -> str | None:
        """What kind of object a variable holds."""
        name = _plain(node)
        return None if name is None else self.kinds.get(name)

    # What is used.

    def _read_class(self, node: ast.ClassDef) -> None:
        kind = self.kinds.get(node.name)
        for inside in node.body:
            if isinstance(inside, ast.FunctionDef):
                self._use_of_method(kind, inside.name, inside.lineno)
        for part in ast.walk(node):
            if isinstance(part, ast.Attribute) and _plain(part.value) in ("self", "super()"):
                self._use_of_method(kind, part.attr, part.lineno)

    def _use_of_method(self, kind: str | None, name: str, line: int) -> None:
        if kind is None:
            return
        layers = KERAS_METHODS["Layer"] if kind == "Model" else ""
        use = f"{kind}.{name}"
        if name in f"{KERAS_METHODS[kind]} {layers}".split() and not is_supported(use):
            self.use(use, line)

    def _read_call(self, node: ast.Call) -> None:
        for argument, value in self._arguments(node):
            module = _NAMED_BY_STRINGS.get(argument)
            for ending, other in _ENDINGS.items():
                if argument.endswith(ending):
                    module = other
            if module is not None:
                for text, line in _strings(value):
                    if _is_name_of_keras(module, text):
                        self.use(f'{module} "{text}"', line)
        called = node.func.attr if isinstance(node.func, ast.Attribute) else _plain(node.func)
        if called in _FILE_CALLS:
            for part in ast.walk(node):
                if isinstance(part, ast.Constant):
                    self._use_of_file(part, _OLD_SUFFIXES)

    def _arguments(self, node: ast.Call) -> Iterator[tuple[str, ast.expr]]:
        """The arguments of a call of something of Keras, by name."""
        is_compile = isinstance(node.func, ast.Attribute) and node.func.attr == "compile"
        name = self.dotted(node.func)
        if name is None and not is_compile:
            return
        names = _COMPILE if is_compile else _parameters(name or "")
        yield from zip(names, node.args, strict=False)
        yield from ((k.arg, k.value) for k in node.keywords if k.arg is not None)

    def _use_of_file(self, node: ast.Constant, suffixes: tuple[str, ...]) -> None:
        name = str(node.value)
        if name.endswith(".weights.h5"):
            suffixes = (".weights.h5",)
        for suffix in suffixes:
            if name.endswith(suffix):
                self.use(f'files "{suffix}"', node.lineno)


def _parameters(name: str) -> tuple[str, ...]:
    """The arguments of handmill's function or class of that name, in order."""
    value: object = importlib.import_module("handmill")
    try:
        for part in name.split("."):
            value = getattr(value, part)
        parameters: Mapping[str, inspect.Parameter] = (
            inspect.signature(value).parameters if callable(value) else {}
        )
    except (AttributeError, TypeError, ValueError):
        return ()
    return tuple(parameters)


def _strings(node: ast.expr) -> Iterator[tuple[str, int]]:
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            yield node.value, node.lineno
    elif isinstance(node, ast.List | ast.Tuple):
        for item in node.elts:
            yield from _strings(item)
    elif isinstance(node, ast.Dict):
        for item in node.values:
            yield from _strings(item)


def _plain(node: ast.expr) -> str | None:
    """``model`` or ``self.model`` as text; ``super()`` too."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super":
        return "super()"
    if isinstance(node, ast.Attribute):
        inside = _plain(node.value)
        return None if inside is None else f"{inside}.{node.attr}"
    return None


def _within_tensorflow(parts: list[str]) -> str:
    """``tensorflow.data.Dataset.range`` is a use of ``tensorflow.data.Dataset``."""
    for i, part in enumerate(parts):
        if part[:1].isupper():
            return ".".join((TENSORFLOW, *parts[: i + 1]))
    return ".".join((TENSORFLOW, *parts[:2]))


def _below_keras(module: str) -> str | None:
    for root in ROOTS:
        if module == root:
            return ""
        if module.startswith(root + "."):
            return module[len(root) + 1 :]
    return None
