"""Explanations as one HTML page for a person who did not train the model."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from handmill.explanation.explanation import Explanation
from handmill.explanation.picture import AGAINST, FOR, as_svg

_KINDS = {
    "saliency": "How fast the answer changes with each input, whether for or against.",
    "integrated": "What each input adds to the answer on the way from an empty input to this one.",
    "expected": "How much each input adds to the answer, compared with typical rows.",
    "smoothgrad": "How the answer changes with each input, averaged over small disturbances of it.",
    "input x": "Each input times how fast the answer changes with it.",
    "deep": "The difference of this answer from that of other rows, shared among the inputs.",
    "grad-cam": "Where in the image the network saw the answer, in the coarse places of one layer.",
    "layercam": "Where in the image the network saw the answer, in the places of one layer.",
    "score-cam": "Where in the image the network saw the answer, by hiding the rest of it.",
    "exact shapley": "What each input adds to the answer, averaged over all orders of them.",
    "occlusion": "What the answer loses when a window hides each place.",
    "permutation shap": "What each input adds to the answer, averaged over random orders.",
    "kernel shap": "What each input adds to the answer, fitted to random groups of inputs.",
    "rise": "How high the answer is when a place is shown, averaged over random masks.",
    "feature ablation": "What the answer loses when each input alone is taken away.",
    "permutation importance": "How much worse the model answers when a column is shuffled.",
    "partial dependence": "The mean answer when one input is set to each of these values.",
    "individual curves": "The answer for each row when one input is set to each of these values.",
    "counterfactual": "The smallest change found after which the answer is another one.",
    "lime": "A simple rule that answers like the model near this row.",
}
"""What a method says, in a sentence; by how its name begins."""

_COLOURS = (
    "Red counts for the answer, blue against it; the stronger the colour, the more it counts."
)
_STYLE = (
    "body{font-family:sans-serif;max-width:60em;margin:2em auto;padding:0 1em;line-height:1.4}"
    "section{border-top:1px solid #ccc;margin-top:1.5em}"
)


def report(
    explanations: Explanation | Sequence[Explanation],
    to_file: Any = None,
    title: str = "Why this answer?",
    rows: int = 8,
    shape: Any = None,
    check: bool = False,
) -> str:
    """Makes one page of explanations that holds its pictures and needs nothing else.

    Args:
        explanations: what is shown, one below the other.
        to_file: where the page goes, if anywhere.
        title: stands above.
        rows: how many rows of the data of each are drawn.
        shape: (height, width) of images that lie as flat rows.
        check: whether :meth:`Explanation.check` is run, and what it found is told.

    Returns:
        The page, HTML.

    Example:
        >>> import numpy as np, handmill
        >>> layer = handmill.layers.Dense(1, kernel_initializer="ones")
        >>> model = handmill.Sequential([handmill.Input((2,)), layer])
        >>> found = handmill.explain(model, np.array([[3.0, -1.0]]), baseline=0)
        >>> "integrated gradients" in handmill.explanation.report(found, title="Two numbers")
        True
    """
    given = [explanations] if isinstance(explanations, Explanation) else list(explanations)
    sections = "".join(_section(found, rows, shape, check) for found in given)
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    body = f"<h1>{escape(title)}</h1><p>{_COLOURS}</p>{sections}"
    page = f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'
    if to_file is not None:
        Path(to_file).write_text(page, encoding="utf-8")
    return page


def _section(found: Explanation, rows: int, shape: Any, check: bool) -> str:
    name = found.method.lower()
    facts = [text for start, text in _KINDS.items() if name.startswith(start)]
    gap = found.relative_gap()
    if gap is not None and len(gap):
        facts.append(
            "The values sum to how far the answer is from that of the baseline; they miss "
            f"{100 * float(np.max(gap)):.2g} % of it at most."
        )
    if found.error is not None:
        facts.append("The lines on the bars are intervals that hold the true value 19 times of 20.")
    facts += [str(result) for result in found.check()] if check else []
    lines = "".join(f"<p>{escape(fact)}</p>" for fact in facts)
    lines += "".join(_text(found, row) for row in range(min(rows, len(found))))
    return f"<section><h2>{escape(found.method)}</h2>{lines}{as_svg(found, rows, shape)}</section>"


def _text(found: Explanation, row: int) -> str:
    """The text of a row with its words in colours; nothing for other rows."""
    pieces = found.text_of(row)
    if pieces is None:
        return ""
    most = max([abs(value) for _, value in pieces if value is not None], default=0.0) or 1.0
    made = []
    for piece, value in pieces:
        shown = escape(piece)
        if value:
            red, green, blue = FOR if value > 0 else AGAINST
            colour = f"rgba({red},{green},{blue},{0.75 * abs(value) / most:.2f})"
            shown = f'<span style="background:{colour}" title="{value:+.3g}">{shown}</span>'
        made.append(shown)
    target = found.targets[row] if found.targets else "output"
    return f"<p><b>{escape(target)}:</b> {''.join(made)}</p>"
