# SPDX-License-Identifier: Apache-2.0
"""Generated repositories and installed sets, in the form of libsolv's testcases, and testsolv as the judge."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from msgspec.structs import replace

from copacetic.repository.rpm.offer import RpmOffer
from copacetic.rpm.dependency import (
    EQUAL,
    GREATER,
    LESS,
    Requirement,
    RichDependency,
    RpmDependency,
    holds,
)
from support.deb.debian import need
from support.rpm.solvtags import spell_dependency

_LIKE_DNF = (
    "poolflags implicitobsoleteusescolors",
    "solverflags allowvendorchange keepexplicitobsoletes bestobeypolicy keeporphans yumobsoletes ignorerecommended",
)


class RpmScene:
    """An installed set in which all requirements are met, and what is offered for it."""

    def __init__(self, installed: Sequence[RpmOffer], offers: Sequence[RpmOffer]) -> None:
        self.installed = tuple(installed)
        self.offers = tuple(offers)

    def text(self, jobs: Sequence[str]) -> str:
        """Write a testcase."""
        lines = ["repo system 0 testtags <inline>", *self._packages(self.installed)]
        by_repository: dict[str, list[RpmOffer]] = {}
        for offer in self.offers:
            by_repository.setdefault(offer.repository, []).append(offer)
        for name, offers in by_repository.items():
            lines += [f"repo {name} {-offers[0].priority} testtags <inline>", *self._packages(offers)]
        return "\n".join(["feature complex_deps", *lines, "system x86_64 rpm system", *_LIKE_DNF, *jobs, ""])

    def _packages(self, offers: Sequence[RpmOffer]) -> list[str]:
        lines = []
        for offer in offers:
            version, _, release = offer.evr.partition("-")
            lines.append(f"#>=Pkg: {offer.name} {version} {release} {offer.architecture}")
            for tag, some in (
                ("Prv", (offer.itself, *offer.provides)),
                ("Req", offer.requires),
                ("Con", offer.conflicts),
                ("Obs", offer.obsoletes),
            ):
                lines += [f"#>={tag}: {spell_dependency(one)}" for one in some]
        return lines


def make_scene(seed: int, *, rich: bool = True, multilib: bool = True) -> RpmScene:
    """Make a set of some ten packages and newer versions of them, with dependencies that often don't go together."""
    chosen = random.Random(seed)
    names = [f"p{number:02}" for number in range(chosen.randint(4, 14))]
    virtual = [f"v{number}" for number in range(4)]
    offers: list[RpmOffer] = []
    for name in names:
        architectures = ["x86_64"]
        if multilib and chosen.random() < 0.12:
            architectures = chosen.choice((["x86_64", "i686"], ["noarch"]))
        for version in range(1, chosen.choice((2, 3, 3, 4, 5))):
            if version == 1 or chosen.random() < 0.9:
                offers += [_package(chosen, name, version, one, names, virtual, rich=rich) for one in architectures]
    installed = _closed(chosen, [offer for offer in offers if offer.evr.startswith(("1-", "2-"))])
    present = {(offer.name, offer.architecture): offer.evr for offer in installed}
    rest = [o for o in offers if present.get((o.name, o.architecture), "") != o.evr]
    second = chosen.random() < 0.3
    preferred = {name: [f"{version}-1" for version in range(1, 5) if chosen.random() < 0.4] for name in names}
    rest = [
        replace(o, repository="other", priority=90)
        if second and o.name in preferred and o.evr in preferred[o.name]
        else o
        for o in rest
    ]
    return RpmScene([replace(offer, repository="") for offer in installed], rest)


def _package(
    chosen: random.Random,
    name: str,
    version: int,
    architecture: str,
    names: Sequence[str],
    virtual: Sequence[str],
    *,
    rich: bool,
) -> RpmOffer:
    def asked() -> RpmDependency:
        word = chosen.choice((*names, *names, *virtual))
        if chosen.random() < 0.45:
            return RpmDependency(word)
        flags = chosen.choice((EQUAL, GREATER | EQUAL, GREATER | EQUAL, LESS, LESS | EQUAL))
        return RpmDependency(word, flags, str(chosen.randint(max(1, version - 1), version + 1)))

    def requirement() -> Requirement:
        if not rich or chosen.random() < 0.85:
            return asked()
        operator = chosen.choice(("and", "or", "if", "or"))
        return RichDependency(operator, (asked(), asked()))

    return RpmOffer(
        name=name,
        evr=f"{version}-1",
        architecture=architecture,
        repository="updates",
        provides=tuple(
            RpmDependency(word, EQUAL, str(version)) if chosen.random() < 0.7 else RpmDependency(word)
            for word in virtual
            if chosen.random() < 0.2
        ),
        requires=tuple(dict.fromkeys(requirement() for _ in range(chosen.choice((0, 0, 1, 1, 2, 3))))),
        conflicts=tuple(asked() for _ in range(chosen.random() < 0.1)),
        obsoletes=tuple(
            RpmDependency(word) if chosen.random() < 0.5 else RpmDependency(word, LESS, "3")
            for word in [chosen.choice(names)]
            if word != name and chosen.random() < 0.05
        ),
    )


