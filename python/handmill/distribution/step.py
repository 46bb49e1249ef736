"""The steps of training and measuring over ranks: each computes its shards of every batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import numpy as np

from handmill import ops, random
from handmill.data.batches import pack_x_y_sample_weight, unpack_x_y_sample_weight
from handmill.distribution.buffers import Packing, Sums
from handmill.distribution.exchange import WHOLE, Exchange, Share
from handmill.distribution.overlap import Early, groups_of, tell_when_ready
from handmill.distribution.ranks import DisagreementError, RankLostError
from handmill.distribution.shards import Node, fold, rows_of_shard
from handmill.distribution.sharing import Shares
from handmill.errors import RowError
from handmill.ir.graph import current_graph
from handmill.ir.op import Array
from handmill.layers.context import collected_losses
from handmill.layers.layer import all_layers
from handmill.metrics.metric import noted_results
from handmill.models.lengths import lengths_of
from handmill.models.objective import loss_of
from handmill.models.portions import DEADLINE
from handmill.models.steps import Step, in_order_of_names, is_overridden, tracing
from handmill.runtime.function import Outputs, TracedFunction
from handmill.runtime.structure import Walk
from handmill.runtime.variable import Variable

_SEED = "seed_generator_state"
"""The name of the state of a SeedGenerator: seed, and number of draws."""

_OF_SHARDS = 1 << 40
"""Where the seeds of shards begin among those that follow from one seed."""


class _Parts:
    """What the arrays that a shard gives are.

    Args:
        trained: the variables, each with whether it has a gradient.
        means: variables that become the mean of what the shards give, by rows.
        counters: seeds, and whole numbers: the same on every shard.
        sums: the state of metrics: what the shards add to it.
        groups: places of the gradients of which the program tells when they are final.
    """

    def __init__(
        self,
        trained: Sequence[tuple[Variable, bool]],
        means: Sequence[Variable],
        counters: Sequence[Variable],
        sums: Sequence[Variable],
        groups: Sequence[range],
    ) -> None:
        self.groups = groups
        self.trained, self.means = list(trained), list(means)
        self.counters, self.sums = list(counters), list(sums)
        gradients = [v for v, has in trained if has]
        kinds = [(v.shape, v.dtype) for v in (*gradients, *means, *counters, *sums)]
        kinds += [((), "float32") for _ in groups]
        self.packing = Packing(kinds)


class ShardedStep(Step):
    """A step whose batch is cut into shards, which the ranks share; see :class:`Step`.

    What a shard gives is a function of its rows and of the state before the step: gradients of its
    part of the loss, what it adds to metrics, and what it makes of other variables. All of it is
    added up in one tree; then each rank makes the same update.

    Args:
        model: a compiled model.
        layout: how the arrays of a batch lie.
        phase: ``"train"`` or ``"test"``.
        exchange: adds up what the ranks have.
        shards: into how many a batch is cut.
        shares_of: gives how the optimizer's state is shared out, for a model, its variables (each
            with whether it has a gradient) and the bytes of gradients; None for not at all.

    Raises:
        ValueError: for what has no meaning by shards; the message names it.
    """

    ignores_trainable = True

    def __init__(
        self,
        model: Any,
        layout: Any,
        phase: str,
        exchange: Exchange,
        shards: int,
        shares_of: Callable[[Any, Sequence[tuple[Variable, bool]], int], Shares | None],
    ) -> None:
        super().__init__(model, layout, phase)
        _check(model, phase)
        self._shares_of = shares_of
        self.is_standard = True
        lengths = lengths_of(model, layout.counts)
        self.function = TracedFunction(self._trace, f"{phase}_shard", subject=self, lengths=lengths)
        self.losses: list[Any] = []
        self._exchange = exchange
        self._shards = shards
        self._share = Variable.of_zeros((), "float32", "share_of_batch", "share_of_batch")
        self._finite, self._alive = 0, True
        self._steps = 0
        self._free: list[Sums] = []
        self._packing: Packing | None = None
        self._early: Early | None = None  # while the last shard of this rank is computed
        self._placed: Sums | None = None  # where the sum of this rank comes to lie

    # The program of a shard.

    def parts(self) -> tuple[Any, ...]:
        """What the program depends on."""
        model = self.model
        return model, model.optimizer if self.training else None, model.objective, self

    def describe_structure(self, walk: Walk) -> None:
        """Its outputs are known by the variables of this model: no other shares the program."""
        walk.is_shared = False

    def memo(self, before: Any) -> None:
        """Nothing: the program is not shared."""

    def prepare(self, memo: None, before: Any) -> None:
        """Nothing: the program is not shared."""

    def _trace(self, *values: Any) -> Outputs:
        model, graph = self.model, current_graph()
        assert graph is not None  # noqa: S101
        was_built = model.objective.built
        self.losses = []
        gradients: list[Any] = []
        variables: list[Variable] = []
        try:
            with (
                tracing(self),
                collected_losses(),
                noted_results(),
                self._numbered(values),
            ):
                data = pack_x_y_sample_weight(*self.layout.join(values))
                if self.training:
                    gradients, variables, found = model._differentiated(data, self._share.value)
                else:
                    x, y, weight = unpack_x_y_sample_weight(data)
                    y_pred = model(x, training=False)
                    found = x, y, y_pred, weight, loss_of(model, x, y, y_pred, weight, False)
                model._measured(*found)
            self._check_losses()
            sums = self._metric_variables()
        except BaseException:
            if not was_built:
                model.objective.forget()
            raise
        written = dict(graph.updates)
        graph.updates.clear()  # a shard writes nothing: all goes into the sums
        ids = {id(v) for v in sums}
        others = [v for v in written if isinstance(v, Variable) and id(v) not in ids]
        counters = [v for v in others if v.name == _SEED or not v.dtype.startswith(_FLOATING)]
        counted = {id(v) for v in counters}
        means = [v for v in others if id(v) not in counted]
        share = self._share.value
        outputs = [g for g in gradients if g is not None]
        outputs += [ops.multiply(written[v], ops.cast(share, v.dtype)) for v in means]
        outputs += [written[v] for v in counters]
        outputs += [written.get(v, v.value) for v in sums]
        trained = [v for v, g in zip(variables, gradients, strict=True) if g is not None]
        for i, variable in enumerate(trained):
            outputs[i] = ops.cast(outputs[i], variable.dtype)
        groups: list[range] = []
        if self._exchange.goes_by_messages and {v.dtype for v in trained} == {"float32"}:
            groups = groups_of([v.size for v in trained])
            outputs += tell_when_ready(graph, outputs[: len(trained)], groups, self)
        pairs = [(v, g is not None) for v, g in zip(variables, gradients, strict=True)]
        return Outputs(tuple(outputs), _Parts(pairs, means, counters, sums, groups))

    def _metric_variables(self) -> list[Variable]:
        return [v for metric in self.model._metrics_now()[1] for v in metric.variables]

    def _check_losses(self) -> None:
        for loss in self.model.objective.losses:
            kind = getattr(loss, "reduction", "sum_over_batch_size")
            if loss is not None and kind not in ("sum_over_batch_size", "mean"):
                raise ValueError(
                    f"the loss {loss.name!r} has reduction={kind!r}; over several processes the "
                    "loss of a batch is the mean of those of its shards, by rows, so expected "
                    "'sum_over_batch_size' (a sum is that mean times the batch size: multiply the "
                    "learning rate by it)"
                )
        for metric in self.model._metrics_now()[1]:
            if any(v.dtype == "bool" for v in metric.variables):
                raise ValueError(
                    f"the metric {metric.name!r} keeps truth values, which cannot be added up over "
                    "shards of a batch: expected numbers that start from 0 and to which batches add"
                )

    # Running.

    def run(self, portion: Any, count: int) -> int:
        """Runs ``count`` steps, or as many as there is time for; returns how many."""
        end = perf_counter() + DEADLINE
        done = 0
        most = min(count, portion.steps) if hasattr(portion, "size") else 1
        while True:
            self._batch(portion)
            done += 1
            if done >= most or self.is_stopped() or perf_counter() >= end:
                return done

    def _batch(self, portion: Any) -> None:
        exchange = self._exchange
        start = perf_counter()
        batch = portion.begin()
        saved: list[tuple[Variable, Array]] = []
        sums, failure = None, None
        try:
            parts = self._parts(batch)
            shares = self._shares(parts)
            share = None if shares is None else self._share_of(parts.packing, shares)
            changed = (*parts.sums, *parts.counters)
            saved = [(v, v.state.copy()) for v in changed]
            for variable in parts.sums:
                variable.state.zero()
            seeds = [(v, array) for v, array in saved if v.name == _SEED]
            sums = self._fold(batch, parts, seeds, share)
        except (DisagreementError, RankLostError):
            raise  # the others know, or are gone; nothing was changed
        except Exception as error:
            failure = error
        try:
            exchange.meet(self.phase, self._steps + 1, failure, perf_counter() - start)
        except Exception:
            exchange.abandon_early()
            for variable, array in saved:
                variable.state.write(array)
            raise
        rows = batch.rows
        empty = [
            rows_of_shard(first, self._shards, rows)[0]
            == rows_of_shard(last - 1, self._shards, rows)[1]
            for first, last in exchange.nodes
        ]
        total = exchange.total(sums, empty, parts.packing.new, share)
        self._update(parts, total, saved, shares)
        self._steps += 1

    def _shares(self, parts: _Parts) -> Shares | None:
        """How the optimizer's state is shared out in this step."""
        if not parts.trained:
            return None
        assert self._placed is not None  # noqa: S101
        return self._shares_of(self.model, parts.trained, self._placed.narrow.nbytes)

    def _share_of(self, packing: Packing, shares: Shares) -> Share:
        assert self._placed is not None  # noqa: S101
        narrow, wide = self._placed
        count = len(shares.variables)
        ends = [packing.start(i) if i < count else len(narrow) for i in shares.places[:-1]]

        def change(found: Array) -> None:
            shares.update(packing.views(Sums(found, wide)))

        return Share([*ends, len(narrow)], change)

    def _parts(self, batch: Any) -> _Parts:
        fitted = self.function.fitted(batch.like())
        parts: _Parts = fitted.signature.trace.structure
        if parts.packing is not self._packing:
            new, step = parts.packing.new(), self._steps + 1
            self._placed = self._exchange.place(new, self.phase, step)
            self._packing, self._free = parts.packing, []
        return parts

    def _fold(
        self,
        batch: Any,
        parts: _Parts,
        seeds: Sequence[tuple[Variable, Array]],
        share: Share | None,
    ) -> Any:
        """The sum of this rank's shards; None if none has a row."""
        first, last = self._exchange.node
        leaves = {(s, s + 1) for s in range(first, last)}
        placed = self._placed
        assert placed is not None  # noqa: S101
        # For the first shard, to which the others are added; the last batch may not have used it.
        self._free = [*(s for s in self._free if s is not placed), placed]
        held: list[Sums] = []  # what waits for others
        is_early = bool(parts.groups) and batch.rows >= self._shards
        is_early &= placed.narrow.nbytes > WHOLE
        added = 0  # elements that are added up when they are ready

        def give(node: Node) -> Sums | None:
            nonlocal added
            start, stop = rows_of_shard(node[0], self._shards, batch.rows)
            if stop == start:
                return None
            if is_early and node[1] == last:
                early = Early(parts.packing, parts.groups, held, placed, self._exchange, share)
                self._early, added = early, early.stop
            try:
                held.append(self._shard(batch, parts, seeds, node[0], start, stop))
            finally:
                self._early = None
            return held[-1]

        def add(one: Sums, other: Sums) -> Sums:
            self._free.append(held.pop())
            return one.add(other, added)

        return fold((first, last), leaves, give, add)

    def ready(self, group: int, arrays: Sequence[Array]) -> None:
        """Is told by the program of a shard that gradients are final."""
        if self._early is not None:
            self._early.add(group, arrays)

    def _shard(
        self,
        batch: Any,
        parts: _Parts,
        seeds: Sequence[tuple[Variable, Array]],
        shard: int,
        start: int,
        stop: int,
    ) -> Sums:
        sums = self._free.pop() if self._free else parts.packing.new()
        self._share.state.write(np.float32((stop - start) / batch.rows))
        for variable, array in seeds:
            seed = random.host_seed(int(array[0]), _OF_SHARDS + shard)
            variable.state.write(np.array([seed, array[1]], np.int64))
        try:
            self.function.run_into(batch.part(start, stop), parts.packing.targets(sums))
        except RowError as error:
            raise batch.explained(RowError(error.problem, start + error.row)) from None
        except ValueError as error:
            raise batch.explained(error)  # noqa: B904  (the same error, with the place)
        parts.packing.put(sums)
        if shard:  # shards agree on counters: one of them is enough
            for array in self._counters(parts, sums):
                array[...] = 0
        return sums

    def _counters(self, parts: _Parts, sums: Sums) -> list[Array]:
        views = parts.packing.views(sums)
        count = len(parts.counters)
        stop = len(views) - len(parts.groups) - len(parts.sums)
        return views[stop - count : stop]

    def _update(
        self,
        parts: _Parts,
        total: Sums,
        saved: Sequence[tuple[Variable, Array]],
        shares: Shares | None,
    ) -> None:
        found = iter(parts.packing.views(total))
        gradients = [next(found) if has else None for _, has in parts.trained]
        for variable in parts.means:
            variable.state.write(next(found).astype(variable.read().dtype, copy=False))
        before = {id(v): array for v, array in saved}
        for variable in parts.counters:
            array = next(found).astype(np.int64)
            if variable.name == _SEED:  # the seed that shard 0 had is of the shard
                array[0] = before[id(variable)][0]
            variable.state.write(array.astype(variable.read().dtype, copy=False))
        tracker = self.model.objective.tracker.total
        for variable in parts.sums:
            new = next(found)
            if variable is tracker and self._alive:
                self._alive = math.isfinite(float(new))
                self._finite += self._alive
            array = before[id(variable)]
            variable.state.write((array + new).astype(array.dtype, copy=False))
        if shares is not None:
            shares.take([g for g in gradients if g is not None])
        elif parts.trained:
            self.model.optimizer.apply(gradients, [v for v, _ in parts.trained])

    def logs(self) -> dict[str, Any]:
        """Returns the numbers by name as they are after the last step."""
        return in_order_of_names(self.model.get_metrics_result())

    def epoch_logs(self) -> dict[str, Any]:
        """Returns the numbers of all steps since the metrics were reset."""
        return self.logs()

    def reset(self) -> None:
        """Starts the count of finite steps again."""
        self._finite, self._alive, self._steps = 0, True, 0

    def steps_before_nan(self) -> int:
        """How many steps had a finite loss before the first that had not."""
        return self._finite


