# SPDX-License-Identifier: Apache-2.0
"""
update-alternatives: which of several programs a generic name stands for.

Follows update-alternatives(1) for `--install` and `--remove`: the group's file in the administrative directory,
`/etc/alternatives`, and the generic links. Files are written as the tool writes them, byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec import Struct

from copacetic.oci.filesystem import FileType
from copacetic.oci.tree import TreeBuilder

__all__ = ["AlternativeEdit", "plan_alternative"]

ADMIN = "var/lib/dpkg/alternatives"
LINKS = "etc/alternatives"
MAX_FILE = 1024 * 1024


@dataclass(slots=True)
class _Choice:
    """One alternative with its priority and what it has for each slave."""

    path: str
    priority: int
    slaves: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Group:
    """Everything about one generic name."""

    name: str
    link: str
    automatic: bool = True
    slaves: dict[str, str] = field(default_factory=dict)
    """Slave name → its generic link."""
    choices: dict[str, _Choice] = field(default_factory=dict)

    def best(self, current: str | None) -> _Choice | None:
        """Return the choice of the highest priority; among equals the current one, or the first by name."""
        ordered = [self.choices[path] for path in sorted(self.choices, key=lambda path: (path != current, path))]
        return max(ordered, key=lambda choice: choice.priority, default=None)

    def format(self) -> bytes:
        """Write the group's file."""
        names = sorted(self.slaves)
        lines = ["auto" if self.automatic else "manual", self.link]
        for name in names:
            lines += [name, self.slaves[name]]
        lines.append("")
        for path in sorted(self.choices):
            choice = self.choices[path]
            lines += [choice.path, str(choice.priority), *(choice.slaves.get(name, "") for name in names)]
        return "".join(f"{line}\n" for line in [*lines, ""]).encode("utf-8", "surrogateescape")


class AlternativeEdit(Struct, frozen=True):
    """One change: a file's bytes, a link's target, or None to remove."""

    path: str
    content: bytes | None = None
    target: str | None = None

    def apply(self, tree: TreeBuilder, *, mtime: int) -> None:
        """Make the change."""
        if self.content is not None:
            tree.write(self.path, self.content, mtime=mtime)
        elif self.target is not None:
            tree.symlink(self.path, self.target, mtime=mtime)
        else:
            tree.remove(self.path)


def plan_alternative(tree: TreeBuilder, arguments: Sequence[str]) -> tuple[AlternativeEdit, ...] | None:
    """Return what a call of update-alternatives would change, or None when that isn't modelled."""
    words = [word for word in arguments if word not in ("--force", "--quiet", "--verbose")]
    try:
        if words[:1] == ["--install"]:
            return _install(tree, words[1:])
        if words[:1] == ["--remove"] and len(words) == 3:
            return _remove(tree, words[1], words[2])
        if words[:1] == ["--auto"] and len(words) == 2:
            return _automate(tree, words[1])
    except (ValueError, IndexError):
        return None
    return None


def _install(tree: TreeBuilder, words: Sequence[str]) -> tuple[AlternativeEdit, ...] | None:
    link, name, path, priority = words[:4]
    slaves: dict[str, tuple[str, str]] = {}
    rest = list(words[4:])
    while rest:
        if rest.pop(0) != "--slave":
            return None
        slaves[rest[1]] = (rest[0], rest[2])
        rest = rest[3:]
    if "/" in name or tree.lookup(path.lstrip("/")) is None:
        return None
    present = _read_group(tree, name)
    if present is not None and present.link != link:
        return None
    group = present or _Group(name, link)
    if any(group.slaves.get(slave, slave_link) != slave_link for slave, (slave_link, _) in slaves.items()):
        return None
    group.slaves.update({slave: slave_link for slave, (slave_link, _) in slaves.items()})
    group.choices[path] = _Choice(path, int(priority), {slave: target for slave, (_, target) in slaves.items()})
    return _settle(tree, group)


