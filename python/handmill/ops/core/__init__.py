"""The functions of ``keras.ops`` about tensors as such: conversion, dtypes, loops and branches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handmill.ops.core import control, conversion
from handmill.ops.core.control import *
from handmill.ops.core.conversion import *

if not TYPE_CHECKING:  # mypy follows the stars by itself
    __all__ = control.__all__ + conversion.__all__
