"""``handmill check``: which Keras names a script uses, read from its source, not run."""

from __future__ import annotations

import argparse
import ast
import importlib
import sys
from pathlib import Path

ROOTS = ("tensorflow.keras", "tf_keras", "keras", "handmill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the script."""
    parser.add_argument("script", help="a Python file that imports keras")


def run(options: argparse.Namespace) -> int:
    """Prints the count and what is missing; status 1 if something is."""
    try:
        used = keras_names(Path(options.script).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        print(f"handmill check: {options.script}: {error}", file=sys.stderr)
        return 2
    except SyntaxError as error:
        print(
            f"handmill check: {options.script}, line {error.lineno}: {error.msg}", file=sys.stderr
        )
        return 2
    missing = {name: line for name, line in used.items() if not is_supported(name)}
    print(report(used, missing))
    return 1 if missing else 0


def report(used: dict[str, int], missing: dict[str, int]) -> str:
    """The one line that the command prints.

    Example:
        >>> report({"Model": 1, "layers.LSTM": 22}, {"layers.LSTM": 22})
        'uses 2 Keras names, 1 here; missing: layers.LSTM, line 22'
    """
    plural = "" if len(used) == 1 else "s"
    text = f"uses {len(used)} Keras name{plural}, {len(used) - len(missing)} here"
    if missing:
        text += "; missing: " + "; ".join(f"{n}, line {line}" for n, line in missing.items())
    return text


def is_supported(name: str) -> bool:
    """Whether handmill has the public name, such as ``"layers.Dense"``."""
    value: object = importlib.import_module("handmill")
    path = "handmill"
    for part in name.split("."):
        path += "." + part
        try:
            value = getattr(value, part)
        except AttributeError:
            try:
                value = importlib.import_module(path)
            except ImportError:
                return False
    return True


def keras_names(source: str) -> dict[str, int]:
    """The public Keras names that ``source`` uses, with the first line of each, by line.

    Example:
        >>> keras_names("from keras.layers import Dense; import keras; keras.Model")
        {'Model': 1, 'layers.Dense': 1}
    """
    tree = ast.parse(source)
    finder = _Names()
    finder.visit(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            finder.use(finder.dotted(node), node.lineno)
    used = finder.used
    modules = {name for name in used if any(other.startswith(name + ".") for other in used)}
    kept = [(name, line) for name, line in used.items() if name not in modules]
    return dict(sorted(kept, key=lambda item: (item[1], item[0])))


class _Names(ast.NodeVisitor):
    """Collects imports of Keras.

    Attributes:
        aliases: local name -> what it stands for, below Keras ("" is keras itself,
            "tensorflow" is the package that holds it).
        used: name below Keras -> first line.
    """

    def __init__(self) -> None:
        self.aliases: dict[str, str] = {}
        self.used: dict[str, int] = {}

    def use(self, name: str | None, line: int) -> None:
        """Records a use."""
        if name:
            self.used[name] = min(line, self.used.get(name, line))

    def visit_Import(self, node: ast.Import) -> None:
        for name in node.names:
            below = _below_keras(name.name)
            top = name.name.partition(".")[0]
            if below is not None:
                self.use(below, name.lineno)
                whole = "tensorflow" if top == "tensorflow" else ""
                self.aliases[name.asname or top] = below if name.asname else whole
            elif name.name == "tensorflow":
                self.aliases[name.asname or top] = "tensorflow"

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
            elif node.module == "tensorflow" and name.name == "keras":
                self.aliases[local] = ""

    def dotted(self, node: ast.expr) -> str | None:
        """``keras.layers.Dense`` -> ``layers.Dense``; None where no name of Keras is meant."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.insert(0, node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id not in self.aliases:
            return None
        base = self.aliases[node.id]
        if base == "tensorflow":
            if parts[0] != "keras":
                return None
            base, parts = "", parts[1:]
        for i, part in enumerate(parts := [*base.split("."), *parts] if base else parts):
            if part[:1].isupper():  # a class; what follows is an attribute of it
                return ".".join(parts[: i + 1])
        return ".".join(parts)


def _below_keras(module: str) -> str | None:
    for root in ROOTS:
        if module == root:
            return ""
        if module.startswith(root + "."):
            return module[len(root) + 1 :]
    return None
