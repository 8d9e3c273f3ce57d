# SPDX-License-Identifier: Apache-2.0
"""Who vouches for a repository's metadata, and when its packages' own signatures are enough without that."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from copacetic.errors import ExpiredRepositoryError, SignatureError
from copacetic.repository.rpm.sources import RpmSource
from copacetic.rpm.signature import RpmKeys, Verified

__all__ = ["MetadataPolicy", "judge_repomd"]

_UNSIGNED_FLAG = "--allow-unsigned-repository"


class MetadataPolicy(Struct, frozen=True, kw_only=True):
    """What the user has allowed, and the time."""

    now: datetime
    variables: Mapping[str, str] = {}
    """Also for what lists of mirrors hold."""
    mirrors: tuple[tuple[str, str], ...] = ()
    allow_expired: bool = False
    allow_unsigned: bool = False
    modern: bool = False
    """No signature counts that only the strict check accepts."""


def judge_repomd(
    source: RpmSource, body: bytes, signature: bytes, keys: RpmKeys, policy: MetadataPolicy
) -> tuple[Verified | None, str]:
    """
    Return who vouches for a repomd.xml, and what is wrong with it all the same.

    Raises `SignatureError` or `ExpiredRepositoryError` where neither that nor its packages' signatures are enough.
    """
    where = source.shown
    allowed = f"allowed by {_UNSIGNED_FLAG}" if policy.allow_unsigned else ""
    if not source.checks_packages and source.by_user:
        allowed = allowed or "allowed by what --repository says"
    problem = f"{where} is not signed"
    if signature:
        try:
            verified = keys.verify([signature], lambda: [body], where, now=policy.now, modern=policy.modern)
        except SignatureError as error:
            problem = str(error)
        else:
            if verified.expired is None:
                return verified, ""
            problem = f"{where}: the key {verified.fingerprint} has expired on {verified.expired:%Y-%m-%d}"
            if policy.allow_expired:
                return verified, f"{problem}: allowed by --allow-expired-repository"
            if source.checks_metadata and not allowed:
                raise ExpiredRepositoryError(
                    problem, hint="name a newer copy of the key with --keyring, if you trust it"
                )
    if source.checks_metadata and not allowed:
        raise SignatureError(f"{problem} (repo_gpgcheck=1)")
    if not source.checks_packages and not allowed:
        hint = f"{SignatureError.hint}; {_UNSIGNED_FLAG} uses it as it is (gpgcheck=0 in an image is not enough)"
        raise SignatureError(f"{problem}, and says that its packages aren't either (gpgcheck=0)", hint=hint)
    if not keys.fingerprints and not allowed:
        unreadable = f"; unreadable keys: {', '.join(keys.unreadable[:5])}" if keys.unreadable else ""
        raise SignatureError(f"{where}: no key is trusted for its packages{unreadable}")
    doubt = problem.removeprefix(f"{where} ")
    if allowed:
        return None, f"{doubt}: {allowed}"
    return None, f"{doubt}: its packages are verified one by one, and nothing tells whether it is held back"
