# SPDX-License-Identifier: Apache-2.0
"""The ini files of yum, dnf, tdnf and zypper, and the variables in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from copacetic.errors import RepositoryError
from copacetic.lines import split_lines
from copacetic.oci.filesystem import ImageFilesystem

__all__ = ["FILE_LIMIT", "expand", "parse_ini", "read_variables", "split_list", "to_bool"]

FILE_LIMIT = 1024 * 1024
_MAX_SECTIONS = 1_000
_MAX_KEYS = 200
_MAX_VALUE = 65_536
_MAX_VARIABLES = 200
_MAX_EXPANDED = 4_000
_SECTION = re.compile(r"\[([^\]\r\n]{1,200})\]\s*(?:[#;].*)?")
_KEY = re.compile(r"[A-Za-z0-9_.-]{1,80}")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::([-+])([^{}$]*))?\})", re.ASCII)
_VARIABLE_NAME = re.compile(r"[A-Za-z0-9_]{1,64}")
_VALUE = re.compile(r"[!-~]{0,255}")
_FOLDERS = ("usr/share/dnf5/vars.d", "etc/yum/vars", "etc/dnf/vars", "etc/zypp/vars.d")
_BOOL = {
    **dict.fromkeys(("1", "yes", "true", "on", "enabled"), True),
    **dict.fromkeys(("0", "no", "false", "off", "disabled"), False),
}


def parse_ini(text: str, where: str) -> dict[str, dict[str, str]]:
    """
    Return the sections with their keys in lower case; a line that begins with a blank goes on with the value before.

    Raises `RepositoryError` for a broken line, naming file and line.
    """
    sections: dict[str, dict[str, str]] = {}
    section: dict[str, str] | None = None
    key = ""
    for number, raw in enumerate(split_lines(text.replace("\r\n", "\n")), start=1):
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        if raw[0] in " \t" and section is not None and key:
            section[key] = f"{section[key]}\n{line}"[:_MAX_VALUE]
            continue
        match = _SECTION.fullmatch(line)
        if match is not None:
            section, key = sections.setdefault(match[1].strip(), {}), ""
        else:
            name, separator, value = _split(line)
            if section is None or not separator or not _KEY.fullmatch(name):
                raise RepositoryError(f"{where}:{number}: not a section and not a setting: {line[:80]!r}")
            key = name.lower()
            section[key] = value[:_MAX_VALUE]
        if len(sections) > _MAX_SECTIONS or len(section) > _MAX_KEYS:
            raise RepositoryError(
                f"{where}:{number}: more than {_MAX_SECTIONS} sections, or {_MAX_KEYS} settings of one"
            )
    return sections


def _split(line: str) -> tuple[str, str, str]:
    """At the first = or colon, as Python's own reader does."""
    at = min((at for at in (line.find("="), line.find(":")) if at >= 0), default=-1)
    return (line[:at].rstrip(), line[at], line[at + 1 :].strip()) if at >= 0 else (line, "", "")


def split_list(value: str) -> tuple[str, ...]:
    """Return words between commas, blanks and ends of lines."""
    return tuple(value.replace(",", " ").split())


def to_bool(value: str | None, default: bool) -> bool:
    """Return what a switch says; what isn't understood says nothing."""
    return _BOOL.get((value or "").strip().lower(), default)


def read_variables(fs: ImageFilesystem, builtin: Mapping[str, str]) -> dict[str, str]:
    """Return the builtin variables and those that files of the image give, whose names are the files'."""
    found = dict(builtin)
    for folder in _FOLDERS:
        for name in fs.iterdir(folder)[:_MAX_VARIABLES]:
            if not _VARIABLE_NAME.fullmatch(name):
                continue
            try:
                text = fs.read(f"{folder}/{name}", limit=FILE_LIMIT).decode("utf-8", "replace")
            except FileNotFoundError:
                continue
            value = text.partition("\n")[0].strip()
            if _VALUE.fullmatch(value):
                found[name] = value
    return found


def expand(text: str, variables: Mapping[str, str], where: str) -> str:
    """
    Fill in `$name`, `${name}`, `${name:-otherwise}` and `${name:+if set}`.

    Raises `RepositoryError` for a variable that nobody sets: what is made of it would be another address.
    """
    missing: list[str] = []

    def value(match: re.Match[str]) -> str:
        name, other = match[1] or match[2], match[4] or ""
        known = variables.get(name, "")
        if match[3] == "+":
            return other if known else ""
        if match[3] == "-":
            return known or other
        if name not in variables:
            missing.append(name)
        return known

    expanded = _VARIABLE.sub(value, text)
    if missing:
        names = ", ".join(f"${name[:40]}" for name in _unique(missing))
        hint = "give the repository's address with --repository, or put the variable into etc/dnf/vars of the image"
        raise RepositoryError(f"{where}: nothing sets {names}", hint=hint)
    if len(expanded) > _MAX_EXPANDED:
        raise RepositoryError(f"{where}: a value of more than {_MAX_EXPANDED} characters")
    return expanded


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))[:5]
