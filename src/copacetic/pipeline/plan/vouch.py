# SPDX-License-Identifier: Apache-2.0
"""
Who vouches for the packages of a stored plan: the repositories' signed indexes, not the file.

Whoever can write a plan could otherwise choose what is installed. An index that the plan was made from may be kept by
its digest, which works without a network and when the repository has moved on; or the repository still offers the very
same.
"""

from __future__ import annotations

from msgspec.structs import replace

from copacetic.errors import PlanFileError, RepositoryError, UnreachableError
from copacetic.repository import Repository
from copacetic.updates import Origin, Section

__all__ = ["take_plans_word", "vouch_for_section"]

_HINT = "plan again, or take the plan's word with --trust-plan, if nobody else can have written it"


def vouch_for_section(section: Section, repository: Repository) -> Section:
    """
    Return it as signed indexes have it, addresses included. Raises `PlanFileError` for a package that none has, and
    what keeps the indexes from being read.
    """
    if not section.updates:
        return section
    try:
        found = repository.vouch([update.candidate for update in section.updates])
    except (RepositoryError, UnreachableError) as error:
        told = f"nothing vouches for the plan's packages: {error}"
        raise error.reworded(told, hint=f"{error.hint}; {_HINT}") from error
    missing = [update.candidate for update in section.updates if update.candidate not in found]
    if missing:
        first, more = missing[0], f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise PlanFileError(
            f"no signed index has the plan's {first.name} {first.version} of {first.size} bytes "
            f"with the SHA-256 {first.sha256}{more}",
            hint=_HINT,
        )
    updates = tuple(replace(update, candidate=found[update.candidate]) for update in section.updates)
    return replace(section, updates=updates, origins=_origins([update.candidate.origin for update in updates]))


def take_plans_word(section: Section) -> Section:
    """Return it with nothing in it that claims to be verified."""
    count = len(section.updates)
    reason = f"{count} package{'s' * (count != 1)} vouched for by the plan alone: allowed by --trust-plan"

    def doubted(origin: Origin) -> Origin:
        return replace(origin, signed_by="", not_verified=reason)

    updates = tuple(
        replace(update, candidate=replace(update.candidate, origin=doubted(update.candidate.origin)))
        for update in section.updates
    )
    return replace(section, updates=updates, origins=_origins([update.candidate.origin for update in updates]))


def _origins(origins: list[Origin]) -> tuple[Origin, ...]:
    """Only those that are used: of others the plan tells what nobody has looked at again."""
    return tuple(dict.fromkeys(origins))
