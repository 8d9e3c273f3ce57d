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
from functools import partial

from copacetic.scripts import effects
from copacetic.scripts.judgement import Harmless, Judgement, Reproduced

__all__ = ["BYTECODE", "LINKS", "LOCAL_FOLDERS", "mark_fragments", "normalise_script", "recognise_script"]

_COMMENT = re.compile(r"^[ \t]*#.*$", re.MULTILINE)
_BLANK = re.compile(r"\s+")
_CERTIFICATES = re.compile(r'CERTS_LIST="[^"]*"')

_CA_CERTIFICATES = Reproduced(
    "the choice of certificates, the bundle and its links are reproduced",
    (effects.ChooseCertificates(), effects.UpdateCertificates()),
)
_QUESTIONS = Harmless("asks which certificates to trust; the recorded answers are used")
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
    # Ubuntu's of 2026 leave the bundle to the trigger (22.04), or do hooks and bundle at once (24.04).
    (
        "ca-certificates",
        "postinst",
        "0de20dfdf3ef723a9c0f7d0b58bcd7c7dea50b637d30e1a7e3cb0cfc40f1911a",
    ): _CA_CERTIFICATES,
    (
        "ca-certificates",
        "postinst",
        "53e9aacd4886530b29829dabc68a67110f4aff9781ed0eec4c35d352f1ed3d59",
    ): _CA_CERTIFICATES,
}


BYTECODE = "copa-remove-bytecode"
LOCAL_FOLDERS = "copa-remove-local-folders"
LINKS = "copa-remove-links-to"
_FRAGMENTS: tuple[tuple[re.Pattern[str], str], ...] = (
    # dh_usrlocal; the postinst of the new version makes the same folders again.
    (
        re.compile(
            r"\(\n\twhile read (?:-r )?dir; do\n\t\trmdir \"(?:\$\{DPKG_ROOT\})?\$dir\" 2>/dev/null \|\| true\n"
            r"\tdone\n\) << DATA\n(?:/usr/local/[^\n$`\\]*\n)+DATA(?=\n)"
        ),
        LOCAL_FOLDERS,
    ),
    # php's modules; the variables in it are the script's
    (
        re.compile(
            r"find /etc/php/ -type l \| \\\n\s*while read symlink; do\n"
            r"\s*if \[ \"\$\(readlink \$symlink\)\" = \"\$\{inidir\}/\$(?:\{inifile\}|inifile)\" \]; then\n"
            r"\s*rm -f \"\$\{symlink\}\"\n\s*fi\n\s*done(?=\n)"
        ),
        f'{LINKS} /etc/php "${{inidir}}/${{inifile}}"',
    ),
    # python3.x
    (
        re.compile(
            r"max=\$\(LANG=C LC_ALL=C xargs --show-limits < /dev/null 2>&1 \| awk [^\n]*\)\n"
            r"[ \t]*(?:LC_ALL=C\.UTF-?8 )?dpkg -L \$pkg \\\n[ \t]*\| awk [^\n|]*\\\n"
            r"[ \t]*\| xargs --max-chars=\"\$max\" echo \\\n[ \t]*\| while read files; do rm -f \$files; done\n"
            r"(?:[ \t]*#[^\n]*\n[ \t]*rm -f /usr/lib/python3[^\n ]*/__pycache__/[^\n ]*\n)?"
            r"[ \t]*find /usr/lib/python3(?:[^|\n\\]|\\[()]|\\\n)* -name __pycache__(?:[^|\n\\]|\\[()]|\\\n)*"
            r"\| xargs -r rm -rf(?=\n)"
        ),
        BYTECODE,
    ),
    # libstdc++6 and others of gcc
    (
        re.compile(
            r"files=\$\(dpkg -L [a-z0-9:+.-]+ \| awk [^\n]*__pycache__[^\n]*\)\n[ \t]*rm -f \$files\n"
            r"[ \t]*dirs=\$\(dpkg -L [^\n]*\)\n[ \t]*find \$dirs [^\n]*__pycache__ -type d -empty "
            r"\| xargs -r rmdir(?=\n)"
        ),
        BYTECODE,
    ),
)
"""Parts of scripts that are known as a whole, and the word that stands for what they do."""


def mark_fragments(text: str, postinst: str = "") -> str:
    """Put one word in the place of each part that is known as a whole; lines keep their numbers."""

    def mark(word: str, match: re.Match[str]) -> str:
        again = all(line in postinst for line in match[0].split("\n") if line.startswith("/"))
        return word + "\n" * match[0].count("\n") if again else match[0]

    if "__pycache__" not in text and "rmdir" not in text and "readlink" not in text:
        return text
    for pattern, word in _FRAGMENTS:
        text = pattern.sub(partial(mark, word), text)
    return text


def normalise_script(text: str) -> str:
    """Drop comments, debhelper's with its version among them, and all that only lays the text out."""
    return _BLANK.sub(" ", _COMMENT.sub("", text.partition("\n")[2])).strip()


def recognise_script(package: str, name: str, text: str) -> Judgement | None:
    """Return the verdict on a script that is known as a whole."""
    plain = _CERTIFICATES.sub("", normalise_script(text))
    digest = hashlib.sha256(plain.encode("utf-8", "surrogateescape")).hexdigest()
    return _KNOWN.get((package, name, digest))
