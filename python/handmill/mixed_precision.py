"""The older names of dtype policies."""

from __future__ import annotations

from handmill.dtype_policies import DTypePolicy, dtype_policy, set_dtype_policy
from handmill.lazy import plain_module

Policy = DTypePolicy
global_policy = dtype_policy
set_global_policy = set_dtype_policy

__all__ = [
    "DTypePolicy",
    "Policy",
    "dtype_policy",
    "global_policy",
    "set_dtype_policy",
    "set_global_policy",
]

__getattr__ = plain_module(__name__)
