# SPDX-License-Identifier: Apache-2.0
"""Plans, outcomes, inspections and builders as text for people; pure functions of values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from copacetic.printable import printable

if TYPE_CHECKING:
    from copacetic.buildkit.probe import BuilderReport, Probe
    from copacetic.pipeline.open.inspect import InspectedPlatform, Inspection
    from copacetic.pipeline.outcome import Outcome, PlatformOutcome
    from copacetic.updates import MatchedFinding, Origin, Plan, PlannedUpdate

_SHOWN_FINDINGS = 3
_SHOWN_PLATFORMS = 3
_SHOWN_ROWS = 20
_STATUS_WORDS = {
    "fixable": "fixable",
    "no-fix": "without a fix",
    "not-installed": "not installed",
    "already-fixed": "already fixed",
    "unknown": "unknown",
}


def format_size(size: int) -> str:
    """Return bytes in the unit that fits, by powers of 1000 as registries count."""
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    raise AssertionError


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Align columns; the first row is the heading."""
    if not rows:
        return ""
    clean = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in clean) for column in range(len(clean[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in clean)
    return "\n".join(lines) + "\n"


def plan_table(plans: Sequence[Plan]) -> str:
    """Return plans as people read them."""
    return "\n".join("\n".join(_plan_lines(plan)) for plan in plans) + "\n"


def _plan_lines(plan: Plan) -> Iterator[str]:
    yield f"{printable(plan.image)}  {plan.platform}  {printable(plan.distro)}"
    yield from _counts(plan.matched)
    if plan.updates:
        yield printable(f"strategy {plan.strategy}: {plan.strategy_reason}")
    if plan.updates:
        count = len(plan.updates)
        yield f"{count} package{'s' * (count != 1)} to install, {format_size(plan.download_size)} to fetch:"
        sections = [section for section in plan.sections if section.updates]
        for section in sections:
            yield f"{section.package_type}:" if len(sections) > 1 else ""
            rows = [("PACKAGE", "INSTALLED", "NEW", "CLOSES", "SCRIPTS")]
            rows += [_update_row(update) for update in section.updates]
            yield format_table(rows)
    else:
        yield "nothing to update"
    if plan.skipped:
        yield "left as it is:"
        for skipped in plan.skipped:
            yield printable(f"  {skipped.package.name} {skipped.package.version}  {skipped.reason}: {skipped.detail}")
        yield ""
    yield from _not_fixable(plan.matched or ())
    if plan.origins:
        yield "repositories:"
        for origin in dict.fromkeys(replace(origin, label="", tag="") for origin in plan.origins):
            key = f"signed by {_short(origin.signed_by)}" if origin.signed_by else "unsigned"
            yield printable(f"  {_place(origin)}  ({origin.defined_in}; {key})")
    yield from _doubts(plan)
    for note in plan.notes:
        yield f"note: {printable(note)}"


def _place(origin: Origin) -> str:
    return " ".join(filter(None, (origin.uri, origin.suite, origin.component)))


def _doubts(plan: Plan) -> Iterator[str]:
    """Name every repository that isn't verified, on every page: nobody may overlook it."""
    rows = dict.fromkeys((" ".join(filter(None, (_place(o), f"({o.defined_in})"))), o.doubt) for o in plan.doubtful)
    yield from (printable(f"NOT VERIFIED: {place}: {doubt}") for place, doubt in rows)


def _short(key: str) -> str:
    """The end of a fingerprint; a key that is known by its file's name has all of it."""
    return key[-16:] if key.isalnum() else key


def _counts(matched: Sequence[MatchedFinding] | None) -> Iterator[str]:
    if matched is not None:
        counts = Counter(str(m.status) for m in matched)
        words = ", ".join(f"{counts[status]} {word}" for status, word in _STATUS_WORDS.items() if counts[status])
        yield f"{len(matched)} finding{'s' * (len(matched) != 1)} in the report: {words or 'none'}"


def _not_fixable(matched: Sequence[MatchedFinding]) -> Iterator[str]:
    """Name what the counts counted and no update closes."""
    groups = {status: [m for m in matched if m.status == status] for status in _STATUS_WORDS if status != "fixable"}
    for status, rows in groups.items():
        names = list(dict.fromkeys(f"{m.finding.vulnerability_id} ({m.finding.package})" for m in rows))
        more = f", and {len(names) - _SHOWN_ROWS} more (--format json has all)" if len(names) > _SHOWN_ROWS else ""
        if names:
            yield printable(f"{_STATUS_WORDS[status]}: {', '.join(names[:_SHOWN_ROWS])}{more}")
    if any(groups.values()):
        yield ""


def _update_row(update: PlannedUpdate) -> tuple[str, str, str, str, str]:
    ids = list(dict.fromkeys(finding.vulnerability_id for finding in update.findings))
    closes = ", ".join(ids[:_SHOWN_FINDINGS]) + (
        f" +{len(ids) - _SHOWN_FINDINGS}" if len(ids) > _SHOWN_FINDINGS else ""
    )
    if update.required_by and not ids:
        closes = f"needed by {', '.join(update.required_by[:2])}"
    verdicts = Counter(str(script.verdict) for script in update.scripts)
    return (
        update.candidate.name,
        update.installed.version if update.installed else "(new)",
        update.candidate.version,
        closes or "-",
        ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items())) or "none",
    )


def outcome_lines(outcome: Outcome) -> Iterator[str]:
    """Yield the summary: before and after, what stays open, where it went."""
    for platform in outcome.platforms:
        yield ""
        yield from _platform_lines(platform)
    yield ""
    if outcome.changed:
        yield f"published {printable(outcome.reference)} in {outcome.seconds:.2f} s"
    else:
        yield f"nothing to do; no image was written ({outcome.seconds:.2f} s)"


