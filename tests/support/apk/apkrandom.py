# SPDX-License-Identifier: Apache-2.0
"""
Random repositories, and what the real apk makes of them.

A case has packages that are installed from a first repository, and a second one to upgrade from. Names, sonames,
virtual packages, conflicts, install_if and versions in `world` are drawn so that many cases have something to decide.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from support.apk.apkoracle import run_in
from support.apk.apkrepo import format_rows
from support.apk.apks import ARCHITECTURE, member, q1
from support.deb.debs import Member
from support.value.replacing import replace

Row = dict[str, str]
Change = tuple[str, str | None, str | None]
"""A package, its version before and after."""

_STEP = re.compile(r"^\(\d+/\d+\) (\w+) (\S+?)(?:@edge)? \((\S+?)(?: -> (\S+))?\)", re.MULTILINE)
_NAME = re.compile(r"[<>=~]")


@dataclass(frozen=True, slots=True)
class Case:
    """What is offered at first, later, and asked for."""

    before: tuple[Row, ...]
    after: tuple[Row, ...]
    world: tuple[str, ...]
    """With @edge at what is wanted from the tagged repository."""
    tagged: tuple[Row, ...] = ()
    """What is offered later by the repository @edge."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A case that apk could install, with what is installed then and what upgrading would do."""

    case: Case
    installed: tuple[Row, ...]
    code: int
    changes: tuple[Change, ...]


def row(name: str, version: str, **lists: str) -> Row:
    fields = {"P": name, "V": version, "A": ARCHITECTURE, "S": "1", "I": "1000", "T": name, "U": "", "L": "x", "t": "1"}
    fields |= {letter: value for letter, value in lists.items() if value}
    return {"C": q1(repr(sorted(fields.items())).encode()), **fields}


class Drawer:
    """Draws cases; `rich` ones have operators, conflicts and virtual packages besides."""

    def __init__(self, seed: int, *, rich: bool) -> None:
        self._chance = random.Random(seed)
        self._rich = rich
        self._names: list[str] = []

    def case(self) -> Case:
        chance = self._chance
        self._names = [letter * 2 for letter in "abcdefghi"[: chance.randrange(4, 10)]]
        before = _closed([self._package(name, "1-r0") for name in self._names if chance.random() < 0.95])
        endings = [*[""] * 8, "=1-r0", "<2-r0", "~1", ">=1-r0"]
        world = tuple(n + chance.choice(endings) for n in chance.sample(self._names, chance.randrange(1, 4)))
        rows = [old for old in before if chance.random() < 0.9]
        rows += [one for old in before for one in self._newer(old)]
        if chance.random() < 0.4:
            rows.append(self._package("zz", "1-r0"))
        if chance.random() < 0.85:
            rows = [one if one in before else _closed([*rows, one])[-1] for one in rows]
        return Case(tuple(before), tuple(rows), world)

    def tagged_case(self) -> Case:
        """Draw a case in which a part of what is new is only offered to who asks for its tag, as one package does."""
        chance, case = self._chance, self.case()
        after = tuple(one for one in case.after if chance.random() < 0.6)
        tagged = tuple(one for one in case.after if one not in after or chance.random() < 0.2)
        names = [_NAME.split(word)[0] for word in case.world]
        names[chance.randrange(len(names))] += "@edge"
        return replace(case, after=after, world=tuple(names), tagged=tagged)

    def _newer(self, old: Row) -> list[Row]:
        found: list[Row] = []
        for version in ("1-r1", "2-r0", "3-r0"):
            if self._chance.random() >= 0.35:
                continue
            if self._chance.random() < 0.5:
                found.append(self._package(old["P"], version))
            else:
                depends = old.get("D", "").replace("=1-r0", f"={version}")
                provides = old.get("p", "").replace("1-r0", version)
                found.append(row(old["P"], version, D=depends, p=provides, i=old.get("i", ""), k=old.get("k", "")))
        return found

    def _package(self, name: str, version: str) -> Row:
        chance, rich = self._chance, self._rich
        others = [other for other in self._names if other != name]
        plain = ["", "", "", ">=1-r0", f"={version}"]
        operators = ["", "", "", "", "=1-r0", "=2-r0", ">=2-r0", "<3-r0", "~1", ">1-r0"] if rich else plain
        virtual = ["so:l1", "so:l2", "so:l3", "cmd:x", "virt"] if chance.random() < 0.5 else []
        depends: list[str] = []
        for _ in range(chance.choice([0, 1, 1, 2, 3])):
            wish = chance.choice([*others, *virtual])
            depends.append(wish if wish in virtual else wish + chance.choice(operators))
        if rich and chance.random() < 0.15:
            depends.append("!" + chance.choice(others) + chance.choice(["", "<2-r0", "=1-r0", ">2-r0"]))
        provides = [f"so:l{chance.randrange(1, 4)}={chance.choice('12')}"] if chance.random() < 0.35 else []
        priority = ""
        if rich and chance.random() < 0.2:
            own = chance.choice(self._names)
            provides.append(chance.choice([f"cmd:x={version}", "virt", "virt", f"{own}={version}"]))
            priority = chance.choice(["", "", "10", "100"])
        waits = ""
        if chance.random() < 0.12:
            pair = " ".join(chance.sample(others, 2))
            waits = pair if chance.random() < 0.7 else f"{chance.choice(others)}={version}"
        return row(name, version, D=" ".join(dict.fromkeys(depends)), p=" ".join(provides), i=waits, k=priority)


