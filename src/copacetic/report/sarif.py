# SPDX-License-Identifier: Apache-2.0
"""
SARIF of the scanners that are known: SARIF has no fields for packages, so each writes them into texts of its own.

Docker Scout names source packages, the others binary ones. Trivy says whether a package is the distribution's, and not
which distribution's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from copacetic.errors import UnsupportedReportError
from copacetic.report.document import Shape, at, decode, sketch, texts
from copacetic.report.grammar import DISTRIBUTION, FindingBuilder, find_type, is_os, os_type
from copacetic.updates import Report


class _Text(Shape, frozen=True):
    text: object = ""
    markdown: object = ""


class _Rule(Shape, frozen=True, rename={"full": "fullDescription", "short": "shortDescription"}):
    id: object = None
    name: object = ""
    full: _Text = _Text()
    short: _Text = _Text()
    help: _Text = _Text()


class _Driver(Shape, frozen=True):
    name: object = ""
    rules: list[_Rule] | None = None


class _Tool(Shape, frozen=True):
    driver: _Driver = _Driver()


class _Result(Shape, frozen=True, rename={"rule_id": "ruleId"}):
    rule_id: object = None
    message: _Text = _Text()
    locations: object = None


class _Run(Shape, frozen=True):
    tool: _Tool = _Tool()
    results: list[_Result] | None = None
    properties: object = None


class _Document(Shape, frozen=True):
    runs: list[_Run] | None = None


def accepts(head: bytes, _name: str) -> bool:
    """Whose it is may be said at the end, behind the results."""
    seen = sketch(head)
    return isinstance(at(seen, "runs"), list) and ("sarif" in str(at(seen, "$schema")).lower() or "version" in seen)


def parse(data: bytes, name: str) -> list[Report]:
    """Raises `ReportError`; `UnsupportedReportError` for a scanner whose texts nobody here can read."""
    runs = decode(data, _Document, f"the report {name}").runs or []
    drivers = [str(run.tool.driver.name).lower() for run in runs]
    unknown = next((driver for driver in drivers if driver not in _DIALECTS), None)
    if unknown is not None or not runs:
        known = ", ".join(_DIALECTS)
        raise UnsupportedReportError(
            f"the report {name} is SARIF of {unknown or 'nobody'!r}; supported: that of {known}"
        )
    builder = FindingBuilder(f"{drivers[0]} (SARIF)", name)
    for run, driver in zip(runs, drivers, strict=True):
        rules = {rule.id: rule for rule in run.tool.driver.rules or [] if isinstance(rule.id, str)}
        for result in run.results or []:
            identity = result.rule_id if isinstance(result.rule_id, str) else ""
            rule = rules.get(identity, _Rule())
            if rule is not _SAID:
                _DIALECTS[driver](builder, rule, result)
            if driver in _BY_RULE and identity in rules:
                rules[identity] = _SAID
    about = runs[0].properties
    return [
        builder.report(
            image_digests=[at(about, "imageID"), *texts(at(about, "repoDigests"))], image_name=at(about, "imageName")
        )
    ]


def _fields(text: object) -> Mapping[str, str]:
    """Read lines of a key, a colon and a value."""
    lines = text.splitlines() if isinstance(text, str) else []
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {key.strip().lower(): value.strip() for key, _, value in pairs}


def _places(result: _Result) -> list[object]:
    locations = result.locations if isinstance(result.locations, list) else []
    return [at(location, "physicalLocation", "artifactLocation", "uri") for location in locations]


def _scout(builder: FindingBuilder, _rule: _Rule, result: _Result) -> None:
    fields = _fields(result.message.text)
    purl = builder.read_purl(fields.get("package"))
    package_type = find_type(purl.type if purl else None)
    builder.add(
        vulnerability=result.rule_id,
        package=purl and purl.package,
        package_type=package_type,
        installed=purl and purl.full_version,
        fixed=fields.get("fixed version"),
        severity=fields.get("severity"),
        purl=fields.get("package"),
        locations=_places(result),
        names_source=is_os(package_type),
    )


def _trivy(builder: FindingBuilder, rule: _Rule, result: _Result) -> None:
    fields = _fields(result.message.text)
    builder.add(
        vulnerability=result.rule_id,
        package=fields.get("package"),
        package_type=DISTRIBUTION if rule.name == "OsPackageVulnerability" else "generic",
        installed=fields.get("installed version"),
        fixed=fields.get("fixed version"),
        severity=fields.get("severity"),
    )


_GRYPES_ID = re.compile(r"\*{0,2}Vulnerability (\S{1,128})")


def _grype(builder: FindingBuilder, rule: _Rule, result: _Result) -> None:
    text = rule.help.text if isinstance(rule.help.text, str) else ""
    fields, identity = _fields(text), _GRYPES_ID.match(text)
    builder.add(
        vulnerability=identity and identity[1],
        package=fields.get("package"),
        package_type=find_type(fields.get("type")),
        installed=fields.get("version"),
        fixed=fields.get("fix version"),
        severity=fields.get("severity"),
        locations=[fields.get("location")],
    )


_SNYKS_PACKAGE = re.compile(r"(?:\((CVE-[0-9-]{6,20})\) )?(\S{1,255})@(\S{1,255})")
_SNYKS_FIX = re.compile(r"Upgrade `[^`]{1,80}` `[^`]{1,255}` to version (\S{1,255}) or higher")
_SNYKS_SYSTEM = re.compile(r"for `([^`]{1,80})`|Upgrade `([^`]{1,80})`")


def _snyk(builder: FindingBuilder, rule: _Rule, result: _Result) -> None:
    found = _SNYKS_PACKAGE.fullmatch(str(rule.full.text))
    cve, package, version = found.groups() if found else (None, None, None)
    advice = str(rule.help.markdown).rpartition("## Remediation")[2]
    fix, system = _SNYKS_FIX.search(advice), _SNYKS_SYSTEM.search(advice)
    package_type = os_type(system and (system[1] or system[2]))
    builder.add(
        vulnerability=cve or result.rule_id,
        package=package.rpartition("/")[2] if package and package_type else package,
        package_type=package_type or "generic",
        installed=version,
        fixed=fix and fix[1],
        severity=str(rule.short.text).partition(" ")[0],
        aliases=result.rule_id,
    )


_SAID = _Rule(id="said")
_BY_RULE = frozenset({"grype", "snyk container"})
"""Whose results add nothing to what their rule says: one of each is enough."""
_DIALECTS: Mapping[str, Callable[[FindingBuilder, _Rule, _Result], None]] = {
    "docker scout": _scout,
    "grype": _grype,
    "snyk container": _snyk,
    "trivy": _trivy,
}
