"""Pictures of boxes and arrows: as SVG, as DOT for graphviz, or drawn by matplotlib."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from handmill.inspection.layered_layout import layered

FONT = 13.0
_LINE = 18.0
_PAD = 10.0
_TINTS = {"input": "#e8eef7", "layer": "#ffffff", "model": "#f6f6f6", "operation": "#f3f0e8"}
Point = tuple[float, float]


@dataclass
class Box:
    """A box of a picture.

    Attributes:
        lines: its text; the first line is the title.
        kind: ``"input"``, ``"layer"``, ``"operation"`` or ``"model"``.
        frozen: whether its border is dashed.
        inside: the boxes of a model that is drawn inside.
    """

    lines: list[str]
    kind: str = "layer"
    frozen: bool = False
    inside: Drawing | None = None


@dataclass
class Drawing:
    """Boxes, and pairs of those that an arrow leads between."""

    boxes: list[Box] = field(default_factory=list)
    edges: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class Shape:
    """A box or an arrow with its place.

    Attributes:
        box: None for an arrow.
        points: two opposite corners, or the corners of the arrow.
        bend: where, between two corners, an arrow with right angles turns; arrows from boxes side
            by side turn in different places, so that they can be told apart.
    """

    box: Box | None
    points: list[Point]
    bend: float = 0.5


def text_width(text: str) -> float:
    """About how wide a text is; characters of East Asia take the width of their height."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return FONT * (0.58 * (len(text) - wide) + 1.02 * wide)


def placed(drawing: Drawing, rankdir: str) -> tuple[list[Shape], float, float]:
    """Returns the shapes of a picture, its width and its height.

    Args:
        drawing: what is drawn.
        rankdir: where arrows lead: ``"TB"`` down, ``"BT"``, ``"LR"`` or ``"RL"``.
    """
    inner = [placed(b.inside, rankdir) if b.inside is not None else None for b in drawing.boxes]
    sizes = []
    for box, below in zip(drawing.boxes, inner, strict=True):
        width = max((text_width(line) for line in box.lines), default=0.0) + 2 * _PAD
        height = _LINE * len(box.lines) + _PAD
        if below is not None:
            width, height = max(width, below[1] + 4 * _PAD), height + below[2] + 3 * _PAD
        sizes.append((width, height))
    sideways = rankdir in ("LR", "RL")
    turned = [(h, w) for w, h in sizes] if sideways else sizes
    places = layered(turned, drawing.edges)
    total = (places.height, places.width) if sideways else (places.width, places.height)

    def at(point: Point) -> Point:
        x, y = (point[1], point[0]) if sideways else point
        return (total[0] - x if rankdir == "RL" else x, total[1] - y if rankdir == "BT" else y)

    shapes = []
    for box, (width, height), below, center in zip(
        drawing.boxes, sizes, inner, places.centers, strict=True
    ):
        x, y = at(center)
        corner = (x - width / 2, y - height / 2)
        shapes.append(Shape(box, [corner, (x + width / 2, y + height / 2)]))
        if below is not None:
            dx = x - below[1] / 2
            dy = corner[1] + _LINE * len(box.lines) + 2 * _PAD
            for shape in below[0]:
                moved = [(px + dx, py + dy) for px, py in shape.points]
                shapes.append(Shape(shape.box, moved))
    bends = _bends(places.centers, drawing.edges)
    shapes += [
        Shape(None, [at(p) for p in line], bends[start])
        for line, (start, _) in zip(places.lines, drawing.edges, strict=True)
    ]
    return shapes, *total


def _bends(centers: Sequence[Point], edges: Sequence[tuple[int, int]]) -> dict[int, float]:
    rows: dict[float, list[int]] = {}
    for start in dict.fromkeys(a for a, _ in edges):
        rows.setdefault(centers[start][1], []).append(start)
    found = {}
    for row in rows.values():
        row.sort(key=lambda i: centers[i][0])
        for place, start in enumerate(row):
            found[start] = 0.5 if len(row) == 1 else 0.25 + 0.4 * place / (len(row) - 1)
    return found


def svg(drawing: Drawing, rankdir: str, splines: str) -> str:
    """The picture as a file for browsers."""
    shapes, width, height = placed(drawing, rankdir)
    margin = _PAD
    wide, high = f"{width + 2 * margin:.0f}", f"{height + 2 * margin:.0f}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{-margin:.0f} {-margin:.0f} {wide} '
        f'{high}" width="{wide}" height="{high}" font-family="sans-serif" '
        f'font-size="{FONT:.0f}">',
        '<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0L10 5L0 10z"/></marker></defs>',
        f'<rect x="{-margin:.0f}" y="{-margin:.0f}" width="100%" height="100%" fill="white"/>',
    ]
    for shape in shapes:
        if shape.box is None:
            parts.append(
                f'<path d="{_path(shape, rankdir, splines)}" fill="none" stroke="black" '
                'marker-end="url(#arrow)"/>'
            )
            continue
        (left, top), (right, bottom) = shape.points
        dash = ' stroke-dasharray="5 3"' if shape.box.frozen else ""
        parts.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" '
            f'height="{bottom - top:.1f}" rx="3" fill="{_TINTS[shape.box.kind]}" '
            f'stroke="black"{dash}/>'
        )
        for text, x, y, bold in _texts(shape):
            weight = ' font-weight="bold"' if bold else ""
            parts.append(
                f'<text x="{x:.1f}" y="{y + 0.35 * FONT:.1f}" text-anchor="middle"{weight}>'
                f"{escape(text)}</text>"
            )
    return "\n".join([*parts, "</svg>\n"])


