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
        source = Path(options.script).read_text(encoding="utf-8")
        used = keras_names(source)
    except OSError as error:
        print(f"handmill check: {error}", file=sys.stderr)
        return 2
    except SyntaxError as error:
        print(f"handmill check: {options.script}, line {error.lineno}: {error.msg}", file=sys.stderr)
        return 2
    missing = {name: line for name, line in used.items() if not is_supported(name)}
    text = f"uses {len(used)} Keras names, {len(used) - len(missing)} here"
    if missing:
        listed = ", ".join(f"{name}, line {line}" for name, line in missing.items())
        text += f"; missing: {listed}"
    print(text)
    return 1 if missing else 0


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
    """The public Keras names that ``source`` uses, with the first line of each.

    Example:
        >>> keras_names("from keras.layers import Dense\\nimport keras\\nkeras.Model")
        {'layers.Dense': 1, 'Model': 3}
    """
    tree = ast.parse(source)
    aliases: dict[str, str] = {}  # local name -> dotted name below keras ("" is keras itself)
    used: dict[str, int] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                below = _below_keras(name.name)
                if below is not None:
                    aliases[name.asname or name.name.split(".")[0]] = below if name.asname else ""
                elif name.name == "tensorflow":
                    aliases[name.asname or name.name] = "tensorflow"
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            below = _below_keras(node.module)
            for name in node.names:
                if below is not None:
                    dotted = f"{below}.{name.name}" if below else name.name
                    aliases[name.asname or name.name] = dotted
                    used.setdefault(dotted, node.lineno)
                elif node.module == "tensorflow" and name.name == "keras":
                    aliases[name.asname or name.name] = ""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            dotted = _dotted(node, aliases)
            if dotted:
                used.setdefault(dotted, node.lineno)
    modules = {name for name in used if any(other.startswith(name + ".") for other in used)}
    return dict(sorted(((n, line) for n, line in used.items() if n not in modules), key=_by_line))


def _by_line(item: tuple[str, int]) -> tuple[int, str]:
    return item[1], item[0]


def _below_keras(module: str) -> str | None:
    for root in ROOTS:
        if module == root:
            return ""
        if module.startswith(root + "."):
            return module[len(root) + 1 :]
    return None


def _dotted(node: ast.expr, aliases: dict[str, str]) -> str | None:
    """``keras.layers.Dense`` -> ``layers.Dense``; attributes of instances are not names."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or node.id not in aliases:
        return None
    base = aliases[node.id]
    parts.reverse()
    if base == "tensorflow":
        if parts[0] != "keras" or len(parts) == 1:
            return None
        base, parts = "", parts[1:]
    if base and base.split(".")[-1][:1].isupper():
        return None  # an attribute of an imported class
    for i, part in enumerate(parts):
        if part[:1].isupper():
            parts = parts[: i + 1]
            break
    return ".".join([*([base] if base else []), *parts])
