# SPDX-License-Identifier: Apache-2.0
"""Offers as everybody else knows them."""

from __future__ import annotations

import re

from copacetic.repository.address import is_plain_address
from copacetic.repository.rpm.metadata import OpenedRepository
from copacetic.repository.rpm.offer import RpmOffer
from copacetic.repository.rpm.repomd import join_location
from copacetic.repository.rpm.verify import OfferedPackage, Signing
from copacetic.updates import Candidate

__all__ = ["make_candidate", "source_version"]

_SOURCE = re.compile(r"(.+)-([^-]+-[^-]+)\.(?:no)?src\.rpm")


def make_candidate(offer: RpmOffer, opened: OpenedRepository, *, allow_unsigned: bool) -> Candidate:
    """Describe an offer with the way in which its file is proven."""
    source = _SOURCE.fullmatch(offer.source)
    checksum = offer.checksum
    return Candidate(
        name=offer.name,
        version=offer.evr,
        architecture=offer.architecture,
        source_name=source[1] if source else offer.name,
        source_version=source_version(offer),
        url=offer.location if is_plain_address(offer.location) else join_location(opened.urls[0], offer.location),
        size=offer.size,
        sha256=checksum.hex if checksum is not None and checksum.algorithm == "sha256" else "",
        origin=opened.origin,
        record=OfferedPackage(offer, opened.keys, _signing(opened, allow_unsigned=allow_unsigned)),
    )


def source_version(offer: RpmOffer) -> str:
    """Return that of the source package, whose file's name has no epoch: it is taken to be the package's own."""
    source = _SOURCE.fullmatch(offer.source)
    epoch, colon, _ = offer.evr.rpartition(":")
    return f"{epoch}{colon}{source[2]}" if source else offer.evr


def _signing(opened: OpenedRepository, *, allow_unsigned: bool) -> Signing:
    source = opened.source
    if opened.is_signed and (source.metadata_suffices or not source.checks_packages):
        return Signing.SPARED
    if allow_unsigned or not source.checks_packages:
        # Nobody gets here without having said so: `metadata` refuses it otherwise.
        return Signing.TOLERATED
    return Signing.REQUIRED