def _closed(chosen: random.Random, offers: Sequence[RpmOffer]) -> list[RpmOffer]:
    """Take one version of each, and leave out what lacks something or is in conflict, until nothing is."""
    by_key: dict[tuple[str, str], RpmOffer] = {}
    for offer in offers:
        if (offer.name, offer.architecture) not in by_key or chosen.random() < 0.3:
            by_key[offer.name, offer.architecture] = offer
    found = [offer for offer in by_key.values() if chosen.random() < 0.9]
    while (bad := next((o for o in found if broken(o, found) or _is_alone(o, found)), None)) is not None:
        found.remove(bad)
    return found


def _is_alone(offer: RpmOffer, others: Sequence[RpmOffer]) -> bool:
    """Whether only the 32 bits of a package are there: libsolv brings in the 64 bits at its next update."""
    return offer.architecture == "i686" and not any(
        other.name == offer.name and other.architecture == "x86_64" for other in others
    )


def broken(offer: RpmOffer, others: Sequence[RpmOffer]) -> list[str]:
    """Return what of a package doesn't hold in a set: an independent look."""
    found = _finder(others)
    names = [f"{offer} requires {one}" for one in offer.requires if not holds(one, found)]
    names += [f"{offer} conflicts with {one}" for one in offer.conflicts if holds(one, found_without(offer, others))]
    names += [
        f"{offer} obsoletes {other}"
        for one in offer.obsoletes
        for other in others
        if other is not offer and other.name == one.name and one.matches(other.itself)
    ]
    for other in others:
        if other is not offer and other.name == offer.name:
            wide = {"x86_64", "i686"} == {other.architecture, offer.architecture}
            if not wide or other.evr != offer.evr:
                names.append(f"{offer} and {other}")
    return names


def found_without(offer: RpmOffer, others: Sequence[RpmOffer]) -> Callable[[RpmDependency], frozenset[int]]:
    return _finder([other for other in others if other is not offer])


def _finder(others: Sequence[RpmOffer]) -> Callable[[RpmDependency], frozenset[int]]:
    def found(asked: RpmDependency) -> frozenset[int]:
        return frozenset(
            number
            for number, other in enumerate(others)
            if any(one.name == asked.name and asked.matches(one) for one in (other.itself, *other.provides))
            or asked.name in other.files
        )

    return found


def libsolv_result(scene: RpmScene, jobs: Sequence[str], folder: Path, *, without: str = "") -> set[str]:
    """Return what is installed in the end, by libsolv with dnf's settings, but for one."""
    need("testsolv")
    path = folder / "case.t"
    text = scene.text([*jobs, "result transaction,problems <inline>"])
    path.write_text(text.replace(without, "") if without else text)
    run = subprocess.run(["testsolv", "-r", str(path)], capture_output=True, text=True, check=False)
    result = {offer.nevra for offer in scene.installed}
    for line in run.stdout.splitlines():
        words = [word.rpartition("@")[0] for word in line.split()[1:]]
        match line.split()[0]:
            case "install":
                result.add(words[0])
            case "erase":
                result.discard(words[0])
            case "upgrade" | "downgrade" | "change":
                result.discard(words[0])
                result.add(words[1])
            case "problem":
                result.add(line)
            case _:
                raise AssertionError(run.stdout + run.stderr)
    return result


def compare_results(scene: RpmScene, ours: Collection[str], theirs: Collection[str]) -> str:
    """
    Return "same", or how two results differ: in new packages of which any does, in what takes the place of a package,
    or in whose update comes first. "worse" is what nothing excuses.
    """
    if set(ours) == set(theirs):
        return "same"
    mine, other = _fates(scene, ours), _fates(scene, theirs)
    if mine == other:
        return "other new packages"
    if [fate is None for fate in mine] != [fate is None for fate in other]:
        return "other heirs"
    pairs = [(one, two) for one, two in zip(mine, other, strict=True) if one is not None and two is not None]
    if any(one.evr > two.evr for one, two in pairs):
        return "other order"
    preferred = [one.priority < two.priority for one, two in pairs if one.evr < two.evr]
    return "better repository" if preferred and any(preferred) else "worse"


def _fates(scene: RpmScene, result: Collection[str]) -> list[RpmOffer | None]:
    """What each installed package has become; None for one whose place another has taken."""
    known = {offer.nevra: offer for offer in (*scene.offers, *scene.installed)}
    found = [known[nevra] for nevra in sorted(result) if nevra in known]
    return [
        next((o for o in found if o.name == old.name and o.architecture == old.architecture), None)
        for old in scene.installed
    ]
