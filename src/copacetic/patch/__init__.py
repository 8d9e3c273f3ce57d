# SPDX-License-Identifier: Apache-2.0
"""
The use cases: plan, patch one platform, run over platforms, verify, export.

`copacetic.patch` is also the library's function of that name. Importing a module of this package makes Python bind
the package to the same attribute, so the package can be called, and does what the function does.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        from importlib import import_module

        return import_module("copacetic.api").patch(*arguments, **options)


sys.modules[__name__].__class__ = _CallablePackage
