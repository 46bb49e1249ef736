"""Explanations as pictures: heat maps over images, bars for tables; SVG and PNG, written here."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from handmill import tree
from handmill.arguments import whole_number
from handmill.explanation.explanation import Explanation
from handmill.explanation.table import keys
from handmill.ir.op import Array

_SIDE = 160  # pixels of an image in a picture, about
_GAP = 8
_BARS = 15
_FONT = 12
AGAINST, FOR = (49, 104, 189), (201, 42, 42)


def draw(explanation: Explanation, to_file: Any, rows: int, shape: Any) -> str | bytes:
    """Draws an explanation; see :meth:`Explanation.picture`."""
    rows = whole_number("picture: `rows`", rows, 1)
    suffix = ".svg" if to_file is None else Path(to_file).suffix.lower()
    if suffix == ".png":
        found: str | bytes = _png(explanation, rows, shape)
    elif suffix == ".svg":
        found = as_svg(explanation, rows, shape)
    elif suffix == ".html":
        from handmill.explanation.pages import report

        found = report(explanation, rows=rows, shape=shape)
    else:
        raise ValueError(
            f"picture: a file that ends in .svg, .png or .html was expected, got {str(to_file)!r}"
        )
    if to_file is not None:
        content = found.encode() if isinstance(found, str) else found
        Path(to_file).write_bytes(content)
    return found


def as_svg(explanation: Explanation, rows: int = 8, shape: Any = None) -> str:
    """The explanation as SVG, a line of pictures for each row of the data."""
    parts: list[str] = []
    y, width = 0, 0
    for row in range(min(rows, len(explanation))):
        target = explanation.targets[row] if explanation.targets else "output"
        label = f"{target}: {explanation.score} {explanation.scores[row]:.4g}"
        parts.append(_text(0, y + _FONT, f"{explanation.method} · {label}", bold=True))
        width = max(width, int(0.62 * _FONT * (len(label) + len(explanation.method) + 3)))
        y += _FONT + 6
        for number, name in enumerate(keys(explanation.values)):
            if name:
                parts.append(_text(0, y + _FONT, name))
                y += _FONT + 6
            tiles = _tiles(explanation, number, row, shape)
            if tiles is None:
                drawn, wide, high = _bars(explanation, number, row, y)
            else:
                drawn, wide, high = _images(tiles, y)
            parts += drawn
            width, y = max(width, wide), y + high + _GAP
    for note in explanation.notes:
        parts.append(_text(0, y + _FONT, note))
        width = max(width, int(0.62 * _FONT * len(note)))
        y += _FONT + 6
    if not parts:
        parts, y, width = [_text(0, _FONT, "no rows")], _FONT + 6, 80
    size = f'width="{width + 2 * _GAP}" height="{y + 2 * _GAP}"'
    box = f'viewBox="{-_GAP} {-_GAP} {width + 2 * _GAP} {y + 2 * _GAP}"'
    style = f'font-family="sans-serif" font-size="{_FONT}"'
    ground = f'<rect x="{-_GAP}" y="{-_GAP}" width="100%" height="100%" fill="white"/>'
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {box} {style}>\n{ground}\n{body}\n</svg>\n'
    )


def _png(explanation: Explanation, rows: int, shape: Any) -> bytes:
    if tree.is_nested(explanation.values):
        raise ValueError("picture: a PNG holds one input; draw `explanation.part(name)`, or an SVG")
    lines = []
    for row in range(min(rows, len(explanation))):
        tiles = _tiles(explanation, 0, row, shape)
        if tiles is None:
            raise ValueError(
                "picture: a PNG holds images, and these values are none; give `shape=(height, "
                "width)` if flat rows are images, or draw an .svg file"
            )
        scale = _scale(tiles[0].shape)
        lines.append(np.concatenate([_framed(_larger(t, scale)) for t in tiles], axis=1))
    if not lines:
        raise ValueError("picture: there are no rows to draw")
    return encode_png(np.concatenate(lines))


def _framed(tile: Array) -> Array:
    return np.pad(tile, ((2, 2), (2, 2), (0, 0)), constant_values=255)


def _scale(shape: Sequence[int]) -> int:
    return max(1, _SIDE // max(shape[0], shape[1], 1))


def _larger(tile: Array, scale: int) -> Array:
    return np.asarray(tile.repeat(scale, axis=0).repeat(scale, axis=1))


def encode_png(pixels: Array) -> bytes:
    """Returns uint8 pixels (height, width, 3) as a PNG file."""
    height, width = pixels.shape[:2]
    lines = np.zeros((height, 1 + 3 * width), np.uint8)  # each begins with its filter, none
    lines[:, 1:] = pixels.reshape(height, 3 * width)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pieces = (
        (b"IHDR", header),
        (b"IDAT", zlib.compress(lines.tobytes(), 1)),
        (b"IEND", b""),
    )
    found = b"\x89PNG\r\n\x1a\n"
    for kind, content in pieces:
        check = zlib.crc32(kind + content)
        found += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)
    return found


# Images.


def _tiles(explanation: Explanation, number: int, row: int, shape: Any) -> list[Array] | None:
    """The image, and its heat map over it, as uint8 (height, width, 3); None if it is no image."""
    data = np.asarray(tree.flatten(explanation.data)[number][row])
    values = np.asarray(tree.flatten(explanation.values)[number][row])
    if shape is not None and data.ndim == 1:
        data = data.reshape(shape)
        values = values.reshape(shape) if values.ndim == 1 else values
    if data.ndim == 2 and values.ndim == 2:
        data = data[..., None]
    if data.ndim != 3 or data.shape[2] not in (1, 3, 4) or values.ndim not in (2, 3):
        return None
    if values.ndim == 3 and values.shape[:2] != data.shape[:2]:
        return None
    heat = values.sum(2) if values.ndim == 3 else values
    image = shown_image(data)
    return [image, heat_map(image, resized(heat.astype(np.float64), image.shape[:2]))]


def shown_image(data: Array) -> Array:
    """An image (height, width, channels) as uint8 of three channels.

    Whole numbers are levels from 0 to 255; so are floats of that range, those from 0 to 1 are
    levels too, and others are stretched.
    """
    levels = np.nan_to_num(data[..., :3].astype(np.float64))
    if data.dtype.kind == "f":
        low, high = float(levels.min(initial=0.0)), float(levels.max(initial=0.0))
        if low >= 0 and high <= 1:
            levels = levels * 255
        elif low < 0 or high > 255:
            levels = (levels - low) * (255 / max(high - low, 1e-30))
        elif high <= 32:  # such as the sixteen levels of scanned digits
            levels = levels * (255 / max(high, 1e-30))
    found = levels.clip(0, 255).astype(np.uint8)
    return np.repeat(found, 3, axis=2) if found.shape[2] == 1 else found


def heat_map(image: Array, heat: Array) -> Array:
    """Numbers (height, width) over an image that is paled: red above 0, blue below."""
    finite = np.nan_to_num(heat)
    most = float(np.quantile(np.abs(finite), 0.995)) if finite.size else 0.0
    most = most or float(np.abs(finite).max(initial=0.0))
    strength = (np.abs(finite) / max(most, 1e-300)).clip(0, 1)[..., None]
    grey = image.astype(np.float64).mean(2, keepdims=True) * 0.35 + 160
    colour = np.where(finite[..., None] >= 0, np.array(FOR), np.array(AGAINST))
    found: Array = (grey * (1 - strength) + colour * strength).clip(0, 255).astype(np.uint8)
    return found


def resized(maps: Array, shape: Sequence[int]) -> Array:
    """A map (height, width) in another size, linear between the centres of its places."""
    for axis, wanted in enumerate(shape):
        have = maps.shape[axis]
        if have == wanted:
            continue
        at = ((np.arange(wanted) + 0.5) * (have / wanted) - 0.5).clip(0, have - 1)
        low = np.floor(at).astype(int)
        part = (at - low).reshape([-1 if i == axis else 1 for i in range(maps.ndim)])
        below = maps.take(low, axis)
        maps = below + (maps.take(np.minimum(low + 1, have - 1), axis) - below) * part
    return maps


def _images(tiles: Sequence[Array], y: int) -> tuple[list[str], int, int]:
    height, width = (n * _scale(tiles[0].shape) for n in tiles[0].shape[:2])
    parts = []
    for i, tile in enumerate(tiles):
        content = base64.b64encode(encode_png(tile)).decode()
        parts.append(
            f'<image x="{i * (width + _GAP)}" y="{y}" width="{width}" height="{height}" '
            f'style="image-rendering:pixelated" href="data:image/png;base64,{content}"/>'
        )
    return parts, len(tiles) * (width + _GAP), height


# Bars.


def _bars(explanation: Explanation, number: int, row: int, y: int) -> tuple[list[str], int, int]:
    values = np.asarray(tree.flatten(explanation.values)[number][row], np.float64)
    data = np.asarray(tree.flatten(explanation.data)[number][row])
    error = None
    if explanation.error is not None:
        error = np.asarray(tree.flatten(explanation.error)[number][row], np.float64)
    if values.ndim > 1:  # of each step of a sequence, the sum over what it holds
        values, error = values.reshape(len(values), -1).sum(1), None
    values = np.atleast_1d(values)
    conditions = explanation.conditions_of(row)
    names = conditions or explanation.names_of(number) or [f"x{i}" for i in range(len(values))]
    if conditions is None and data.shape == values.shape:
        names = [f"{name} = {x:.4g}" for name, x in zip(names, data, strict=True)]
    by_size = np.argsort(-np.abs(values), kind="stable").tolist()
    order = [i for i in by_size if names[i]][:_BARS]  # what has no name is not there
    left = int(0.6 * _FONT * max((len(names[i]) for i in order), default=0)) + 10
    zero, half = left + 150, 130
    most = max(float(np.abs(np.nan_to_num(values)).max(initial=0.0)), 1e-300)
    parts, step = [], _FONT + 8
    for place, i in enumerate(order):
        top = y + place * step
        size = float(np.nan_to_num(values[i])) / most * half
        colour = "#%02x%02x%02x" % (FOR if size >= 0 else AGAINST)
        parts.append(
            f'<rect x="{min(zero, zero + size):.1f}" y="{top + 2}" width="{abs(size):.1f}" '
            f'height="{step - 4}" fill="{colour}"/>'
        )
        if error is not None:
            reach = 1.96 * float(np.nan_to_num(error[i])) / most * half
            line = f'y1="{top + step / 2}" y2="{top + step / 2}" stroke="black"'
            parts.append(
                f'<line x1="{zero + size - reach:.1f}" x2="{zero + size + reach:.1f}" {line}/>'
            )
        parts.append(_text(left - 6, top + step - 6, names[i], end=True))
        parts.append(_text(zero + half + 12, top + step - 6, f"{values[i]:+.3g}"))
    high = step * len(order)
    parts.append(
        f'<line x1="{zero}" x2="{zero}" y1="{y}" y2="{y + high}" stroke="#888" stroke-width="1"/>'
    )
    return parts, zero + half + 80, high


def _text(x: float, y: float, text: str, bold: bool = False, end: bool = False) -> str:
    more = (' font-weight="bold"' if bold else "") + (' text-anchor="end"' if end else "")
    return f'<text x="{x}" y="{y}"{more}>{escape(text)}</text>'
