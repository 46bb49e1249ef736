"""scikit-learn's own checks of estimators, all of them.

Two of them fit on repeated rows and on weights, and compare with a tolerance of 1e-7: less than one
unit of float32, in which handmill computes. They run with 1e-5 here; scikit-learn's tests allow
float32 results 1e-4.
"""

from __future__ import annotations

from functools import partial

import pytest

pytest.importorskip("sklearn", minversion="1.6", reason="no scikit-learn")

from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from handmill.sklearn import HandmillClassifier, HandmillRegressor

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning",
    "ignore:Can't check dok sparse matrix:UserWarning",
)


# scikit-learn runs the checks of its own networks with 100 epochs, too.
@parametrize_with_checks([HandmillClassifier(max_iter=100), HandmillRegressor(max_iter=100)])
def test_estimator(estimator, check, monkeypatch: pytest.MonkeyPatch) -> None:
    if "check_sample_weight_equivalence" in check.func.__name__:
        exact = estimator_checks.assert_allclose_dense_sparse
        monkeypatch.setattr(
            estimator_checks, "assert_allclose_dense_sparse", partial(exact, rtol=1e-5)
        )
    check(estimator)
