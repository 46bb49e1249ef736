"""The functions of ``keras.ops`` about tensors as such: conversion, parts, loops and branches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handmill.lazy import publish
from handmill.ops.core import control, conversion, indexing
from handmill.runtime.whole_calls import kept_whole

if TYPE_CHECKING:
    from handmill.ops.core.control import *
    from handmill.ops.core.conversion import *
    from handmill.ops.core.indexing import *
else:
    publish(__name__, control, conversion, indexing, wrap=kept_whole)
