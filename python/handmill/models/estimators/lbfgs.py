"""L-BFGS: all rows at once, SciPy's line searches, loss and gradient from one program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize
from sklearn.utils.optimize import _check_optimize_result

from handmill.ir.op import Array
from handmill.models.estimators.network import Network


def fit(network: Network, x: Array, others: Sequence[Array], parameters: Any) -> tuple[int, float]:
    """Minimizes the loss over all rows; the network ends with the best weights found.

    Warns (``ConvergenceWarning``) where it ends before the gradient is below ``tol``.

    Args:
        network: started with :meth:`Network.start_gradients`.
        x: contiguous float32 features.
        others: targets, and sample weights where there are some.
        parameters: the estimator: ``max_iter``, ``max_fun``, ``tol``, ``verbose``.

    Returns:
        How many iterations were made, and the loss.

    Source: Byrd, Lu, Nocedal, Zhu: A limited memory algorithm for bound constrained optimization
    (1995); options as in ``sklearn.neural_network``.
    """
    weights = network.get_weights()
    ends = np.cumsum([w.size for w in weights])[:-1]
    shapes = [w.shape for w in weights]

    def set_flat(flat: Array) -> None:
        parts = np.split(flat.astype(np.float32), ends)
        network.set_weights([p.reshape(s) for p, s in zip(parts, shapes, strict=True)])

    def objective(flat: Array) -> tuple[float, Array]:
        set_flat(flat)
        loss, *found = network.loss_and_gradients(x, others)
        return float(loss), np.concatenate([g.ravel() for g in found]).astype(np.float64)

    iterations = 0

    def say(intermediate_result: Any) -> None:
        nonlocal iterations
        iterations += 1
        print(f"Iteration {iterations}, loss = {intermediate_result.fun:.8f}")

    result = minimize(
        objective,
        np.concatenate([w.ravel() for w in weights]).astype(np.float64),
        method="L-BFGS-B",
        jac=True,
        options={
            "maxfun": parameters.max_fun,
            "maxiter": parameters.max_iter,
            "gtol": parameters.tol,
        },
        callback=say if parameters.verbose else None,
    )
    set_flat(result.x)
    return int(_check_optimize_result("lbfgs", result, parameters.max_iter)), float(result.fun)
