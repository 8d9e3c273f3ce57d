# SPDX-License-Identifier: Apache-2.0
"""What a plan may leave out, and what is a failure then."""

from __future__ import annotations

from copacetic.errors import FixesMissingError, NeedsExecutionError
from copacetic.updates import Plan, SkipReason

__all__ = ["refuse_incomplete"]

_KEPT_BACK = frozenset(
    {SkipReason.HELD, SkipReason.DEPENDENCY, SkipReason.NO_CANDIDATE, SkipReason.CONFLICT, SkipReason.VENDOR}
)
"""Why the distribution's own `upgrade` would leave a package as it is, too."""


def refuse_incomplete(plan: Plan, excuse: str) -> None:
    """
    Raise when the plan leaves out something that was asked for; `excuse` says why nothing may be run.

    With a report that is every fix that can't be delivered, also one for a package on hold: whoever asked for it has
    to know. Without one, packages that the distribution's own `upgrade` would keep back too are no failure, nor are
    those that the image as it is has no place for.
    """
    kept_back = _KEPT_BACK if plan.matched is None else frozenset[SkipReason]()
    missing = [skipped for skipped in plan.skipped if skipped.reason not in kept_back]
    if not missing:
        return
    first = missing[0]
    more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
    message = f"{first.package.name} {first.package.version} can't be updated: {first.detail}{more}"
    if all(skipped.reason is SkipReason.NEEDS_EXECUTION for skipped in missing):
        raise NeedsExecutionError(message, hint="; ".join(filter(None, [excuse, NeedsExecutionError.hint])))
    raise FixesMissingError(message)
