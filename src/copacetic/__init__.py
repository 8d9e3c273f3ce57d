# SPDX-License-Identifier: Apache-2.0
"""
Patch vulnerable container images directly: no Dockerfile, no daemon, no root.

    import copacetic

    outcome = copacetic.patch(copacetic.PatchRequest(image="oci:./web:1.4", destination="oci:./web:1.4-patched"))

Everything is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module

from copacetic._version import __version__

TYPE_CHECKING = False  # importing typing would be most of what this costs, and a signal isn't caught before

if TYPE_CHECKING:
    from copacetic.api import PlanSet, Session, Settings, inspect, open_session, patch, patch_many, plan
    from copacetic.errors import CopaError
    from copacetic.pipeline.open.inspect import Inspection
    from copacetic.pipeline.outcome import Outcome, PlatformOutcome
    from copacetic.request import LayerCompression, PatchRequest, Strategy
    from copacetic.updates import Plan

__all__ = [
    "CopaError",
    "Inspection",
    "LayerCompression",
    "Outcome",
    "PatchRequest",
    "Plan",
    "PlanSet",
    "PlatformOutcome",
    "Session",
    "Settings",
    "Strategy",
    "__version__",
    "inspect",
    "open_session",
    "patch",
    "patch_many",
    "plan",
]

_HOMES = {
    "CopaError": "errors",
    "Inspection": "pipeline.open.inspect",
    "LayerCompression": "request",
    "Outcome": "pipeline.outcome",
    "PatchRequest": "request",
    "Plan": "updates",
    "PlanSet": "api",
    "PlatformOutcome": "pipeline.outcome",
    "Session": "session",
    "Settings": "session",
    "Strategy": "request",
    "inspect": "api",
    "open_session": "session",
    "patch": "api",
    "patch_many": "api",
    "plan": "api",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
