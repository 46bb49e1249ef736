"""The older names of dtype policies, and the optimizer that scales losses."""

from handmill.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "DTypePolicy": "handmill.dtype_policies",
        "LossScaleOptimizer": "handmill.optimizers.loss_scale",
        "Policy": "handmill.dtype_policies:DTypePolicy",
        "dtype_policy": "handmill.dtype_policies",
        "global_policy": "handmill.dtype_policies:dtype_policy",
        "set_dtype_policy": "handmill.dtype_policies",
        "set_global_policy": "handmill.dtype_policies:set_dtype_policy",
    },
)
