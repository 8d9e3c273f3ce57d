# SPDX-License-Identifier: Apache-2.0
"""
Scripts that are known as a whole, by a digest of their text without comments and layout.

For these few, following single commands is not enough, and a handler does what the whole script does. A new version
of a script has another digest and is not recognised until somebody has read it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from copacetic.unpack.scripts.judgement import Action, Judgement
from copacetic.updates import ScriptClass

__all__ = ["normalise_script", "recognise_script"]

_COMMENT = re.compile(r"^[ \t]*#.*$", re.MULTILINE)
_BLANK = re.compile(r"\s+")
_CERTIFICATES = re.compile(r'CERTS_LIST="[^"]*"')

_CA_CERTIFICATES = Judgement(
    ScriptClass.REPRODUCED,
    "the choice of certificates, the bundle and its links are reproduced",
    (Action("certificates-configuration"), Action("certificates")),
)
_QUESTIONS = Judgement(ScriptClass.HARMLESS, "asks which certificates to trust; the recorded answers are used")
_KNOWN: Mapping[tuple[str, str, str], Judgement] = {
    # The same in 20230311 to 20250419 of bullseye, bookworm and trixie.
    (
        "ca-certificates",
        "config",
        "fb199ed28cf62355e101752cd35566e99fce9b9af5c5310621e54f7dd0085ebf",
    ): _QUESTIONS,
    (
        "ca-certificates",
        "postinst",
        "93e2d7b84ea5343b45591d498df74e7634937c747be22e609711031a6f2e6ade",
    ): _CA_CERTIFICATES,
}


def normalise_script(text: str) -> str:
    """Drop comments, debhelper's with its version among them, and all that only lays the text out."""
    return _BLANK.sub(" ", _COMMENT.sub("", text.partition("\n")[2])).strip()


def recognise_script(package: str, name: str, text: str) -> Judgement | None:
    """Return the verdict on a script that is known as a whole."""
    plain = _CERTIFICATES.sub("", normalise_script(text))
    digest = hashlib.sha256(plain.encode("utf-8", "surrogateescape")).hexdigest()
    return _KNOWN.get((package, name, digest))
