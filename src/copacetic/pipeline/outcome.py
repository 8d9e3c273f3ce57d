# SPDX-License-Identifier: Apache-2.0
"""What happened, for people and machines: the values that the console shows and `-o` writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from copacetic.documents import write_document
from copacetic.errors import CopaError
from copacetic.oci import Descriptor, Digest, Platform
from copacetic.oci.referrers import Document
from copacetic.pipeline.plan.document import finding_document, plan_document
from copacetic.updates import FindingStatus, MatchedFinding, Plan


class PlatformOutcome(Struct, frozen=True, kw_only=True):
    """One platform of the image."""

    platform: Platform
    plan: Plan | None
    """None for a platform that was passed over, with the reason in `notes`."""
    before: Digest
    """Of the platform's manifest in the source."""
    after: Digest | None = None
    """Of its manifest in the result; None when nothing changed."""
    layer: Descriptor | None = None
    """The one new layer."""
    layer_files: int = 0
    verified: bool = False
    matched: tuple[MatchedFinding, ...] | None = None
    """The report's findings, held against the result; None without a report."""
    notes: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        return self.after is not None

    @property
    def closed(self) -> tuple[MatchedFinding, ...]:
        """Findings that were open in the source and are fixed in the result."""
        if self.plan is None or self.plan.matched is None or self.matched is None:
            return ()
        return tuple(
            after
            for before, after in zip(self.plan.matched, self.matched, strict=True)
            if before.status is FindingStatus.FIXABLE and after.status is FindingStatus.ALREADY_FIXED
        )

    @property
    def still_open(self) -> tuple[MatchedFinding, ...]:
        """Findings with or without a fix that the result still has."""
        matched = self.matched if self.matched is not None else (self.plan.matched if self.plan else None)
        return tuple(m for m in matched or () if m.status in {FindingStatus.FIXABLE, FindingStatus.NO_FIX})


class Failure(Struct, frozen=True, kw_only=True):
    """Why nothing came of an image."""

    exit_code: int
    """That of the command line."""
    message: str
    hint: str = ""


class Outcome(Struct, frozen=True, kw_only=True):
    """The whole run."""

    image: str
    reference: str
    """`name@digest` of what was published; empty when nothing changed."""
    digest: Digest | None
    platforms: tuple[PlatformOutcome, ...]
    seconds: float
    documents: Mapping[str, Document] = {}
    """What was asked for, by format, as it was written before the publication."""
    failure: Failure | None = None
    """None when all went well; otherwise nothing was published."""

    @classmethod
    def failed(cls, image: str, error: CopaError) -> Outcome:
        """Of one of several images, as the others go on without it."""
        failure = Failure(exit_code=error.exit_code, message=str(error), hint=error.hint or "")
        return cls(image=image, reference="", digest=None, platforms=(), seconds=0.0, failure=failure)

    @property
    def changed(self) -> bool:
        return any(platform.changed for platform in self.platforms)

    def to_json(self) -> bytes:
        """Return the documented object (docs/reference/json.md), ending in a newline."""
        return write_document(
            "outcome",
            {
                "image": self.image,
                "changed": self.changed,
                "reference": self.reference or None,
                "digest": str(self.digest) if self.digest else None,
                "seconds": round(self.seconds, 3),
                "platforms": [_platform_document(platform) for platform in self.platforms],
                **({"error": _failure_document(self.failure)} if self.failure else {}),
            },
        )


def _failure_document(failure: Failure) -> dict[str, Any]:
    return {"exitCode": failure.exit_code, "message": failure.message, "hint": failure.hint or None}


def _platform_document(outcome: PlatformOutcome) -> dict[str, Any]:
    layer = outcome.layer
    return {
        "platform": str(outcome.platform),
        "changed": outcome.changed,
        "verified": outcome.verified,
        "digestBefore": str(outcome.before),
        "digestAfter": str(outcome.after) if outcome.after else None,
        "layer": layer and {"digest": str(layer.digest), "size": layer.size, "files": outcome.layer_files},
        "plan": outcome.plan and plan_document(outcome.plan),
        "findings": None
        if outcome.matched is None
        else {
            "closed": [finding_document(m) for m in outcome.closed],
            "open": [finding_document(m) for m in outcome.still_open],
        },
        "notVerified": [
            {"uri": o.uri, "suite": o.suite, "component": o.component, "definedIn": o.defined_in, "reason": o.doubt}
            for o in (outcome.plan.doubtful if outcome.plan else ())
        ],
        "notes": list(outcome.notes),
    }
