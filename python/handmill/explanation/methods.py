"""One call that explains, by the method that fits or by name."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill import tree
from handmill.explanation.explanation import Explanation

METHODS = (
    "saliency",
    "input_x_gradient",
    "integrated_gradients",
    "expected_gradients",
    "smooth_grad",
    "guided_backpropagation",
    "deconvolution",
    "deep_lift",
    "deep_shap",
    "grad_cam",
    "grad_cam_pp",
    "layer_cam",
    "hires_cam",
    "class_activation_map",
    "score_cam",
    "shap",
    "lime",
    "occlusion",
    "rise",
    "feature_ablation",
)
"""What ``method`` may be: the name of a function of :mod:`handmill.explanation`."""


def explain(
    model: Any, x: Any, target: Any = None, method: str = "auto", **options: Any
) -> Explanation:
    """Says what counts for the answers of a model, row by row.

    Args:
        model: a handmill model, or an estimator that holds one; of ``"shap"``, ``"lime"``,
            ``"occlusion"``, ``"rise"`` and ``"feature_ablation"`` any function of rows.
        x: rows, nested as the model takes them.
        target: None (the predicted class), a class number or name, one a row, one-hot rows, a tuple
            (a, b) for "why a and not b", or a function of the outputs that gives one score a row.
        method: the name of a function of :mod:`handmill.explanation`, or ``"auto"``: of tables with
            a ``background`` ``"shap"``, of texts ``"lime"``, else integrated gradients, with a
            ``background`` expected gradients; of models without gradients ``"shap"`` with a
            ``background``, ``"lime"`` for texts, else ``"occlusion"``.
        **options: of the method, such as ``baseline`` or ``background``.

    Returns:
        An :class:`handmill.explanation.Explanation`: printed, a table; ``picture()`` draws it, and
        ``check()`` says how far to trust it.

    Raises:
        ValueError: for a method that does not exist, and for rows or targets that do not fit.

    Example:
        >>> import numpy as np, handmill
        >>> layer = handmill.layers.Dense(1, kernel_initializer="ones")
        >>> model = handmill.Sequential([handmill.Input((2,)), layer])
        >>> handmill.explain(model, np.array([[3.0, -1.0]]), baseline=0)
        integrated gradients: the logit is 2, 0 without these features
          x0  = 3    +3   ++++++++++++++++++++
          x1  = -1   -1   -------
        gap 0 (0 % of what is explained)
    """
    from handmill import explanation

    if method == "auto":
        method = _fitting(model, x, options)
    if method not in METHODS:
        import difflib

        near = difflib.get_close_matches(method, METHODS) or sorted(METHODS)
        raise ValueError(f"no method is called {method!r}; there are {near}")
    found: Explanation = getattr(explanation, method)(model, x, target=target, **options)
    return found


def _fitting(model: Any, x: Any, options: dict[str, Any]) -> str:
    from handmill.explanation.local_models import is_text
    from handmill.models import Model

    has_background = "background" in options
    reads = any(getattr(model, name, None) is not None for name in ("_host", "preprocessor"))
    if reads and is_text(x) and not has_background and "baseline" not in options:
        return "lime"
    if isinstance(getattr(model, "model_", model), Model):
        if not has_background:
            return "integrated_gradients"
        return "shap" if not tree.is_nested(x) and np.ndim(x) == 2 else "expected_gradients"
    if has_background:
        return "shap"
    return "lime" if is_text(x) else "occlusion"
