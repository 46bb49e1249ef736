"""The names that Keras 2 had for methods of models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from handmill import config, tree
from handmill.errors import warn_caller
from handmill.metrics.metric import Metric

if TYPE_CHECKING:
    from handmill.callbacks.callback import History


def in_order_of_keras3(loss_weights: Any, metrics: Any) -> tuple[Any, Any]:
    """The two arguments of ``compile`` that Keras 2 had the other way round.

    What is no number can be no weight, and a number no metric.
    """
    weights = [leaf for leaf in tree.flatten(loss_weights) if leaf is not None]
    if weights:
        is_older = all(isinstance(x, str | Metric) or callable(x) for x in weights)
    else:
        measured = tree.flatten(metrics) if isinstance(metrics, list | tuple | dict) else []
        is_older = bool(measured) and all(isinstance(x, int | float) for x in measured)
    return (metrics, loss_weights) if is_older else (loss_weights, metrics)


class OlderNames:
    """``fit``, ``evaluate`` and ``predict`` as they were called for generators."""

    def fit_generator(
        self,
        generator: Any,
        steps_per_epoch: int | None = None,
        epochs: int = 1,
        verbose: Any = 1,
        callbacks: Any = None,
        validation_data: Any = None,
        validation_steps: int | None = None,
        validation_freq: Any = 1,
        class_weight: Mapping[Any, float] | None = None,
        max_queue_size: int = 10,
        workers: int = 1,
        use_multiprocessing: bool = False,
        shuffle: bool = True,
        initial_epoch: int = 0,
    ) -> History:
        """The older name of :meth:`fit` for generators."""
        _older_name("fit_generator", "fit")
        _warn_of_workers("fit_generator", workers, use_multiprocessing, max_queue_size)
        return self.fit(  # type: ignore[attr-defined,no-any-return]
            generator,
            steps_per_epoch=steps_per_epoch,
            epochs=epochs,
            verbose=verbose,
            callbacks=callbacks,
            validation_data=validation_data,
            validation_steps=validation_steps,
            validation_freq=validation_freq,
            class_weight=class_weight,
            shuffle=shuffle,
            initial_epoch=initial_epoch,
        )

    def evaluate_generator(
        self,
        generator: Any,
        steps: int | None = None,
        callbacks: Any = None,
        max_queue_size: int = 10,
        workers: int = 1,
        use_multiprocessing: bool = False,
        verbose: Any = 0,
    ) -> Any:
        """The older name of :meth:`evaluate` for generators."""
        _older_name("evaluate_generator", "evaluate")
        _warn_of_workers("evaluate_generator", workers, use_multiprocessing, max_queue_size)
        return self.evaluate(  # type: ignore[attr-defined]
            generator, steps=steps, callbacks=callbacks, verbose=verbose
        )

    def predict_generator(
        self,
        generator: Any,
        steps: int | None = None,
        callbacks: Any = None,
        max_queue_size: int = 10,
        workers: int = 1,
        use_multiprocessing: bool = False,
        verbose: Any = 0,
    ) -> Any:
        """The older name of :meth:`predict` for generators."""
        _older_name("predict_generator", "predict")
        _warn_of_workers("predict_generator", workers, use_multiprocessing, max_queue_size)
        return self.predict(  # type: ignore[attr-defined]
            generator, steps=steps, callbacks=callbacks, verbose=verbose
        )


def _warn_of_workers(old: str, workers: Any, processes: Any, queue: Any) -> None:
    given = {"workers": (workers, 1), "use_multiprocessing": (processes, False)}
    given["max_queue_size"] = (queue, 10)
    idle = [f"{name}={value!r}" for name, (value, usual) in given.items() if value != usual]
    if idle:
        warn_caller(
            f"`Model.{old}`: {', '.join(idle)} has no effect. In Keras 3 it is the data set that "
            "has workers: PyDataset(workers=, use_multiprocessing=, max_queue_size=); images of an "
            "ImageDataGenerator are prepared on threads anyway.",
        )


def _older_name(old: str, new: str) -> None:
    if config.strict_keras():
        raise AttributeError(f"Keras 3 has no Model.{old}; use Model.{new}, which takes generators")
    warn_caller(
        f"`Model.{old}` is the older name of `Model.{new}`, which takes generators.",
        DeprecationWarning,
    )
