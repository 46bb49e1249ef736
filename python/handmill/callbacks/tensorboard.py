"""Logs for TensorBoard."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from handmill.arguments import whole_number
from handmill.callbacks import event_file
from handmill.callbacks.callback import Callback
from handmill.callbacks.event_file import EventFile
from handmill.errors import warn_caller


class TensorBoard(Callback):
    """Writes numbers, histograms of weights and the structure of the model for TensorBoard.

    Neither TensorFlow nor TensorBoard is needed to write; ``pip install tensorboard`` and
    ``tensorboard --logdir logs`` show it. Numbers of training lie below ``train``, those of
    validation and ``evaluate`` below ``validation``.

    Args:
        log_dir: the folder.
        histogram_freq: epochs between histograms of the weights; 0 for none.
        write_graph: whether the structure of a functional or sequential model is written.
        write_images: whether weights are written as images, where there are histograms.
        write_steps_per_second: whether the speed is written.
        update_freq: ``"epoch"``; ``"batch"``, or a number of batches, to write numbers of single
            batches too. Then one step runs at a time.
        profile_batch: not supported, must be 0: ``model.profile`` measures each kernel.
        embeddings_freq: epochs between copies of the weights of Embedding layers for the
            projector; 0 for none.
        embeddings_metadata: a file that names the rows of each embedding, or a dict: name of a
            layer -> file.

    Raises:
        ValueError: for a ``profile_batch`` other than 0, or an ``update_freq`` that is no number of
            batches.
    """

    def __init__(
        self,
        log_dir: Any = "logs",
        histogram_freq: int = 0,
        write_graph: bool = True,
        write_images: bool = False,
        write_steps_per_second: bool = False,
        update_freq: Any = "epoch",
        profile_batch: Any = 0,
        embeddings_freq: int = 0,
        embeddings_metadata: Any = None,
    ) -> None:
        super().__init__()
        if profile_batch:
            raise ValueError(
                "TensorBoard(profile_batch=...) is not supported: handmill has no trace that "
                "TensorBoard reads. model.profile(x, y) measures every kernel. Received: "
                f"profile_batch={profile_batch} (must be 0)"
            )
        update_freq = 1 if update_freq == "batch" else update_freq
        if update_freq != "epoch" and (not isinstance(update_freq, int) or update_freq < 1):
            raise ValueError(
                "`update_freq` must be 'epoch', 'batch' or a number of batches. "
                f"Received: update_freq={update_freq!r}"
            )
        self.log_dir = os.fsdecode(log_dir)
        self.histogram_freq = whole_number("`histogram_freq`", histogram_freq, least=0)
        self.write_graph = write_graph
        self.write_images = write_images
        self.write_steps_per_second = write_steps_per_second
        self.update_freq = update_freq
        self.embeddings_freq = embeddings_freq
        self.embeddings_metadata = embeddings_metadata
        self._train = EventFile(Path(self.log_dir) / "train")
        self._validation = EventFile(Path(self.log_dir) / "validation")
        self._batches = 0
        self._batch_started = self._epoch_started = 0.0
        self._steps_before = 0
        if update_freq != "epoch":  # only then steps run one by one
            self.on_train_batch_begin = self._before_batch  # type: ignore[method-assign]
            self.on_train_batch_end = self._after_batch  # type: ignore[method-assign]

    def set_model(self, model: Any) -> None:
        """Takes the model, and writes its structure."""
        super().set_model(model)
        if self.embeddings_freq:
            self._describe_embeddings()
        if self.write_graph and getattr(model, "_graph", None) is not None:
            try:
                text = model.to_json()
            except (TypeError, NotImplementedError) as error:  # a layer without get_config
                warn_caller(f"TensorBoard: the structure is not written: {error}", UserWarning)
                return
            structure = event_file.text_for_plugin("keras", text, "graph_keras_model", b"1")
            self._train.write([structure], 0)

    def on_train_begin(self, logs: Any = None) -> None:
        """Starts counting batches."""
        self._batches = 0

    def _before_batch(self, batch: int, logs: Any = None) -> None:
        self._batch_started = time.perf_counter()

    def _after_batch(self, batch: int, logs: Any = None) -> None:
        self._batches += 1
        if self._batches % self.update_freq:
            return
        values = [event_file.scalar(f"batch_{k}", _number(v)) for k, v in (logs or {}).items()]
        if self.write_steps_per_second:
            seconds = time.perf_counter() - self._batch_started
            values.append(event_file.scalar("batch_steps_per_second", 1.0 / max(seconds, 1e-9)))
        self._train.write(values, self._batches)

    def on_test_end(self, logs: Any = None) -> None:
        """Writes what was measured, over the steps of training so far."""
        if self.model.optimizer is None or not logs:
            return
        values = [
            event_file.scalar(f"evaluation_{name}_vs_iterations", _number(value))
            for name, value in logs.items()
        ]
        self._validation.write(values, self._steps())
        self._validation.flush()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the clock."""
        self._epoch_started = time.perf_counter()
        self._steps_before = self._steps() if self.write_steps_per_second else 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Writes the numbers of an epoch, histograms and embeddings."""
        train = {k: v for k, v in (logs or {}).items() if not k.startswith("val_")}
        validation = {
            k.removeprefix("val_"): v for k, v in (logs or {}).items() if k.startswith("val_")
        }
        train |= self._rates()
        if self.write_steps_per_second:
            seconds = time.perf_counter() - self._epoch_started
            train["steps_per_second"] = (self._steps() - self._steps_before) / max(seconds, 1e-9)
        for file, numbers in ((self._train, train), (self._validation, validation)):
            if numbers:
                values = [event_file.scalar(f"epoch_{k}", _number(v)) for k, v in numbers.items()]
                file.write(values, epoch)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            self._train.write(self._weights(), epoch)
        if self.embeddings_freq and epoch % self.embeddings_freq == 0:
            self._write_embeddings()
        self._train.flush()
        self._validation.flush()

    def on_train_end(self, logs: Any = None) -> None:
        """Closes the files."""
        self._train.close()
        self._validation.close()

    def _steps(self) -> int:
        return int(self.model.optimizer.iterations.numpy())

    def _rates(self) -> dict[str, float]:
        optimizer = self.model.optimizer
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        several = getattr(optimizer, "optimizers", None)
        if several is not None:
            return {f"learning_rate_{o.name}": _rate(o) for o in several}
        return {"learning_rate": _rate(optimizer)} if hasattr(optimizer, "learning_rate") else {}

    def _weights(self) -> list[bytes]:
        values = []
        for layer in self.model.layers:
            for weight in layer.weights:
                array = weight.numpy().astype(np.float64)
                values.append(event_file.histogram(f"{weight.path}/histogram", array))
                if self.write_images:
                    values += _images(f"{weight.path}/image", array)
        return values

    def _embeddings(self) -> list[Any]:
        from handmill.layers import Embedding

        return [layer for layer in self.model.layers if isinstance(layer, Embedding)]

    def _describe_embeddings(self) -> None:
        given = self.embeddings_metadata
        layers = self._embeddings()
        if isinstance(given, dict):
            unknown = set(given) - {layer.name for layer in layers}
            if unknown:
                raise ValueError(
                    "Unrecognized `Embedding` layer names passed to `TensorBoard` "
                    f"`embeddings_metadata` argument: {sorted(unknown)}. The model has: "
                    f"{[layer.name for layer in layers]}"
                )
        lines = []
        for layer in layers:
            file = given.get(layer.name) if isinstance(given, dict) else given
            lines += ["embeddings {", f'  tensor_name: "{layer.name}"']
            lines.append(f'  tensor_path: "{layer.name}.tsv"')
            lines += [f'  metadata_path: "{file}"'] if file else []
            lines.append("}")
        folder = Path(self.log_dir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "projector_config.pbtxt").write_text("\n".join(lines) + "\n", "utf-8")

    def _write_embeddings(self) -> None:
        for layer in self._embeddings():
            rows = layer.embeddings.numpy().astype(np.float64)
            text = "\n".join("\t".join(f"{x:.8g}" for x in row) for row in rows)
            (Path(self.log_dir) / f"{layer.name}.tsv").write_text(text + "\n", "utf-8")


def _number(value: Any) -> float:
    return float(np.mean(np.asarray(value, np.float64)))


def _rate(optimizer: Any) -> float:
    rate = optimizer.learning_rate
    return float(rate.numpy() if hasattr(rate, "numpy") else np.asarray(rate))


def _images(tag: str, weight: Any) -> list[bytes]:
    """A vector or matrix as one grey image, three dimensions as one for each of the last."""
    squeezed = np.squeeze(weight)
    if squeezed.ndim in (0, 1):
        planes = [squeezed.reshape(-1, 1)]
    elif squeezed.ndim == 2:
        planes = [squeezed.T if squeezed.shape[0] > squeezed.shape[1] else squeezed]
    elif squeezed.ndim == 3:
        planes = list(np.moveaxis(squeezed, -1, 0))
    else:
        return []
    low, high = float(np.nanmin(weight)), float(np.nanmax(weight))
    scale = 255.0 / (high - low) if high > low else 0.0
    greys = [np.nan_to_num((plane - low) * scale).clip(0, 255).astype(np.uint8) for plane in planes]
    names = [tag] if len(greys) == 1 else [f"{tag}/{i}" for i in range(len(greys))]
    return [
        event_file.image(name, grey[..., None]) for name, grey in zip(names, greys, strict=True)
    ]