def _texts(shape: Shape) -> Iterator[tuple[str, float, float, bool]]:
    """Text, centre and weight of the lines of a box."""
    assert shape.box is not None  # noqa: S101
    (left, top), (right, _) = shape.points
    for i, line in enumerate(shape.box.lines):
        yield line, (left + right) / 2, top + _PAD / 2 + _LINE * (i + 0.5), i == 0


def _path(shape: Shape, rankdir: str, splines: str) -> str:
    points, bend = shape.points, shape.bend if splines == "ortho" else 0.5
    sideways = rankdir in ("LR", "RL")
    text = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for (ax, ay), (bx, by) in itertools.pairwise(points):
        mx, my = ax + bend * (bx - ax), ay + bend * (by - ay)
        if splines in ("line", "polyline") or abs(ax - bx) < 0.5 or abs(ay - by) < 0.5:
            text += f"L{bx:.1f} {by:.1f}"
        elif splines == "ortho":
            corners = [(mx, ay), (mx, by)] if sideways else [(ax, my), (bx, my)]
            text += "".join(f"L{x:.1f} {y:.1f}" for x, y in [*corners, (bx, by)])
        else:
            first, second = ((mx, ay), (mx, by)) if sideways else ((ax, my), (bx, my))
            text += (
                f"C{first[0]:.1f} {first[1]:.1f} {second[0]:.1f} {second[1]:.1f} {bx:.1f} {by:.1f}"
            )
    return text


def dot(drawing: Drawing, rankdir: str, splines: str, dpi: int) -> str:
    """The picture as a program for graphviz."""
    lines = [
        "digraph model {",
        f'  graph [rankdir="{rankdir}", splines="{splines}", dpi={dpi}, concentrate=true];',
        '  node [shape=box, style=filled, fillcolor=white, fontname="sans-serif"];',
    ]
    names: list[str] = []
    lines += _dot_part(drawing, "n", "  ", names)
    return "\n".join([*lines, "}", ""])


def _dot_part(drawing: Drawing, prefix: str, indent: str, names: list[str]) -> list[str]:
    lines = []
    ends: list[tuple[str, str]] = []  # the nodes that arrows to and from a box really meet
    for i, box in enumerate(drawing.boxes):
        name = f"{prefix}{i}"
        if box.inside is not None and box.inside.boxes:
            lines.append(f"{indent}subgraph cluster_{name} {{")
            lines.append(f"{indent}  label={_quoted(box.lines)};")
            lines += _dot_part(box.inside, f"{name}_", indent + "  ", names)
            lines.append(f"{indent}}}")
            fed = {b for _, b in box.inside.edges}
            feeding = {a for a, _ in box.inside.edges}
            last = len(box.inside.boxes) - 1
            first_open = next((k for k in range(last + 1) if k not in fed), 0)
            last_open = next((k for k in range(last, -1, -1) if k not in feeding), last)
            ends.append((f"{name}_{first_open}", f"{name}_{last_open}"))
        else:
            style = ', style="filled,dashed"' if box.frozen else ""
            fill = _TINTS[box.kind]
            lines.append(f'{indent}{name} [label={_quoted(box.lines)}, fillcolor="{fill}"{style}];')
            ends.append((name, name))
    lines += [f"{indent}{ends[a][1]} -> {ends[b][0]};" for a, b in drawing.edges]
    return lines


def _quoted(lines: Sequence[str]) -> str:
    text = "\n".join(lines).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'


def draw_with_matplotlib(drawing: Drawing, rankdir: str, path: Any, dpi: int) -> None:
    """Writes the picture as an image file of matplotlib's formats."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    from handmill.inspection.fonts import fonts_for, write_figure

    shapes, width, height = placed(drawing, rankdir)
    texts = [line for shape in shapes if shape.box is not None for line in shape.box.lines]
    figure = Figure(figsize=((width + 2 * _PAD) / 96, (height + 2 * _PAD) / 96))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(-_PAD, width + _PAD)
    axes.set_ylim(height + _PAD, -_PAD)
    axes.set_axis_off()
    family = fonts_for(texts)
    for shape in shapes:
        if shape.box is None:
            xs, ys = zip(*shape.points, strict=True)
            axes.plot(xs[:-1], ys[:-1], color="black", linewidth=0.9)
            axes.annotate(
                "", shape.points[-1], shape.points[-2],
                arrowprops={"arrowstyle": "-|>", "color": "black", "shrinkA": 0, "shrinkB": 0},
            )  # fmt: skip
            continue
        (left, top), (right, bottom) = shape.points
        axes.add_patch(
            Rectangle(
                (left, top), right - left, bottom - top, facecolor=_TINTS[shape.box.kind],
                edgecolor="black", linestyle="--" if shape.box.frozen else "-", linewidth=0.9,
            )
        )  # fmt: skip
        for text, x, y, bold in _texts(shape):
            axes.text(
                x, y, text, ha="center", va="center", fontsize=FONT * 0.72, fontfamily=family,
                fontweight="bold" if bold else "normal",
            )  # fmt: skip
    write_figure(figure, path, dpi=dpi)
