"""The base class of layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from handmill import dtype_policies, errors, regularizers, tree
from handmill.errors import ShapeError
from handmill.ir.graph import Graph, Value, current_graph, outside_graph
from handmill.ir.op import Array
from handmill.ir.shapes import FLOATS
from handmill.ir.trace import array_masks, autocast_scope, dtype_of, mask_of, recorders, with_mask
from handmill.layers import masks
from handmill.layers.arguments import (
    alone,
    as_lists,
    as_tuples,
    bound_arguments,
    build_arguments,
    check_positional,
    checked_bool,
    checked_name,
    defines_shape,
    input_shape_argument,
    leaves_of,
    located,
    shape_of_leaf,
    tensors_of,
    unique,
    warn_of_unbuilt,
    weight_arguments,
)
from handmill.layers.attributes import (
    FUNCTIONS,
    NOT_NOTICED,
    NOT_READ,
    NOT_READ_BY_OURS,
    PROGRAMS,
    UNTRACKED,
)
from handmill.layers.automatic_config import collect_arguments, layer_from_config
from handmill.layers.class_facts import check_may_grow, note_methods
from handmill.layers.context import CONTEXT, eager_scopes
from handmill.layers.input_spec import InputSpec, check_inputs
from handmill.layers.penalties import per_sample
from handmill.layers.quantizable import Quantizable
from handmill.layers.symbolic import Node, has_symbols, refuse_strings
from handmill.naming import auto_name, current_path, name_scope, path_of
from handmill.runtime import watch
from handmill.runtime.structure import Walk
from handmill.runtime.variable import Variable
from handmill.runtime.watch import TRAINABLE, Watched, is_ours, notice
from handmill.saving.stored_variables import StoredVariables, pairs_of_weights


class Layer(Quantizable, StoredVariables, Watched):
    """Weights and a computation. Called on arrays it computes; on symbolic tensors it records.

    Subclasses define ``build(input_shape)``, which makes weights with :meth:`add_weight`, and
    ``call(inputs)``, written with functions of ``handmill.ops``.

    Args:
        activity_regularizer: penalty on the output, added to the loss divided by the batch size.
        trainable: whether optimizers update the weights.
        dtype: the dtype of weights and computation, or a policy such as ``"mixed_bfloat16"``;
            default: the policy of the process.
        autocast: whether float inputs are converted to that dtype.
        name: default: the class name in snake case, numbered.

    Example:
        >>> import numpy as np
        >>> from handmill import layers, ops
        >>> class Scale(layers.Layer):
        ...     def build(self, input_shape):
        ...         self.factor = self.add_weight((input_shape[-1],), initializer="ones")
        ...     def call(self, inputs):
        ...         return ops.multiply(inputs, self.factor)
        >>> Scale()(np.array([[1.0, 2.0]], "float32"))
        array([[1., 2.]], dtype=float32)
    """

    _init_arguments: dict[str, Any] | None

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        layer = super().__new__(cls)
        if getattr(cls.get_config, "collects_arguments", False):
            layer._init_arguments = bound_arguments(cls, layer, args, kwargs)
        return layer

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        note_methods(cls)

    _call_parameters: tuple[str, ...] = ()
    _first_parameter = ""
    _call_takes_training = False
    _call_takes_masks = False
    _training_default = False
    _part: Any = None
    _known_parts: Any = None
    _convert_input_args = True
    """Whether lists of numbers that the layer is called on become float32."""
    _fixes_batch = False
    """Whether a call on symbolic tensors may take the batch size to be a certain number."""
    _unwatched: ClassVar[frozenset[str]]

    def __init__(
        self,
        *,
        activity_regularizer: Any = None,
        trainable: bool = True,
        dtype: Any = None,
        autocast: bool = True,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        self._input_shape_argument = input_shape_argument(kwargs)
        if kwargs:
            raise ValueError(
                f"Unrecognized keyword arguments passed to {type(self).__name__}: {kwargs}"
            )
        self._start(
            name=auto_name(type(self).__name__) if name is None else checked_name(name),
            activity_regularizer=regularizers.get(activity_regularizer),
            _dtype_policy=dtype_policies.get(dtype),
            autocast=autocast,
            built=False,
            _has_been_built=False,
            _is_built_again=False,
            supports_masking=type(self).compute_mask is not Layer.compute_mask,
            input_spec=None,
            _path=None,
            _parent_path=None,
            _trainable=checked_bool("trainable", trainable),
            _own_weights=[],
            _build_shapes=None,
            _inbound_nodes=[],
            _eager_losses=[],
            _programs={},
        )

    name: str
    activity_regularizer: Any
    _dtype_policy: dtype_policies.DTypePolicy
    autocast: bool
    built: bool
    supports_masking: bool
    input_spec: Any
    _path: str | None
    _parent_path: str | None
    _trainable: bool
    _own_weights: list[Variable]
    _build_shapes: Any
    _inbound_nodes: list[Node]
    _eager_losses: list[Any]
    _programs: dict[Any, Any]

    # Weights.

    def add_weight(
        self,
        *args: Any,
        shape: Sequence[int] | int | None = None,
        initializer: Any = None,
        dtype: str | None = None,
        trainable: bool = True,
        autocast: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
        aggregation: str | None = None,
        name: str | None = None,
    ) -> Variable:
        """Makes a weight.

        Args:
            *args: shape, initializer and dtype by position.
            shape: its shape; () by default.
            initializer: a name or initializer; default glorot_uniform, zeros for integers.
            dtype: default: the layer's.
            trainable: whether optimizers may update it.
            autocast: whether :meth:`call` sees it in the dtype of the computation.
            regularizer: a penalty on it, added to the loss.
            constraint: applied to it after each update.
            aggregation: accepted for Keras.
            name: default: ``variable``, numbered.

        Raises:
            ValueError: inside :meth:`call`, which would make one at each call, and where
                :meth:`build` is called again.
        """
        from handmill import constraints, initializers

        self._check_super_called()
        check_may_grow(self)
        name = name or auto_name("Variable")
        shape, initializer, dtype = weight_arguments(args, (shape, initializer, dtype), name, self)
        dtype = dtype_policies.get(dtype).variable_dtype if dtype else self.variable_dtype
        if initializer is None:
            initializer = "glorot_uniform" if dtype.startswith(("float", "bf")) else "zeros"
        try:
            weight = Variable(
                initializers.get(initializer),
                shape,
                dtype,
                trainable=trainable,
                autocast=autocast,
                aggregation=aggregation,
                name=name,
                regularizer=regularizers.get(regularizer),
                constraint=constraints.get(constraint),
            )
        except MemoryError as error:
            raise MemoryError(f"{self.describe()}: {error}") from error
        with self._name_scope():
            weight.path = path_of(name)
        if not self._trainable:
            weight.trainable = False
        self._own_weights.append(weight)
        return weight

    def add_variable(
        self,
        shape: Sequence[int] | int | None,
        initializer: Any,
        dtype: str | None = None,
        trainable: bool = True,
        autocast: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
        name: str | None = None,
    ) -> Variable:
        """Makes a weight: :meth:`add_weight` under Keras's older name."""
        return self.add_weight(
            shape,
            initializer,
            dtype,
            trainable=trainable,
            autocast=autocast,
            regularizer=regularizer,
            constraint=constraint,
            name=name,
        )

    def _parts(self) -> list[Any]:
        """Layers, variables, metrics among the attributes and in lists, dicts and so on there."""
        known = self.__dict__.get("_known_parts")
        if known is not None and known[0] == watch.sum_of_marks(known[1]):
            return known[2]  # type: ignore[no-any-return]
        found: list[Any] = []
        containers: list[Any] | None = [self]
        for key, value in vars(self).items():
            if value is None or type(value) in _PLAIN or key in UNTRACKED:
                continue
            if isinstance(value, (list, tuple, dict, set)):  # half the time of a union
                found.extend([x for x in leaves_of(value) if isinstance(x, Watched)])
                if not watch.collect(value, containers):
                    containers = None
            elif isinstance(value, Watched):
                found.append(value)
        if containers is not None:  # changes of all of them are noticed
            self.__dict__["_known_parts"] = watch.sum_of_marks(containers), containers, found
        return found

    def _flatten_layers(self) -> Iterator[Layer]:
        """The layers directly inside this one."""
        seen = set()
        for value in self._parts():
            if isinstance(value, Layer) and id(value) not in seen and value is not self:
                seen.add(id(value))
                yield value

    def _own_variables(self) -> list[Variable]:
        found = list(self._own_weights)
        found += [value for value in self._parts() if isinstance(value, Variable)]
        return unique(found)

    def variables_to_store(self) -> list[Variable]:
        """The weights of this layer itself: those made trainable first."""
        return sorted(self._own_variables(), key=lambda v: not v.made_trainable)

    def _seed_states(self) -> list[Variable]:
        from handmill.random import SeedGenerator

        return [v.state for v in self._parts() if isinstance(v, SeedGenerator)]

    @property
    def variables(self) -> list[Variable]:
        """All state: weights and the counters of random numbers."""
        found = [*self._own_variables(), *self._seed_states()]
        for layer in self._flatten_layers():
            found += layer.variables
        return unique(found)

    @property
    def weights(self) -> list[Variable]:
        """The weights: those made trainable first, then those of the layers inside."""
        found = Layer.variables_to_store(self)
        for layer in self._flatten_layers():
            found += layer.weights
        return unique(found)

    @property
    def trainable_weights(self) -> list[Variable]:
        """The weights that optimizers update."""
        if not self._trainable:
            return []
        found = [v for v in self._own_variables() if v.trainable]
        inside = list(self._flatten_layers())
        for layer in inside:
            found += layer.trainable_weights
        return unique(found) if inside else found

    @property
    def trainable_variables(self) -> list[Variable]:
        """The weights that optimizers update."""
        return self.trainable_weights

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """The weights that optimizers leave alone."""
        trainable = {id(v) for v in self.trainable_weights}
        return [v for v in self.weights if id(v) not in trainable]

    @property
    def non_trainable_variables(self) -> list[Variable]:
        """All state that optimizers leave alone."""
        trainable = {id(v) for v in self.trainable_weights}
        return [v for v in self.variables if id(v) not in trainable]

    @property
    def trainable(self) -> bool:
        """Whether optimizers update this layer and the layers inside.

        A change takes effect in training when the model is compiled again.
        """
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        value = bool(value)
        self._trainable = value
        for variable in self._own_variables():
            variable.trainable = value and variable.made_trainable
        for layer in self._flatten_layers():
            layer.trainable = value
        notice(TRAINABLE)

    def get_weights(self) -> list[Array]:
        """Returns copies of the weights, in the order of :attr:`weights`."""
        return [v.numpy() for v in self.weights]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Replaces the weights.

        Args:
            weights: arrays in the order and shapes of :meth:`get_weights`.

        Raises:
            ValueError: if number or shapes differ; no weight is changed then.
        """
        for variable, array in pairs_of_weights(self, weights):
            variable.assign(array)

    def count_params(self) -> int:
        """Returns the number of elements of all weights.

        Raises:
            ValueError: if the layer has no weights yet because it does not know its input.
        """
        if not self.built:
            raise ValueError(
                f"You tried to call `count_params` on layer '{self.name}', but the layer isn't "
                "built. You can build it by calling it on data or by `build(input_shape)`."
            )
        return sum(v.size for v in self.weights)

    # Building.

    def build(self, input_shape: Any) -> None:
        """Makes the weights. Called once, before the first :meth:`call`.

        Args:
            input_shape: a tuple with None for the batch size; nested like the first argument.
        """
        self._check_super_called()
        if type(self).build is Layer.build:
            warn_of_unbuilt(self)
        self.built = True

    def _build_at_init(self) -> None:
        """For layers without weights: there is nothing to build, unless a subclass has some."""
        self.built = type(self).build is Layer.build

    def _name_scope(self) -> name_scope:
        """The scope in which this layer is built and called; it stays where it was first opened."""
        if self._parent_path is None:
            self._parent_path = current_path()
        return name_scope(self.name, caller=self)

    def _place(self) -> None:
        """Notes the path, which the policy may depend on, where the layer is first used."""
        if self._path is None:
            with self._name_scope():
                self._path = current_path()

    def _maybe_build(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if self.built and self._build_shapes is not None:
            return
        self._build_shapes = tree.map_structure(shape_of_leaf, args[0]) if args else None
        self._place()
        if self.built:
            return
        by_name = build_arguments(self, args, kwargs)
        if type(self).build is not Layer.build:  # else layers inside are built when called
            if by_name is None and self._build_shapes is None and kwargs:
                self._build_shapes = tree.map_structure(shape_of_leaf, next(iter(kwargs.values())))
            with outside_graph():  # what build() assigns is the beginning and no update of a step
                self.build(self._build_shapes) if by_name is None else self.build(**by_name)
        self.built = True

    def get_build_config(self) -> dict[str, Any] | None:
        """What :meth:`build_from_config` needs."""
        if self._build_shapes is None:
            return None
        return {"input_shape": as_lists(self._build_shapes)}

    def build_from_config(self, config: Mapping[str, Any]) -> None:
        """Builds the layer for the input shape stored in ``config``."""
        shape = config.get("input_shape")
        if shape is not None and not self.built:
            self._build_shapes = shape = as_tuples(shape)
            self.build(shape)
            self.built = True

    # Calling.

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """The computation, written with functions of ``handmill.ops``."""
        raise NotImplementedError(
            f"Layer {type(self).__name__} does not have a `call` method implemented."
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            if not args and self._first_parameter in kwargs:
                args = (kwargs.pop(self._first_parameter),)
            graph = current_graph()
            if graph is not None:
                return self._call_traced(graph, args, kwargs)
            if eager_scopes and CONTEXT.eager and not has_symbols(args, kwargs):
                return self._call_traced(None, args, kwargs)
            if len(args) == 1 and not kwargs and type(args[0]) is np.ndarray and not recorders:
                if (run := self._programs.get(None)) and id(args[0]) not in array_masks:
                    return run(args[0])
            elif has_symbols(args, kwargs):
                return self._call_symbolically(args, kwargs)
            from handmill.layers.eager import call_on_arrays

            return call_on_arrays(self, args, kwargs)
        except Exception as error:
            self._check_super_called()
            raise errors.of_caller(error)  # noqa: B904  (the same error, shortened)

    def _call_traced(
        self, graph: Graph | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Runs :meth:`call`: on values of ``graph``, or without one on arrays."""
        self._check_super_called()
        check_positional(self, args)
        scopes = CONTEXT.scopes if graph is None else graph.scopes
        if not scopes and CONTEXT.losses:
            self._forget_losses()
        outer = CONTEXT.training
        training = kwargs.pop("training", None) if "training" in kwargs else None
        if training is None:
            training = outer if outer is not None else self._training_default
        if self._call_takes_training:
            kwargs = {**kwargs, "training": training}
        CONTEXT.training = training
        scopes.append(self.name)
        try:
            self._place()
            if self.autocast:
                args = tree.map_structure(self._converted, args)
            if not self.built:
                check_inputs(self.input_spec, args, self)
            self._maybe_build(args, kwargs)
            check_inputs(self.input_spec, args, self)
            if self._call_takes_masks:
                kwargs = {**kwargs, **masks.missing_masks(self._call_parameters, args, kwargs)}
            previous = self._previous_mask(args, kwargs)
            with autocast_scope(self._autocast_dtype()), self._name_scope(), CONTEXT.inside(self):
                outputs = self.call(*args, **kwargs)
            self._carry_masks(args[0] if args else None, outputs, previous)
            if self.activity_regularizer is not None:
                for output in tree.flatten(outputs):
                    self.add_loss(per_sample(self.activity_regularizer(output), output))
            if CONTEXT.observer is not None:
                outputs = CONTEXT.observer(self, outputs)
        except ShapeError as error:
            raise located(error, self, args) from None
        finally:
            scopes.pop()
            CONTEXT.training = outer
        return outputs

    def _converted(self, x: Any) -> Any:
        if not isinstance(x, Value) and not (CONTEXT.eager and hasattr(x, "dtype")):
            return x
        dtype = dtype_of(x)
        if dtype in FLOATS and dtype != self.compute_dtype:
            from handmill.ops import cast

            return with_mask(cast(x, self.compute_dtype), mask_of(x))
        return x

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """Returns the mask of the output; overriding it says that the layer supports masks.

        Args:
            inputs: the first argument of :meth:`call`.
            previous_mask: its mask, nested like it; None where there is none.
        """
        return previous_mask

    def _previous_mask(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = kwargs.get("mask")
        if given is None and len(args) > 1:
            given = dict(zip(self._call_parameters, args, strict=False)).get("mask")
        return given if given is not None else masks.masks_of(args[0] if args else None)

    def _carry_masks(self, inputs: Any, outputs: Any, previous: Any) -> None:
        masks.carry(self, inputs, outputs, previous)

    def _autocast_dtype(self) -> str | None:
        """The dtype in which :meth:`call` reads float weights; None: their own."""
        is_float = self.compute_dtype in FLOATS
        return self.compute_dtype if self.autocast and is_float else None

    def _call_symbolically(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if type(self).compute_output_spec is Layer.compute_output_spec:
            outputs = self._traced_spec(args, kwargs)
        else:
            outputs = self.compute_output_spec(*args, **kwargs)
        Node(self, args, kwargs, outputs)
        return outputs

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Returns what a call on KerasTensors returns.

        That follows from :meth:`compute_output_shape` where a subclass defines it, and from
        :meth:`call` otherwise, which builds the layer.
        """
        if not is_ours(type(self)) and defines_shape(type(self)) and len(args) == 1 and not kwargs:
            shape = self.compute_output_shape(tree.map_structure(lambda t: t.shape, args[0]))
            return tensors_of(shape, self.compute_dtype)
        return self._traced_spec(args, kwargs)

    def _traced_spec(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        from handmill.layers.output_spec import output_spec

        refuse_strings(self, (list(args), kwargs))
        return output_spec(self, args, kwargs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the shape of the output for an input of ``input_shape``; builds the layer."""
        if type(self).call is Layer.call and input_shape is None:
            what = f"Layer {type(self).__name__} does not have a `compute_output_shape` method"
            raise NotImplementedError(f"{what} implemented.")
        outputs = self.compute_output_spec(tensors_of(input_shape, self.compute_dtype))
        return tree.map_structure(lambda t: t.shape, outputs)

    def stateless_call(
        self,
        trainable_variables: Sequence[Any],
        non_trainable_variables: Sequence[Any],
        *args: Any,
        return_losses: bool = False,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Calls the layer as if its variables held other values; they stay as they are.

        Args:
            trainable_variables: a value for each of :attr:`trainable_variables`.
            non_trainable_variables: a value for each of :attr:`non_trainable_variables`.
            *args: arguments of the call.
            return_losses: whether penalties are returned too.
            **kwargs: arguments of the call.

        Returns:
            The outputs, and what the call made of the non-trainable variables; then the losses.

        Raises:
            ValueError: if the layer is not built, or the lists do not fit.
        """
        from handmill.layers.stateless import stateless_call

        return stateless_call(
            self, trainable_variables, non_trainable_variables, args, return_losses, kwargs
        )

    # Losses.

    def add_loss(self, loss: Any) -> None:
        """Adds a penalty to the loss of the model; for use inside :meth:`call`.

        Args:
            loss: a scalar, or values whose sum counts; or several of them in a list.
        """
        for value in tree.flatten(loss):
            if CONTEXT.losses:
                CONTEXT.losses[-1].append((self, value))
            else:
                self._eager_losses.append(value)

    @property
    def losses(self) -> list[Any]:
        """Penalties: those that the last call added, then those on the weights."""
        added = list(self._eager_losses)
        if CONTEXT.losses:
            inside = {id(layer) for layer in all_layers(self)}
            added = [value for layer, value in CONTEXT.losses[-1] if id(layer) in inside]
        else:
            for layer in all_layers(self):
                added += layer._eager_losses if layer is not self else []
        return added + self.weight_penalties()

    def _forget_losses(self) -> None:
        """Drops what the last call added: a step may call a model more than once."""
        found = CONTEXT.losses[-1]
        if found:
            inside = {id(layer) for layer in all_layers(self)}
            found[:] = [entry for entry in found if id(entry[0]) not in inside]

    def weight_penalties(self) -> list[Any]:
        """The penalties of the weights' regularizers."""
        return [v.regularizer(v) for v in self.trainable_weights if v.regularizer is not None]

    # Description.

    def describe_structure(self, walk: Walk) -> None:
        """Adds to a description what programs of this layer depend on (runtime/structure.py)."""
        if is_ours(type(self)):
            walk.visit_apart(self, self._describe)
        elif walk.is_new(self):
            self._describe_attributes(walk, NOT_READ)

    def _describe(self, walk: Walk) -> None:
        if walk.is_new(self):
            self._describe_attributes(walk, NOT_READ_BY_OURS)

    def _describe_attributes(self, walk: Walk, skipped: frozenset[str]) -> None:
        self._check_super_called()
        walk.watched.append(self)
        walk.names.append(self.name)
        walk.flagged.append(self)
        walk.attributes(self, skipped, self._undescribed)

    @property
    def path(self) -> str | None:
        """The names of the layers around this one and its own; None before it is built."""
        return self._path

    @property
    def dtype_policy(self) -> dtype_policies.DTypePolicy:
        """The dtypes of weights and computation; may be set to a name or another policy."""
        return self._dtype_policy

    @dtype_policy.setter
    def dtype_policy(self, value: Any) -> None:
        policy = dtype_policies.get(value)
        current = self._dtype_policy
        if isinstance(current, dtype_policies.DTypePolicyMap) and self._path is not None:
            current[self._path] = policy
            notice(self)
        else:
            self._dtype_policy = policy

    @property
    def dtype(self) -> str:
        """The dtype of the weights."""
        return self._dtype_policy.of_path(self._path).variable_dtype

    @property
    def variable_dtype(self) -> str:
        """The dtype of the weights."""
        return self._dtype_policy.of_path(self._path).variable_dtype

    @property
    def compute_dtype(self) -> str:
        """The dtype of the computation, into which float inputs are converted."""
        return self._dtype_policy.of_path(self._path).compute_dtype

    @property
    def metrics(self) -> list[Any]:
        """Metrics that are attributes of this layer or of layers inside."""
        from handmill.metrics.metric import Metric

        own = [v for v in self._parts() if isinstance(v, Metric)]
        return unique([*own, *(m for layer in self._flatten_layers() for m in layer.metrics)])

    @property
    def metrics_variables(self) -> list[Variable]:
        """The state of :attr:`metrics`."""
        return unique([v for metric in self.metrics for v in metric.variables])

    @property
    def input(self) -> Any:
        """The symbolic input of the first call; a list where it had several."""
        return alone(self._single_node("input").input_tensors)

    @property
    def output(self) -> Any:
        """The symbolic output of the first call; a list where it had several."""
        return alone(self._single_node("output").output_tensors)

    def _single_node(self, what: str) -> Node:
        if not self._inbound_nodes:
            raise AttributeError(
                f"The layer {self.name} has never been called and thus has no defined {what}."
            )
        return self._inbound_nodes[0]

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data. Layers with arguments of their own add them."""
        config: dict[str, Any] = {
            "name": self.name,
            "trainable": self._trainable,
            "dtype": dtype_policies.serialize(self._described_policy()),
        }
        if self.activity_regularizer is not None:
            config["activity_regularizer"] = regularizers.serialize(self.activity_regularizer)
        if getattr(type(self).get_config, "collects_arguments", False):
            collect_arguments(self, config)
        return config

    get_config.collects_arguments = True  # type: ignore[attr-defined]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Makes a layer from its config."""
        return layer_from_config(cls, config)

    def _check_super_called(self) -> None:
        if "_own_weights" not in vars(self):
            raise RuntimeError(
                f"In layer '{type(self).__name__}', you forgot to call `super().__init__()` as "
                "the first statement in the `__init__()` method. Go add it!"
            )

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles hold: everything but programs, which are traced again."""
        found = {k: v for k, v in vars(self).items() if k not in PROGRAMS}
        found |= {k: {} for k in ("_programs", "_steps", "_predictors") if k in vars(self)}
        return found | {k: None for k in FUNCTIONS if k in vars(self)}

    @property
    def shown_class(self) -> str:
        """The name of the class in summaries, drawings and messages."""
        return type(self).__name__

    def describe(self) -> str:
        """The layer in messages: ``layer "logits" (Dense, units=10)``."""
        units = getattr(self, "units", None)
        return f'layer "{self.name}" ({self.shown_class}' + (
            f", units={units})" if units is not None else ")"
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={vars(self).get('built')}>"


_PLAIN = frozenset({bool, float, int, str})
Layer._unwatched = NOT_NOTICED


def all_layers(layer: Layer) -> Iterator[Layer]:
    """Yields the layer and the layers inside, however deep."""
    yield layer
    for inner in layer._flatten_layers():
        yield from all_layers(inner)


__all__ = ["InputSpec", "Layer"]
