"""Estimators for scikit-learn: the networks of ``MLPClassifier`` and ``MLPRegressor``, faster.

Needs scikit-learn 1.6 or newer (``pip install scikit-learn``).
"""

from __future__ import annotations

from handmill.lazy import lazy_exports

try:
    from sklearn.utils.validation import validate_data as _validate_data  # noqa: F401 (since 1.6)
except ImportError as _error:
    raise ImportError(
        "handmill.sklearn needs scikit-learn 1.6 or newer: pip install -U scikit-learn"
    ) from _error

__getattr__, __dir__ = lazy_exports(
    __name__, {"HandmillClassifier": ".classifier", "HandmillRegressor": ".regressor"}
)