_FLOATING = ("float", "bfloat")


def _check(model: Any, phase: str) -> None:
    """Raises a ValueError for a model whose steps cannot be made of shards."""
    name = f"{type(model).__name__} {model.name!r}"
    own = [
        method
        for method in (f"{phase}_step", "compute_metrics", "get_metrics_result")
        if is_overridden(model, method)
    ]
    if own:
        raise ValueError(
            f"{own[0]}() of {name} is its own; over several processes a batch is cut into shards, "
            "which works for the standard step. Override compute_loss() or call(), or train with "
            "set_distribution(None)"
        )
    if model.run_eagerly:
        raise ValueError(
            f"{name} is compiled with run_eagerly=True; over several processes steps are "
            "programs: compile it with run_eagerly=False, or call set_distribution(None)"
        )
    if phase == "train" and model._health_monitor is not None:
        raise ValueError(
            "HealthMonitor looks at the steps of one process: leave it out, or call "
            "set_distribution(None)"
        )
    for layer in all_layers(model):
        if getattr(layer, "sparse_rows", False):
            raise ValueError(
                f"layer {layer.name!r} has sparse_rows=True; gradients of rows are not added up "
                "over processes: make it with sparse_rows=False"
            )
        if getattr(layer, "stateful", False):
            raise ValueError(
                f"layer {layer.name!r} is stateful: it carries the rows of a batch on to the next, "
                "but shards of a batch know nothing of each other; make it with stateful=False"
            )
