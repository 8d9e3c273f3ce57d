# SPDX-License-Identifier: Apache-2.0
"""One value from another, whichever kind of value it is: the tests' own are dataclasses, the product's are structs."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import msgspec

__all__ = ["replace"]

_Value = TypeVar("_Value")


def replace(value: _Value, /, **changes: Any) -> _Value:
    """Return the same value but for some of its fields."""
    made: Any = msgspec.structs.replace if isinstance(value, msgspec.Struct) else dataclasses.replace
    result: _Value = made(value, **changes)
    return result
