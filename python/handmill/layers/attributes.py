"""Which attributes of layers and models decide about programs, and which are left out."""

from __future__ import annotations

FUNCTIONS = ("train_function", "test_function", "predict_function")
UNTRACKED = frozenset(
    {
        "_own_weights", "_inbound_nodes", "_programs", "_eager_losses", "_init_arguments",
        "_build_shapes", "history", "optimizer", "objective", "_graph", "_compile_arguments",
        "_steps", "_predictors", "_all_metrics", "_row_generators", "_known_parts", "_part",
        "_host", "_carried", *FUNCTIONS,
    }
)  # fmt: skip
PROGRAMS = frozenset(
    {
        "_programs", "_steps", "_predictors", "_augmenting", "_known_parts", "_part", "_trained",
        *FUNCTIONS,
    }
)  # fmt: skip
NOT_NOTICED = frozenset(
    {
        "trainable", "_trainable", "_known_parts", "_part", "_inbound_nodes", "_programs",
        "_eager_losses", "_init_arguments", "_build_shapes", "_input_shape_argument",
        "_compile_arguments", "_steps", "_predictors", "_all_metrics", "_row_generators",
        "_augmenting", "_health_monitor", "_shuffle",
        "_fitting", "_was_checked", "_logits_checked", "_trained", "history", "stop_training",
        "stop_evaluating", "stop_predicting", "_run_eagerly", "steps_per_execution", "_path",
        "_parent_path", *FUNCTIONS,
    }
)  # fmt: skip
"""Attributes of layers and models whose changes change no program, or are noticed elsewhere."""
NOT_READ = NOT_NOTICED | {"optimizer", "objective"}
"""Attributes that are not described with a layer: a training step describes the last two itself."""
MADE = (
    "alpha", "beta", "bias", "depthwise", "embeddings", "gamma", "kernel", "moving_mean",
    "moving_variance", "pointwise", "recurrent",
)  # fmt: skip
NOT_READ_BY_OURS = (
    NOT_READ
    | {"name", "seed"}
    | {f"{w}_{what}" for w in MADE for what in ("initializer", "regularizer", "constraint")}
)
"""Of our layers, not even those that are read when weights are made: variables have them."""
BASE_ARGUMENTS = frozenset(
    {"name", "trainable", "dtype", "autocast", "activity_regularizer", "input_shape"}
)