def _remove(tree: TreeBuilder, name: str, path: str) -> tuple[AlternativeEdit, ...] | None:
    group = _read_group(tree, name)
    if group is None or path not in group.choices:
        return ()
    current = tree.target_of(f"{LINKS}/{group.name}")
    del group.choices[path]
    if not group.automatic and current == path:
        group.automatic = True
    if group.choices:
        return _settle(tree, group)
    edits = _drop_slaves(tree, group)
    gone_paths = (path for path in (group.link.lstrip("/"), f"{LINKS}/{name}") if tree.target_of(path) is not None)
    return (*edits, *(AlternativeEdit(path) for path in gone_paths), AlternativeEdit(f"{ADMIN}/{name}"))


def _automate(tree: TreeBuilder, name: str) -> tuple[AlternativeEdit, ...] | None:
    """Take the best choice from now on; of a name that isn't one, nothing is done."""
    group = _read_group(tree, name) if "/" not in name else None
    if group is None:
        return ()
    group.automatic = True
    return _settle(tree, group)


def _settle(tree: TreeBuilder, group: _Group) -> tuple[AlternativeEdit, ...]:
    """Return the edits that make file and links agree with the group."""
    edits = _drop_slaves(tree, group)
    current = tree.target_of(f"{LINKS}/{group.name}")
    chosen = group.best(current) if group.automatic else group.choices.get(current or "")
    if chosen is None:
        return ()
    edits += _link_edits(tree, group.link, group.name, chosen.path)
    for slave in sorted(group.slaves):
        target = chosen.slaves.get(slave, "")
        if target and tree.lookup(target.lstrip("/")) is not None:
            edits += _link_edits(tree, group.slaves[slave], slave, target)
        else:
            for path in (group.slaves[slave].lstrip("/"), f"{LINKS}/{slave}"):
                if tree.target_of(path) is not None:
                    edits.append(AlternativeEdit(path))
    content = group.format()
    if tree.find(f"{ADMIN}/{group.name}", limit=MAX_FILE) != content:
        edits.append(AlternativeEdit(f"{ADMIN}/{group.name}", content=content))
    return tuple(edits)


def _drop_slaves(tree: TreeBuilder, group: _Group) -> list[AlternativeEdit]:
    """Forget slaves that no choice has any more, and return the edits that take their links away."""
    used = {slave for choice in group.choices.values() for slave, target in choice.slaves.items() if target}
    dropped = {slave: link for slave, link in group.slaves.items() if slave not in used}
    group.slaves = {slave: link for slave, link in group.slaves.items() if slave in used}
    paths = [path for slave, link in dropped.items() for path in (link.lstrip("/"), f"{LINKS}/{slave}")]
    return [AlternativeEdit(path) for path in paths if tree.target_of(path) is not None]


def _link_edits(tree: TreeBuilder, link: str, name: str, target: str) -> list[AlternativeEdit]:
    edits: list[AlternativeEdit] = []
    for path, wanted in ((link.lstrip("/"), f"/{LINKS}/{name}"), (f"{LINKS}/{name}", target)):
        entry = tree.lookup(path, follow=False)
        if entry is not None and entry.type is not FileType.SYMLINK:
            continue  # a real file under a generic name stays, as without --force
        if entry is None or entry.target != wanted:
            edits.append(AlternativeEdit(path, target=wanted))
    return edits


def _read_group(tree: TreeBuilder, name: str) -> _Group | None:
    """Read a group's file. Raises `ValueError` or `IndexError` when it is broken."""
    data = tree.find(f"{ADMIN}/{name}", limit=MAX_FILE)
    if data is None:
        return None
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    group = _Group(name, lines[1], automatic=lines[0] == "auto")
    position = 2
    while lines[position]:
        group.slaves[lines[position]] = lines[position + 1]
        position += 2
    position += 1
    while lines[position]:
        choice = _Choice(lines[position], int(lines[position + 1]))
        for offset, slave in enumerate(group.slaves):
            choice.slaves[slave] = lines[position + 2 + offset]
        group.choices[choice.path] = choice
        position += 2 + len(group.slaves)
    return group
