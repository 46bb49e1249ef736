"""The picture of ``handmill demo``: SVG, for any browser, made without a plotting library."""

from __future__ import annotations

from collections.abc import Sequence

from handmill.ir.op import Array

WIDTH, HEIGHT = 1000, 400
DARK, BRIGHT = (68, 1, 84), (253, 231, 37)
MIDDLE = (33, 145, 140)


def picture(
    curves: dict[str, Sequence[float]],
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    table: Array,
    marked: Array,
) -> str:
    """Returns an SVG image: learning curves on the left, a table of accuracies on the right.

    Args:
        curves: name -> accuracy after each epoch.
        title: what stands above the table.
        rows: names of the table's rows.
        columns: names of its columns.
        table: accuracies, shape (rows, columns).
        marked: which of them are not distinguishable from the best; they are outlined.
    """
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="14">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *_curves(curves),
        *_table(title, rows, columns, table, marked),
        "</svg>\n",
    ]
    return "\n".join(parts)


def _text(x: float, y: float, text: str, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}"{more}>{text}</text>'


def _curves(curves: dict[str, Sequence[float]]) -> list[str]:
    left, right, top, bottom = 70, 480, 40, 340
    epochs = max(len(curve) for curve in curves.values())
    lowest = min(min(curve) for curve in curves.values())
    floor = int(lowest * 20) / 20  # a multiple of 0.05

    def x(epoch: int) -> float:
        return left + (right - left) * (epoch - 1) / max(epochs - 1, 1)

    def y(accuracy: float) -> float:
        return bottom - (bottom - top) * (accuracy - floor) / (1.0 - floor)

    parts = [_text((left + right) / 2, 25, "learning curve: 64-32-10 units, relu, Adam")]
    parts += [_text((left + right) / 2, 380, "epoch")]
    ticks = round((1.0 - floor) / 0.05)
    for tick in range(ticks + 1):
        value = floor + 0.05 * tick
        parts.append(
            f'<line x1="{left}" x2="{right}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
            'stroke="#ddd"/>'
        )
        parts.append(_text(left - 8, y(value) + 5, f"{value:.2f}", "end"))
    for epoch in range(2, epochs + 1, 2):
        parts.append(_text(x(epoch), bottom + 20, str(epoch)))
    for i, (name, curve) in enumerate(curves.items()):
        colour = ("#1f77b4", "#ff7f0e")[i % 2]
        points = [(x(epoch), y(value)) for epoch, value in enumerate(curve, 1)]
        line = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4" fill="{colour}"/>' for px, py in points
        ]
        parts.append(_text(right, bottom - 40 + 22 * i, name, "end", f' fill="{colour}"'))
    return parts


def _table(
    title: str, rows: Sequence[str], columns: Sequence[str], table: Array, marked: Array
) -> list[str]:
    left, top, right, bottom = 590, 40, 990, 350
    wide, high = (right - left) / len(columns), (bottom - top) / len(rows)
    lowest, highest = float(table.min()), float(table.max())
    parts = [_text((left + right) / 2, 25, title)]
    for i, row in enumerate(rows):
        parts.append(_text(left - 8, top + high * (i + 0.5) + 5, row, "end"))
        for j in range(len(columns)):
            value = float(table[i, j])
            share = (value - lowest) / (highest - lowest) if highest > lowest else 1.0
            cell = f'x="{left + wide * j:.1f}" y="{top + high * i:.1f}"'
            size = f'width="{wide:.1f}" height="{high:.1f}"'
            parts.append(f'<rect {cell} {size} fill="rgb{_colour(share)}"/>')
            ink = ' fill="white"' if share < 0.5 else ""
            at = left + wide * (j + 0.5), top + high * (i + 0.5) + 5
            parts.append(_text(*at, f"{value:.4f}", more=ink))
            if marked[i, j]:
                inside = f'x="{left + wide * j + 4:.1f}" y="{top + high * i + 4:.1f}"'
                inner = f'width="{wide - 8:.1f}" height="{high - 8:.1f}"'
                line = 'fill="none" stroke="black" stroke-width="1.5" stroke-dasharray="4 3"'
                parts.append(f"<rect {inside} {inner} {line}/>")
    for j, column in enumerate(columns):
        parts.append(_text(left + wide * (j + 0.5), bottom + 20, column))
    parts.append(
        _text((left + right) / 2, bottom + 42, "dashed: not distinguishable from the best")
    )
    return parts


def _colour(share: float) -> tuple[int, int, int]:
    """From dark violet over green to yellow."""
    low, high, part = (DARK, MIDDLE, 2 * share) if share < 0.5 else (MIDDLE, BRIGHT, 2 * share - 1)
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(low, high, strict=True))
    return red, green, blue