def doubt_lines(outcome: Outcome) -> Iterator[str]:
    """Yield only what has to be said in any case: which repositories weren't verified."""
    plans = [platform.plan for platform in outcome.platforms if platform.plan is not None]
    yield from dict.fromkeys(line for plan in plans for line in _doubts(plan))


def _platform_lines(platform: PlatformOutcome) -> Iterator[str]:
    plan = platform.plan
    distro = f"  {printable(plan.distro)}" if plan else ""
    yield f"{platform.platform}{distro}"
    if plan is not None and platform.changed:
        rows = [("PACKAGE", "BEFORE", "AFTER", "CLOSES"), *(_update_row(u)[:4] for u in plan.updates)]
        yield from (f"  {line}" for line in format_table(rows).splitlines())
        yield printable(f"  strategy {plan.strategy}: {plan.strategy_reason}")
    for skipped in plan.skipped if plan is not None else ():
        yield printable(
            f"  left: {skipped.package.name} {skipped.package.version} ({skipped.reason}: {skipped.detail})"
        )
    if platform.matched is not None:
        closed, left = len(platform.closed), len(platform.still_open)
        yield f"  vulnerabilities: {closed + left} before, {closed} closed, {left} still open"
    if platform.layer is not None:
        size = format_size(platform.layer.size)
        yield f"  new layer: {size}, {platform.layer_files} paths; verified: inventory, fixes, dependencies, checksums"
    yield from (f"  {line}" for line in (_doubts(plan) if plan is not None else ()))
    for note in dict.fromkeys((*(plan.notes if plan is not None else ()), *platform.notes)):
        yield f"  note: {printable(note)}"


def outcome_markdown(outcome: Outcome) -> str:
    """Return the summary for a CI job's page."""
    lines = [f"### copa patch `{_cell(outcome.image)}`", ""]
    for platform in outcome.platforms:
        lines += [f"**{platform.platform}**", ""]
        if platform.plan is not None and platform.changed:
            lines += ["| package | before | after | closes |", "|---|---|---|---|"]
            lines += ["| " + " | ".join(map(_cell, _update_row(u)[:4])) + " |" for u in platform.plan.updates]
            lines.append("")
        doubts = [f"> **{_cell(line)}**" for line in (_doubts(platform.plan) if platform.plan is not None else ())]
        lines += [*"\n>\n".join(doubts).splitlines(), ""] if doubts else []
    lines += [f"`{_cell(outcome.reference)}`" if outcome.changed else "Nothing to do.", ""]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return printable(text).replace("|", "\\|").replace("`", "'")


def inspection_table(inspection: Inspection) -> str:
    """Return an inspection as people read it."""
    return "\n".join("\n".join(_inspected_lines(inspection, platform)) for platform in inspection.platforms) + "\n"


def _inspected_lines(inspection: Inspection, platform: InspectedPlatform) -> Iterator[str]:
    yield printable(f"{inspection.image}  {platform.platform}  {platform.digest}")
    databases = [f"{inventory.format} {inventory.path}" for inventory in platform.inventories]
    yield printable("; ".join([platform.distro or "no os-release", *databases, *filter(None, [platform.problem])]))
    yield ""
    rows = [("LAYER", "SIZE", "DIFF ID", "CREATED BY")]
    for number, layer in enumerate(platform.layers):
        rows.append((str(number), format_size(layer.size), layer.diff_id.encoded[:12], layer.created_by[:60]))
    yield format_table(rows)
    for inventory in platform.inventories:
        table = [("PACKAGE", "VERSION", "ARCH", "LAYER", "")]
        for package, position in inventory.packages:
            where = "-" if position is None else str(position)
            marks = ", ".join(filter(None, ("held" if package.held else "", package.state)))
            table.append((package.name, package.version, package.architecture, where, marks))
        yield format_table(table)


_STATE_WORDS = {"usable": "yes", "lacking": "no", "failed": "no", "skipped": "-"}


def builders_table(report: BuilderReport) -> str:
    """Return what was tried, and the reasons and fixes below it."""
    rows = [("ADDRESS", "NAMED BY", "USABLE", "VERSION", "MERGE/DIFF", "PLATFORMS")]
    rows += [_builder_row(probe) for probe in report.probes]
    return format_table(rows) + "".join(f"{line}\n" for line in _builder_lines(report))


def _builder_row(probe: Probe) -> tuple[str, str, str, str, str, str]:
    can = probe.capabilities
    if can is None:
        return (probe.address, probe.origin, _STATE_WORDS[probe.state], "-", "-", "-")
    platforms = ", ".join(str(platform) for platform in can.platforms[:_SHOWN_PLATFORMS])
    more = len(can.platforms) - _SHOWN_PLATFORMS
    return (
        probe.address,
        probe.origin,
        _STATE_WORDS[probe.state],
        can.version or "unknown",
        "yes" if can.merge_diff else "no",
        (platforms or "unknown") + (f" +{more}" if more > 0 else ""),
    )


def _builder_lines(report: BuilderReport) -> Iterator[str]:
    for probe in report.probes:
        if probe.place or probe.reason:
            yield ""
            yield printable(probe.reason or probe.address)
        if probe.place:
            yield printable(f"  is: {probe.place}")
        if probe.fix:
            yield printable(f"  fix: {probe.fix}")
    yield ""
    chosen = report.chosen
    if chosen is not None:
        yield printable(f"used when execution is needed: {chosen.address}")
    else:
        yield "no usable builder: packages whose scripts have to be run are refused"