def _closed(rows: Sequence[Row]) -> list[Row]:
    """Drop what nobody could ever provide, so that more cases can be solved."""
    there = {_NAME.split(word)[0] for one in rows for word in (one["P"], *one.get("p", "").split())}

    def kept(one: Row) -> str:
        words = one.get("D", "").split()
        return " ".join(word for word in words if word.startswith("!") or _NAME.split(word)[0] in there)

    return [
        row(one["P"], one["V"], D=kept(one), p=one.get("p", ""), i=one.get("i", ""), k=one.get("k", "")) for one in rows
    ]


_SCRIPT = """\
for n in $(seq 0 {last}); do
  echo "@@ $n"
  apk="apk --root /t/$n/root --allow-untrusted --no-cache --repositories-file /dev/null"
  $apk --initdb -X /t/$n/before add $(cat /t/$n/world) >/dev/null 2>&1; echo "add $?"
  sed -i 's/^I:0$/I:1000/' /t/$n/root/lib/apk/db/installed
  if [ -e /t/$n/asked ]; then
    cp /t/$n/asked /t/$n/root/etc/apk/world
    echo "@edge /t/$n/tagged" > /t/$n/repositories
    apk="apk --root /t/$n/root --allow-untrusted --no-cache --repositories-file /t/$n/repositories"
  fi
  $apk -X /t/$n/after upgrade -s 2>&1; echo "upgrade $?"
done
"""


def judge(root: Path, cases: Sequence[Case], scratch: Path) -> list[Judged]:
    """Let a root's apk install and upgrade each case; those that it can't even install are left out."""
    for position, case in enumerate(cases):
        # apk fetches nothing for packages without a size.
        _write(scratch / str(position) / "before", [one | {"I": "0"} for one in case.before])
        _write(scratch / str(position) / "after", case.after)
        (scratch / str(position) / "world").write_text(" ".join(case.world).replace("@edge", ""))
        if case.tagged:
            _write(scratch / str(position) / "tagged", case.tagged)
            (scratch / str(position) / "asked").write_text("".join(f"{word}\n" for word in case.world))
    (root / "t").mkdir()
    run = run_in(root, _SCRIPT.format(last=len(cases) - 1), binds={"t": scratch})
    found: list[Judged] = []
    for block in run.output.split("@@ ")[1:]:
        number, _, rest = block.partition("\n")
        if not rest.startswith("add 0\n"):
            continue
        folder = scratch / number / "root"
        world = tuple((folder / "etc/apk/world").read_text().split())
        code = re.search(r"^upgrade (\d+)$", rest, re.MULTILINE)
        assert code is not None, rest
        found.append(
            Judged(
                replace(cases[int(number)], world=world),
                tuple(_read(folder / "lib/apk/db/installed")),
                int(code[1]),
                tuple(_change(*match) for match in _STEP.findall(rest)),
            )
        )
    return found


def _change(verb: str, name: str, first: str, second: str) -> Change:
    if second:
        return name, first, second
    return (name, first, None) if verb == "Purging" else (name, None, first)


def _write(folder: Path, rows: Sequence[Row]) -> None:
    below = folder / ARCHITECTURE
    below.mkdir(parents=True)
    entry = ("APKINDEX", Member(content=format_rows(rows)), dict[str, str]())
    (below / "APKINDEX.tar.gz").write_bytes(member([entry], last=True))


def _read(path: Path) -> list[Row]:
    stanzas = path.read_text().split("\n\n")
    rows = [{line[0]: line[2:] for line in stanza.splitlines() if line[1:2] == ":"} for stanza in stanzas]
    return [one for one in rows if one]
