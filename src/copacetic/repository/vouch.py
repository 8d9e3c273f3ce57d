# SPDX-License-Identifier: Apache-2.0
"""The search for what verified indexes say of packages that somebody else has named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from msgspec.structs import replace

from copacetic.updates import Candidate

__all__ = ["vouch_by_identity"]

_Index = TypeVar("_Index")


def vouch_by_identity(
    candidates: Sequence[Candidate],
    rounds: Sequence[Callable[[], Iterable[_Index]]],
    offers: Callable[[_Index, str], Iterable[Candidate]],
) -> dict[Candidate, Candidate]:
    """
    Return the first offer that is the same as each candidate, for indexes without the SHA-256 of files: which file it
    is their own identity proves, the SHA-256 which one the candidate is.

    `rounds` give indexes, and are only begun while something lacks; `offers` are those of an index under a name.
    """
    missing = dict.fromkeys(candidates)
    found: dict[Candidate, Candidate] = {}
    for indexes in rounds:
        for index in indexes() if missing else ():
            for candidate in list(missing):
                same = next((offer for offer in offers(index, candidate.name) if offer.is_same(candidate)), None)
                if same is not None:
                    found[candidate] = replace(same, sha256=candidate.sha256)
                    del missing[candidate]
    return found
