"""Tables that two small ones adapt: LoRA."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from handmill import initializers, ops
from handmill.ir.op import Array
from handmill.layers.arguments import positive_integer
from handmill.layers.layer import Layer
from handmill.runtime.variable import Variable


class LowRankLayer(Layer):
    """A layer with a table of weights that may be adapted by a product of two small ones.

    After :meth:`enable_lora` the layer computes with ``table + lora_alpha / lora_rank * a @ b``;
    only ``a`` and ``b`` are trained. Files of Keras hold that sum in the place of the table, so
    that a layer without ``a`` and ``b`` reads them too.

    Args:
        lora_rank: adapts the table from the start, with tables of this many columns and rows.
        lora_alpha: the factor of the adaptation, times ``lora_rank``; default: ``lora_rank``.
        **kwargs: those of :class:`Layer`.
    """

    _table_name: ClassVar[str] = "kernel"

    def __init__(
        self, *, lora_rank: int | None = None, lora_alpha: float | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        rank = positive_integer("lora_rank", lora_rank) if lora_rank else None
        alpha = rank if lora_alpha is None else lora_alpha
        self._start(lora_rank=rank, lora_alpha=alpha, lora_enabled=False)

    lora_rank: int | None
    lora_alpha: float | None
    lora_enabled: bool

    def enable_lora(
        self,
        rank: int,
        lora_alpha: float | None = None,
        a_initializer: Any = "he_uniform",
        b_initializer: Any = "zeros",
    ) -> None:
        """Freezes the table and trains a product of two small ones that is added to it.

        A model that contains the layer has to be compiled again before it is trained.

        Args:
            rank: how many columns the first, and rows the second of them has.
            lora_alpha: the factor of the product, times ``rank``; default: that of the layer, or
                ``rank``.
            a_initializer: initial values of the first.
            b_initializer: initial values of the second; zeros leave the layer as it is at first.

        Raises:
            ValueError: if the layer is not built, the table has a constraint, or LoRA is on.

        Example:
            >>> from handmill.layers import Dense
            >>> layer = Dense(300)
            >>> layer.build((None, 200))
            >>> layer.enable_lora(rank=4)
            >>> [weight.shape for weight in layer.trainable_weights]
            [(300,), (200, 4), (4, 300)]
        """
        name = self._table_name
        if getattr(self, f"{name}_constraint") is not None:
            kind = "kernel" if name == "kernel" else "embedding"
            raise ValueError(
                f"Lora is incompatible with {kind} constraints: a condition on the sum cannot be "
                f"kept by its parts. Leave out `{name}_constraint` of {self.describe()}."
            )
        if not self.built:
            raise ValueError(
                f"Cannot enable lora on a layer that isn't yet built: {self.describe()}. Call it "
                "on data, or build it, before."
            )
        if self.lora_enabled:
            raise ValueError(
                f"lora is already enabled in {self.describe()}. This can only be done once per "
                "layer."
            )
        rank = positive_integer("rank", rank)
        table, shape = self._table, self._shape_of_table
        parts = (
            ("a", (*shape[:-1], rank), a_initializer),
            ("b", (rank, shape[-1]), b_initializer),
        )
        made = [
            self.add_weight(
                name=f"lora_{name}_{part}",
                shape=shape,
                initializer=initializers.get(initializer),
                dtype="float32",
                regularizer=table.regularizer,
            )
            for part, shape, initializer in parts
        ]
        for (part, _, _), weight in zip(parts, made, strict=True):
            setattr(self, f"lora_{name}_{part}", weight)
        table.trainable = False
        if lora_alpha is None:
            lora_alpha = rank if self.lora_alpha is None else self.lora_alpha
        self.lora_enabled, self.lora_rank, self.lora_alpha = True, rank, lora_alpha

    def _enable_lora_from_start(self) -> None:
        """For the end of ``build``."""
        if self.lora_rank is not None:
            self.built = True
            self.enable_lora(self.lora_rank)

    @property
    def _table(self) -> Variable:
        """The variable that holds the table."""
        found = vars(self).get(f"_{self._table_name}")
        if found is None:
            raise AttributeError(
                f"You must build the layer before accessing `{self._table_name}`: "
                f"{self.describe()} makes it when it is built."
            )
        return found  # type: ignore[no-any-return]

    @property
    def _shape_of_table(self) -> tuple[int, ...]:
        return tuple(self._table.shape)

    @property
    def _lora(self) -> tuple[Variable, Variable, float]:
        """The two small tables, and the factor of their product."""
        name = self._table_name
        factor = self.lora_alpha / self.lora_rank  # type: ignore[operator]
        return getattr(self, f"lora_{name}_a"), getattr(self, f"lora_{name}_b"), factor

    def _adapted_table(self) -> Any:
        """The table with what is added to it: the variable itself where that is nothing."""
        if not self.lora_enabled:
            return self._table
        a, b, factor = self._lora
        return ops.cast(
            ops.add(self._table, ops.multiply(ops.matmul(a, b), factor)), self.compute_dtype
        )

    @property
    def trainable(self) -> bool:
        """Whether optimizers update this layer; with LoRA, its table is not updated in any case."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        Layer.trainable.fset(self, value)  # type: ignore[attr-defined]
        if self.lora_enabled:
            self._table.trainable = False

    # Files of Keras.

    def variables_to_store(self) -> list[Variable]:
        """The weights of this layer without the two small tables."""
        found = super().variables_to_store()
        merged = {id(v) for v, _ in self.merged_variables()}
        return [v for v in found if id(v) not in merged]

    def content_to_store(self, variable: Variable) -> Array:
        """The content of a variable; of the table, with what is added to it."""
        if not self.lora_enabled or variable is not self._table:
            return super().content_to_store(variable)
        a, b, factor = self._lora
        table = variable.read()
        return (table + factor * (a.read() @ b.read())).astype(table.dtype)

    def merged_variables(self) -> list[tuple[Variable, Array]]:
        """What was added is part of a stored table: a loaded layer adds 0 at first."""
        if not self.lora_enabled:
            return []
        a, b, _ = self._lora
        # Were both 0, as Keras leaves them, their gradients were 0 for ever.
        return [(a, a.read()), (b, np.zeros_like(b.read()))]

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        config = super().get_config()
        if self.lora_rank is not None:
            config |= {"lora_rank": self.lora_rank, "lora_alpha": self.lora_alpha}
        return config
