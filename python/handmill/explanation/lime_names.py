"""The classes of the package ``lime``, for code that calls them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from handmill.explanation.explanation import Explanation
from handmill.explanation.local_models import lime, of_texts, samples_of


class _Explainer:
    """What the three have in common: options, and one instance for each class that is explained."""

    def __init__(
        self,
        kernel_width: float | None,
        feature_selection: str,
        random_state: int | None,
        **names: Sequence[str] | None,
    ) -> None:
        self._options: dict[str, Any] = {
            "kernel_width": kernel_width,
            "selection": feature_selection,
            "seed": 0 if random_state is None else random_state,
            **names,
        }

    def _explain(
        self,
        model: Any,
        instance: Any,
        background: Any,
        targets: list[int] | None,
        num_features: int,
        num_samples: int,
        **more: Any,
    ) -> Explanation:
        rows = [instance] * (1 if targets is None else len(targets))
        return lime(
            model,
            rows if isinstance(instance, str) else np.stack(rows),
            background,
            targets,
            num_features=num_features,
            num_samples=num_samples,
            **more,
            **self._options,
        )


class LimeTabularExplainer(_Explainer):
    """Explains rows of a table as ``lime.lime_tabular.LimeTabularExplainer`` is called.

    Args:
        training_data: rows (rows, features) that samples are drawn from.
        mode: ``"classification"`` or ``"regression"``.
        feature_names: names of columns.
        categorical_features: numbers of columns whose values are names.
        class_names: names of the classes.
        kernel_width: default 0.75 sqrt(features).
        feature_selection: as ``selection`` of :func:`handmill.explanation.lime`.
        discretize_continuous: whether a feature is "in the row's quartile" or not.
        random_state: the seed; the default repeats itself.

    Example:
        >>> import numpy as np
        >>> from handmill.explanation import LimeTabularExplainer
        >>> train = np.random.default_rng(0).normal(size=(100, 3))
        >>> explainer = LimeTabularExplainer(train, feature_names=["a", "b", "c"])
        >>> both = lambda x: np.stack([-x[:, 1], x[:, 1]], axis=1)
        >>> found = explainer.explain_instance(train[0], both, num_features=1)
        >>> "b" in found.as_list(1)[0][0]
        True
    """

    def __init__(
        self,
        training_data: Any,
        mode: str = "classification",
        feature_names: Sequence[str] | None = None,
        categorical_features: Sequence[int] | None = None,
        class_names: Sequence[str] | None = None,
        kernel_width: float | None = None,
        feature_selection: str = "auto",
        discretize_continuous: bool = True,
        random_state: int | None = None,
    ) -> None:
        if mode not in ("classification", "regression"):
            raise ValueError(f"`mode` must be 'classification' or 'regression'. Received: {mode!r}")
        self._features = np.shape(training_data)[-1]
        self._source = samples_of(
            training_data,
            self._features,
            discretize_continuous,
            () if categorical_features is None else categorical_features,
            feature_names,
        )
        self._mode = mode
        names = {"class_names": class_names, "feature_names": feature_names}
        super().__init__(kernel_width, feature_selection, random_state, **names)

    def explain_instance(
        self,
        data_row: Any,
        predict_fn: Any,
        labels: Sequence[int] = (1,),
        top_labels: int | None = None,
        num_features: int = 10,
        num_samples: int = 5000,
    ) -> Explanation:
        """Explains one row.

        Args:
            data_row: (features,).
            predict_fn: gives probabilities, or numbers, for rows.
            labels: the classes explained.
            top_labels: instead of them, so many of the most probable classes.
            num_features: features at most.
            num_samples: samples.

        Returns:
            An :class:`Explanation` with a row for each class; ``as_list(label)`` tells one.
        """
        row = np.asarray(data_row)
        if row.shape != (self._features,):
            raise ValueError(
                f"`data_row` must have the shape ({self._features},). Received: {row.shape}"
            )
        targets = _targets(predict_fn, row[None], labels, top_labels, self._mode)
        return self._explain(predict_fn, row, self._source, targets, num_features, num_samples)


class LimeImageExplainer(_Explainer):
    """Explains images as ``lime.lime_image.LimeImageExplainer`` is called.

    Args:
        kernel_width: default 0.25.
        feature_selection: as ``selection`` of :func:`handmill.explanation.lime`.
        random_state: the seed; the default repeats itself.
    """

    def __init__(
        self,
        kernel_width: float = 0.25,
        feature_selection: str = "auto",
        random_state: int | None = None,
    ) -> None:
        super().__init__(kernel_width, feature_selection, random_state)

    def explain_instance(
        self,
        image: Any,
        classifier_fn: Any,
        labels: Sequence[int] = (1,),
        top_labels: int | None = 5,
        hide_color: Any = None,
        num_features: int = 100_000,
        num_samples: int = 1000,
        segmentation_fn: Callable[[Any], Any] | None = None,
    ) -> Explanation:
        """Explains one image.

        Args:
            image: (height, width), or with channels.
            classifier_fn: gives probabilities for images.
            labels: the classes explained, if ``top_labels`` is None.
            top_labels: so many of the most probable classes.
            hide_color: what a hidden segment shows; None: its mean colour.
            num_features: segments at most.
            num_samples: samples.
            segmentation_fn: gives (height, width) numbers of segments; None: squares.

        Returns:
            An :class:`Explanation` with a row, a map, for each class.
        """
        image = np.asarray(image)
        targets = _targets(classifier_fn, image[None], labels, top_labels, "classification")
        segments = None if segmentation_fn is None else np.asarray(segmentation_fn(image))
        if segments is not None:
            segments = np.unique(segments, return_inverse=True)[1].reshape(segments.shape)
        return self._explain(
            classifier_fn, image, hide_color, targets, num_features, num_samples, segments=segments
        )


class LimeTextExplainer(_Explainer):
    """Explains texts as ``lime.lime_text.LimeTextExplainer`` is called.

    Args:
        kernel_width: default 25.
        class_names: names of the classes.
        feature_selection: as ``selection`` of :func:`handmill.explanation.lime`.
        random_state: the seed; the default repeats itself.
    """

    def __init__(
        self,
        kernel_width: float = 25.0,
        class_names: Sequence[str] | None = None,
        feature_selection: str = "auto",
        random_state: int | None = None,
    ) -> None:
        super().__init__(kernel_width, feature_selection, random_state, class_names=class_names)

    def explain_instance(
        self,
        text_instance: str,
        classifier_fn: Any,
        labels: Sequence[int] = (1,),
        top_labels: int | None = None,
        num_features: int = 10,
        num_samples: int = 5000,
    ) -> Explanation:
        """Explains one text: what each of its words speaks for.

        Args:
            text_instance: the text.
            classifier_fn: gives probabilities for a list of texts.
            labels: the classes explained.
            top_labels: instead of them, so many of the most probable classes.
            num_features: words at most.
            num_samples: samples.

        Returns:
            An :class:`Explanation` with a row for each class; ``as_list(label)`` tells one.
        """
        one = np.array([text_instance], dtype=object)
        targets = _targets(of_texts(classifier_fn), one, labels, top_labels, "classification")
        return self._explain(classifier_fn, text_instance, None, targets, num_features, num_samples)


def _targets(
    model: Any, rows: Any, labels: Sequence[int], top_labels: int | None, mode: str
) -> list[int] | None:
    """The classes explained; None where the model gives one number."""
    from handmill.explanation.black_box import BlackBox

    outputs = BlackBox(model, rows).outputs([rows])[0]
    if mode == "regression" or len(outputs) == 1:
        return None
    if top_labels:
        return [int(c) for c in np.argsort(-outputs, kind="stable")[:top_labels]]
    return [int(label) for label in labels]
