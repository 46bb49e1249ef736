"""What the ranks of a training have to have in common, and how they get it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Container, Iterator
from typing import Any

import numpy as np

from handmill import __version__, config, random
from handmill.distribution.ranks import DisagreementError
from handmill.ir.op import Array

_MOST_BYTES = 1 << 26
"""Of larger arrays the ranks compare rows here and there."""

_SAMPLED = 4096
_SHOWN = 160


def facts_of(model: Any, data: Any, place: tuple[range, int], shards: int) -> dict[str, str]:
    """What must be equal on all ranks, by name.

    Args:
        model: a built model.
        data: what it is trained on.
        place: the epochs, and how many batches of the first are done.
        shards: into how many a batch is cut.
    """
    epochs, begun = place
    weights = [(v.path, v.shape, v.dtype, v.trainable) for v in model.variables]
    found = {
        "version of handmill": __version__,
        "backend": config.backend(),
        "instruction set": config.isa(),
        "shards": str(shards),
        "variables": str(weights),
        "optimizer": json.dumps(_plain(model.optimizer.get_config()), sort_keys=True),
        "loss and metrics": str(
            [[getattr(loss, "name", None) for loss in model.objective.losses], model.metrics_names]
        ),
        "structure of the model": _config_of(model),
        "epochs": f"{epochs.start} to {epochs.stop}, {begun} batches done",
        "batches": str(data.num_batches),
        "batch size": str(getattr(data, "batch_size", None)),
    }
    arrays = data.whole()
    if arrays is not None:
        dense = [a for a in arrays if isinstance(a, np.ndarray)]
        found["shapes of the data"] = str([(a.shape, a.dtype.name) for a in dense])
        found["data"] = str([_checksum(a) for a in dense])
    return found


def agree(ranks: Any, facts: dict[str, str]) -> None:
    """Raises a DisagreementError that names the first fact that differs between ranks."""
    if ranks.size == 1:
        return
    texts = ranks.gather(json.dumps(facts).encode())
    if all(text == texts[0] for text in texts):
        return
    said = [json.loads(text) for text in texts]
    names = list(dict.fromkeys(name for facts in said for name in facts))
    for name in names:
        values = [facts.get(name) for facts in said]
        other = next((q for q, value in enumerate(values) if value != values[0]), None)
        if other is not None:
            first, second = _where_different(str(values[0]), str(values[other]))
            raise DisagreementError(
                f"the ranks of this training differ in: {name}. {ranks.members[0]} has {first}; "
                f"{ranks.members[other]} has {second}. All ranks have to run the same script on "
                "the same data"
            )


def _where_different(one: str, other: str) -> list[str]:
    """The parts of two texts that differ, with a little before."""
    same = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
    start = max(same - 40, 0) if max(len(one), len(other)) > _SHOWN else 0
    stop = start + _SHOWN
    return [
        f"{'...' if start else ''}{text[start:stop]}{'...' if len(text) > stop else ''}"
        for text in (one, other)
    ]


def share_state(ranks: Any, model: Any) -> None:
    """Gives all ranks the weights, the optimizer's state and the random state of rank 0."""
    if ranks.size == 1:
        return
    note = json.dumps([random.state(), model._shuffle]).encode()
    state, shuffle = json.loads(ranks.gather(note)[0])
    random.restore_state(state)
    model._shuffle = shuffle
    for variable in _state_of(model):
        array = variable.state.copy()
        if ranks.rank == 0:
            ranks.exchange([None, *([_bytes(array)] * (ranks.size - 1))], [None] * ranks.size)
            continue
        flat = _bytes(array)
        ranks.exchange([None] * ranks.size, [flat, *([None] * (ranks.size - 1))])
        new = flat.view(array.dtype).reshape(array.shape)
        if not np.array_equal(_bytes(variable.read()), flat):
            variable.state.write(new)


def check_weights(ranks: Any, model: Any, epoch: int, sharded: Container[int]) -> None:
    """Raises a DisagreementError if weights are not the same on all ranks, bit by bit.

    Args:
        ranks: the processes.
        model: the model.
        epoch: its number, from 0.
        sharded: identities of variables that one rank alone holds.
    """
    if ranks.size == 1:
        return
    variables = [v for v in _state_of(model) if id(v) not in sharded]
    sums = [zlib.crc32(_bytes(v.read()).data) for v in variables]
    found = [json.loads(data) for data in ranks.gather(json.dumps(sums).encode())]
    for i, variable in enumerate(variables):
        other = next((q for q, one in enumerate(found) if one[i] != found[0][i]), None)
        if other is not None:
            raise DisagreementError(
                f"after epoch {epoch + 1} {variable.path!r} is not the same on {ranks.members[0]} "
                f"and on {ranks.members[other]}: something but fit() has written it on one of "
                "them, such as a callback that does not do the same on every rank"
            )


def _state_of(model: Any) -> Iterator[Any]:
    yield from model.variables
    yield from model.optimizer.variables


def _bytes(array: Array) -> Array:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _checksum(array: Array) -> int:
    """Of all bytes, or, of a large array, of rows here and there."""
    if array.nbytes > _MOST_BYTES:
        step = max(len(array) // _SAMPLED, 1)
        array = array[::step]
    return zlib.crc32(_bytes(array).data)


def _config_of(model: Any) -> str:
    try:
        return str(model.to_json())
    except (NotImplementedError, TypeError, ValueError):
        return type(model).__name__  # of a class that cannot be described


def _plain(thing: Any) -> Any:
    if isinstance(thing, dict):
        return {str(key): _plain(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [_plain(item) for item in thing]
    return thing if isinstance(thing, str | int | float | bool | None) else type(thing).__name__
