"""Classes that Keras's trainers are made of, made of what handmill's are made of."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import numpy as np

from handmill import config, random, tree
from handmill.data.batches import pack_x_y_sample_weight
from handmill.models.data_adapters import make_data, weights_of_classes
from handmill.models.layout import Layout
from handmill.models.model import Model
from handmill.models.objective import Objective
from handmill.models.outputs import outputs_of


class _Compiled:
    """What a model knows of its outputs, and an objective for it."""

    def __init__(self, names: Any, *arguments: Any) -> None:
        graph = None if names is None else types.SimpleNamespace()
        self._model = types.SimpleNamespace(_graph=graph, outputs=names, output_names=names)
        self._model.names_of_outputs = lambda y_pred: Model.names_of_outputs(self._model, y_pred)
        self.objective = Objective(*arguments, self._prepared)

    def _prepared(self, y: Any, y_pred: Any, weight: Any = None) -> Any:
        objective = self.objective
        *values, names = outputs_of(self._model, y, y_pred, weight, objective.loss)
        nesting = tree.pack_sequence_as(y_pred, list(range(len(names))))
        objective.build(values[0], values[1], names, nesting)
        return values

    def build(self, y_true: Any, y_pred: Any) -> None:
        self._prepared(y_true, y_pred)


class CompileLoss(_Compiled):
    """The losses of `compile`."""

    def __init__(self, loss: Any, loss_weights: Any = None, output_names: Any = None) -> None:
        super().__init__(output_names, loss, loss_weights, None, None)

    @property
    def metrics(self) -> Any:
        return self.objective.output_trackers

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        return self.objective.total(*self._prepared(y_true, y_pred, sample_weight))


class CompileMetrics(_Compiled):
    """The metrics of `compile`."""

    def __init__(self, metrics: Any, weighted_metrics: Any, output_names: Any = None) -> None:
        super().__init__(output_names, None, None, metrics, weighted_metrics)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.objective.compiled, name)


class DataAdapter:
    """Batches of data, as steps get them."""

    def __init__(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        batch_size: int | None = None,
        steps: int | None = None,
        shuffle: Any = False,
        class_weight: Any = None,
    ) -> None:
        seed = random.next_host_seed()
        self.batch_size = batch_size
        self.data = make_data(
            x,
            y,
            sample_weight,
            batch_size,
            steps,
            shuffle,
            class_weight,
            lambda rows: random.permutation(seed, 0, rows),
        )

    @property
    def num_batches(self) -> Any:
        return self.data.num_batches

    @property
    def has_partial_batch(self) -> bool:
        return bool(self.partial_batch_size)

    @property
    def partial_batch_size(self) -> Any:
        return self.data.rows % self.batch_size

    def get_numpy_iterator(self) -> Iterator[Any]:
        done = 0
        self.data.begin_epoch()
        while self.num_batches is None or done < self.num_batches:
            portion = self.data.next_portion(done)
            if portion is None:
                break
            yield batch_of(portion.layout, portion.take())
            done += 1
        self.data.end_epoch(done)

    def get_tf_dataset(self) -> Any:
        import tensorflow as tf  # type: ignore[import-not-found]

        return tf.data.Dataset()

    def on_epoch_begin(self) -> None:
        """The iterator tells the data."""

    def on_epoch_end(self) -> None:
        """The iterator tells the data."""


def batch_of(layout: Layout, arrays: Any) -> Any:
    """A batch as `train_step` gets it: float64 is what the program converts while it gathers."""
    floatx = config.floatx()
    given = [a.astype(floatx) if a.dtype == np.float64 else np.asarray(a) for a in arrays]
    return pack_x_y_sample_weight(*layout.join(given))


def class_weight_to_sample_weights(y: Any, class_weight: Any) -> Any:
    """Weights of samples by their classes."""
    return weights_of_classes(y, class_weight, None)


class EpochIterator:
    """Batches of an epoch with their numbers."""

    def __init__(self, x: Any, steps_per_epoch: int | None = None, **kwargs: Any) -> None:
        self.data_adapter = DataAdapter(x, steps=steps_per_epoch, **kwargs)

    def __iter__(self) -> Iterator[Any]:
        for step, batch in enumerate(self.data_adapter.get_numpy_iterator()):
            yield step, step, [batch]

    enumerate_epoch = __iter__
