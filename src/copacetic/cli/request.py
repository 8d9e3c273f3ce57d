# SPDX-License-Identifier: Apache-2.0
"""Flags to a `PatchRequest`: the same for planning and patching."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from copacetic.cli.environment import source_date_epoch
from copacetic.errors import UsageError

if TYPE_CHECKING:
    from copacetic.console import Console
    from copacetic.request import PatchRequest


def make_request(values: Mapping[str, Any], console: Console) -> PatchRequest:
    """Raises `UsageError` for what is known and not supported yet."""
    from copacetic.request import LayerCompression, PatchRequest, Strategy

    types = frozenset(values["pkg_types"])
    if types - {"os", "library"} or not types:
        raise UsageError(f"--pkg-types has {', '.join(sorted(types)) or 'nothing'}", hint="use os, or os,library")
    if "library" in types or values["library_patch_level"]:
        raise UsageError("application packages are not supported yet", hint="leave --pkg-types at os")
    if values["loader"]:
        console.note("--loader is ignored: write to --to instead")
    return PatchRequest(
        image=values["image"],
        reports=tuple(values["report"]),
        report_format=values["report_format"],
        platforms=tuple(values["platform"]),
        tag=values.get("tag", ""),
        destination=values.get("destination", ""),
        push=values.get("push", False),
        plan_file=values.get("plan_file"),
        trust_plan=values.get("trust_plan", False),
        ignore_errors=values["ignore_errors"],
        package_types=types,
        strategy=Strategy(values["strategy"]),
        compression=LayerCompression(values.get("compression", "auto")),
        epoch=source_date_epoch(os.environ),
    )
