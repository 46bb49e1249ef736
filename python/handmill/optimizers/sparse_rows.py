"""Tables with ``sparse_rows``: a step updates the rows that it used, and nothing walks the rest.

The gradient of such a table is handed to the optimizer as rows: as many as the batch looked up,
each once, with what it is added up to. Norms and bounds of gradients are those of the whole table,
whose other rows are zero. What the whole table would be needed for is refused.

The rule is the lazy one of TensorFlow Addons' LazyAdam and PyTorch's SparseAdam: a row that the
batch did not use stays as it is, and so do its slots. Plain SGD and Adagrad do the same with the
whole table. Momentum would go on moving the row, and the means of Adam and RMSprop would decay;
here they wait for the row's next use. Adam's bias corrections count all steps, as for other
variables. Weight decay of Adam and AdamW shrinks the rows that are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from handmill.ir.graph import Value
from handmill.ir.op import Attrs, Op
from handmill.ir.trace import apply
from handmill.primitives.rows import ROWS_UPDATES, looked_up
from handmill.runtime.variable import Variable

if TYPE_CHECKING:
    from handmill.optimizers.base import Optimizer


def gradients_of_rows(
    optimizer: Optimizer, grads: list[Any], variables: list[Variable]
) -> tuple[list[Any], dict[int, Any]]:
    """Returns gradients, of tables with ``sparse_rows`` as rows, and which rows these are.

    Args:
        optimizer: whose step is being traced.
        grads: a value for each variable.
        variables: that it updates.

    Raises:
        ValueError: if the step would need the whole table.
    """
    if not any(v.sparse_rows for v in variables):
        return grads, {}
    found, rows = [], {}
    for gradient, variable in zip(grads, variables, strict=True):
        if variable.sparse_rows:
            refuse(variable, _needs_the_table(optimizer, variable))
            parts = looked_up(gradient, variable.shape[0]) if isinstance(gradient, Value) else None
            if parts is None:
                refuse(
                    variable,
                    "its gradient does not come from look-ups in a traced step alone: it is an "
                    "array (`run_eagerly=True`, apply() outside of a step), or the loss has the "
                    "table in it in another way, or the gradient was changed before apply()",
                )
            gradient, rows[id(variable)] = parts  # type: ignore[misc]
        found.append(gradient)
    return found, rows


def updated(
    update: Op, values: list[Any], gradient: Any, at: Any, numbers: Sequence[Any], attrs: Attrs
) -> tuple[Any, ...]:
    """Returns what an update makes of a variable and its slots.

    Args:
        update: its operator.
        values: of the variable, then of the slots.
        gradient: of the variable, or of rows.
        at: which rows these are; None: it is of the variable.
        numbers: the operands behind the gradient.
        attrs: the attributes.
    """
    if at is None:
        found = apply(update, *values, gradient, *numbers, **attrs)
    else:
        found = apply(ROWS_UPDATES[update.name], gradient, at, *values, *numbers, **attrs)
    return found if isinstance(found, tuple) else (found,)


def refuse(variable: Variable, why: str | None) -> None:
    """Raises a ValueError that says why the whole of a table would be needed; None: it is not."""
    if why is not None:
        raise ValueError(
            f"variable {variable.path!r} has sparse_rows=True, so that a step touches the rows it "
            f"uses and no others, but {why}. Make its Embedding with sparse_rows=False"
        )


def _needs_the_table(optimizer: Optimizer, variable: Variable) -> str | None:
    """What of an optimizer, or of the table, changes rows that a step did not use."""
    name = type(optimizer).__name__
    if variable.dtype != "float32":
        return f"it is {variable.dtype}, and rows are updated in float32 only"
    if variable.ndim == 0:
        return "it has no rows"
    if variable.constraint is not None:
        return "its constraint is a condition on all of it"
    if optimizer.use_ema:
        return f"the running means of {name}(use_ema=True) move all of it"
    if optimizer.gradient_accumulation_steps:
        return f"{name}(gradient_accumulation_steps=...) keeps a gradient of all of it"
    if optimizer.decay_of(variable) is not None and not optimizer.decays_itself:
        return (
            f"the weight decay of {name} shrinks all of it (exclude it by "
            "`exclude_from_weight_decay()`, or take AdamW, which shrinks the rows that are used)"
        )
    if not _updates_rows(optimizer):
        return (
            f"{name} with these settings updates all of it (rows alone: SGD; Adam and AdamW "
            "without amsgrad; RMSprop without momentum, not centered; Adagrad)"
        )
    return None


def _updates_rows(optimizer: Optimizer) -> bool:
    """Whether the class that wrote ``update_step`` says that it can."""
    for kind in type(optimizer).__mro__:
        if "update_step" in vars(kind):
            return "updates_rows" in vars(kind) and optimizer.updates_rows()
    return False
