"""An optimizer that goes on after some of its variables are gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from handmill.runtime.variable import Variable


def of_what_is_left(optimizer: Any, variables: Sequence[Variable]) -> Any:
    """A new optimizer with the settings of another one, for those of its variables that are left.

    What is kept by the positions of variables (masks of pruned weights, exemptions from weight
    decay) is kept by their new positions.

    Args:
        optimizer: built.
        variables: what will be trained, in the order of the optimizer's own.

    Returns:
        An optimizer of the same class that has no state yet; see :func:`take_state`.
    """
    made = type(optimizer).from_config(optimizer.get_config())
    exempt(made, optimizer, {id(v): [v] for v in variables})
    left = {id(v) for v in variables}
    for old, new in zip(_parts(optimizer), _parts(made), strict=True):
        known = [i for i, v in enumerate(old._trainable_variables) if id(v) in left]
        new._masked = [known.index(i) for i in old._masked if i in known]
    return made


def exempt(made: Any, optimizer: Any, successors: Mapping[int, Sequence[Variable]]) -> None:
    """Exempts from weight decay what follows the exempt variables of another optimizer.

    Args:
        made: an optimizer of the same settings that is not built.
        optimizer: the other one, built.
        successors: the id of a variable -> what stands in its place.
    """
    for old, new in zip(_parts(optimizer), _parts(made), strict=True):
        exempted = [v for v in old._trainable_variables if old._is_excluded(v)]
        new._excluded = [new_one for v in exempted for new_one in successors.get(id(v), ())]
        new._masked = []


def take_state(optimizer: Any, former: Any) -> None:
    """Gives an optimizer the state of another one: steps, rate and the slots of equal names."""
    known: dict[tuple[str, Any], list[Any]] = {}
    for v in reversed(former.variables):
        known.setdefault((v.name, v.shape), []).append(v)
    for v in optimizer.variables:
        if same := known.get((v.name, v.shape)):
            v.assign(same.pop().numpy())


def _parts(optimizer: Any) -> list[Any]:
    """The optimizers that update variables: of wrappers, those inside."""
    inner = getattr(optimizer, "inner_optimizer", None)
    if inner is not None:
        return _parts(inner)
    return [p for o in getattr(optimizer, "optimizers", ()) for p in _parts(o)] or [optimizer]
