# SPDX-License-Identifier: Apache-2.0
"""Patterns of packages, as dnf has them: of a name alone, or with as much of version and architecture as they say."""

from __future__ import annotations

from collections.abc import Iterable

from copacetic.errors import RepositoryError
from copacetic.glob import matches_glob
from copacetic.repository.rpm.offer import RpmOffer

__all__ = ["MAX_PATTERNS", "RpmPatterns", "forms_of", "is_pattern"]

MAX_PATTERNS = 200
"""With wildcards, in one place: each is held against every package."""
_MAX_WORDS = 20_000


def forms_of(offer: RpmOffer) -> tuple[str, ...]:
    """Return all that a pattern may be held against."""
    name, architecture = offer.name, offer.architecture
    epoch, _, rest = offer.evr.rpartition(":")
    version, full = rest.rpartition("-")[0], f"{epoch or 0}:{rest}"
    return (
        *(name, f"{name}.{architecture}", f"{name}-{version}"),
        *(f"{name}-{rest}", f"{name}-{rest}.{architecture}", f"{name}-{full}", f"{name}-{full}.{architecture}"),
    )


def is_pattern(word: str) -> bool:
    """Tell whether it may match anything but itself."""
    return any(character in word for character in "*?[\\")


class RpmPatterns:
    """Those of one setting. Raises `RepositoryError` for more than anybody needs."""

    def __init__(self, words: Iterable[str], where: str) -> None:
        self.where = where
        known = list(words)
        self._words = frozenset(word for word in known if not is_pattern(word))
        self._globs = tuple(dict.fromkeys(word for word in known if is_pattern(word)))
        if len(self._globs) > MAX_PATTERNS or len(self._words) > _MAX_WORDS:
            raise RepositoryError(f"{where} has more than {MAX_PATTERNS} patterns of packages, or {_MAX_WORDS} names")

    def __bool__(self) -> bool:
        return bool(self._words or self._globs)

    def find(self, forms: Iterable[str]) -> str | None:
        """Return the first that matches one of these."""
        known = tuple(forms)
        word = next((form for form in known if form in self._words), None)
        return word or next((glob for glob in self._globs if any(matches_glob(form, glob) for form in known)), None)
