# SPDX-License-Identifier: Apache-2.0
"""
The proof of extent: a layer holds what the plan's packages say, and nothing that isn't explained.

Every row has to be a planned package's file, as the package says; a file of the package database; something done in
a script's name; or, where scripts were run, something that they may leave. What the other packages have stays as it
is, whoever wanted to change it: their files are neither changed nor taken away, apart from configuration.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

from copacetic.errors import RAN_HINT, VerificationError
from copacetic.oci.filesystem import Entry, FileType, ImageFilesystem
from copacetic.oci.layerindex import LayerIndex, unpack_text
from copacetic.pipeline.prove.claims import Claim, Comparison, attributes_of, is_same, new_rights, speaks_of
from copacetic.pipeline.prove.evidence import Evidence, Part
from copacetic.scripts.accounts import Accounts
from copacetic.unpack.shipped import Explanation, ShippedPackage, ShippedPath
from copacetic.updates import InstalledPackage, PackageKey

__all__ = ["check_extent"]

_SHOWN = 5
_ACCOUNTS = frozenset({"etc/passwd", "etc/group", "etc/shadow", "etc/gshadow"})
"""Scripts add to them; an image without them, or in which everybody may read or write them, is another one."""
_CACHES = re.compile(r"etc/ld\.so\.cache|var/cache/.*|.*\.py[co]|(.*/)?__pycache__")
"""What scripts always leave and nobody wants to hear of."""


def check_extent(evidence: Evidence) -> tuple[str, ...]:
    """
    Hold every row of the new layer against what may account for it.

    Returns what a user should know of what scripts did. Raises `VerificationError`, which names path and reason.
    """
    explanation = evidence.explanation
    proof = _Proof(evidence.parts, evidence.before, evidence.after, explanation)
    try:
        proof.read(evidence.index)
        proof.check_others()
        proof.check_shipped()
        proof.check_rows()
        proof.check_removed()
        proof.check_left_behind()
    except VerificationError as error:
        if explanation.effects is None:
            error.hint = RAN_HINT
        raise
    return tuple(proof.notes())


@dataclass
class _Proof:
    parts: tuple[Part, ...]
    before: ImageFilesystem
    after: ImageFilesystem
    explanation: Explanation
    rows: dict[str, tuple[Entry, Entry | None]] = field(default_factory=dict)
    """What differs, by canonical path: what is there, and what was."""
    removed: set[str] = field(default_factory=set)
    above: set[str] = field(default_factory=set)
    """The directories of everything that differs."""
    claims: dict[str, list[Claim]] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    """What scripts brought or took away that no package has."""
    moved: set[str] = field(default_factory=set)
    """Where links or diversions have put other packages' files as they were."""
    edited: set[str] = field(default_factory=set)
    """Other packages' configuration that scripts have changed."""

    # -- reading ---------------------------------------------------------------------------------------------

    def read(self, index: LayerIndex) -> None:
        """Take in the layer, and what the planned packages lay claim to."""
        for stored, _, is_opaque in index.whiteouts:
            path = unpack_text(stored)
            if is_opaque:
                raise VerificationError(f"the layer takes away everything in /{path}")
            self._note_gone(path, self._was(path))
        for row in index.rows:
            path = unpack_text(row.path)
            entry, was = self.after.lookup(path, follow=False), self._was(path)
            if entry is None:
                raise VerificationError(f"{path} is in the new layer, and not in the result")
            if was is not None and was.type is FileType.DIRECTORY and entry.type is not FileType.DIRECTORY:
                self._note_gone(path, was)
            if was is None or not is_same(was, entry):
                self.rows[path] = entry, was
                if entry.link_group:
                    self.comparison.names.setdefault(entry.link_group, []).append(path)
        for path in (*self.rows, *self.removed):
            above = path.rpartition("/")[0]
            while above not in self.above:
                self.above.add(above)
                above = above.rpartition("/")[0]
        for path, claim in self._claims():
            self.claims.setdefault(path, []).append(claim)

    def _was(self, canonical: str) -> Entry | None:
        """Return what the image has at a path of the layer, if that isn't behind a link there."""
        fs = self.before
        return fs.lookup(canonical, follow=False) if fs.resolve(canonical, follow=False) == canonical else None

    def _note_gone(self, path: str, was: Entry | None) -> None:
        self.removed.add(path)
        if was is not None and was.type is FileType.DIRECTORY:
            self.removed.update(below for below, _ in self.before.walk(path))

    def _claims(self) -> Iterator[tuple[str, Claim]]:
        shipped = self.explanation.packages
        for part in self.parts:
            if shipped is not None:
                for package in shipped.get(part.section.package_type, ()):
                    for said in package.paths:
                        yield self._place(part, said.path, package.key.name), (package, said)
                continue
            for installed in part.changed:
                for path in part.after.files(installed):
                    yield self._place(part, path, installed.name), None

    def _place(self, part: Part, path: str, package: str) -> str:
        return self.after.resolve(part.after.place(path, package), follow=False)

    @cached_property
    def comparison(self) -> Comparison:
        return Comparison(self.explanation, (Accounts(self.after), Accounts(self.before)))

    @cached_property
    def listed(self) -> dict[PackageKey, frozenset[str]]:
        """What the result's databases list of the planned packages."""
        found: dict[PackageKey, frozenset[str]] = {}
        for part in self.parts:
            for package in part.changed:
                found[package.key] = found.get(package.key, frozenset()).union(part.after.files(package))
        return found

    @cached_property
    def going(self) -> dict[str, tuple[Part, InstalledPackage, str]]:
        """Where the versions that go have their files, with whose they are and what its list calls them."""
        return {
            self.before.resolve(part.before.place(path, package.name), follow=False): (part, package, path)
            for part in self.parts
            for package in part.before.packages()
            if package.key in part.replaced
            for path in part.before.files(package)
        }

    @cached_property
    def listed_in_result(self) -> frozenset[str]:
        """Where packages have their files in the result, what they list and don't ship (rpm's ghosts) among them."""
        return frozenset(
            self._place(part, path, package.name)
            for part in self.parts
            for package in part.after.packages()
            for path in part.after.files(package)
        )

    def _is_described(self, path: str, *, after: bool) -> bool | None:
        """See `PackageDatabase.describes`; nothing of a database of which the plan changes no package may change."""
        for part in self.parts:
            described = (part.after if after else part.before).describes(path, part.names)
            if described is not None:
                return described and bool(part.names)
        return None

    # -- planned packages ------------------------------------------------------------------------------------

    def check_shipped(self) -> None:
        """What the layer doesn't have of the packages is in the image, as they say."""
        lookup, differs = self.after.lookup, self.comparison.differs
        for path, claims in self.claims.items():
            if path in self.rows:
                continue
            for claim in claims:
                if claim is None or claim[1].type is FileType.DIRECTORY:
                    continue
                package, said = claim
                listed = self.listed[package.key]
                if listed and said.path not in listed:
                    continue  # another package has it now
                entry = lookup(path, follow=False)
                problem = "is missing in the result" if entry is None else differs(claim, path, entry, entry)
                if problem and not self._may_stay(package, said, path, entry):
                    raise VerificationError(f"{package.label}: {said.path} {problem}")

    def _may_stay(self, package: ShippedPackage, said: ShippedPath, path: str, entry: Entry | None) -> bool:
        """
        Tell whether a path may be what it was in the image: configuration, a directory where the package has a link,
        and what scripts take away, again or as they say.
        """
        if said.is_configuration:
            return True
        if entry is not None:
            target = self.after.lookup(path) if said.type is FileType.SYMLINK else None
            return target is not None and target.type is FileType.DIRECTORY
        effects = self.explanation.effects
        if effects is not None:
            return path in effects and effects[path].entry is None
        return (path in self.going and self._was(path) is None) or speaks_of(package.scripts, path)

    # -- rows ------------------------------------------------------------------------------------------------

    def check_rows(self) -> None:
        """Everything in the layer that no planned package ships has another explanation."""
        for path, (entry, was) in self.rows.items():
            claims = self.claims.get(path)
            problem = self._all_differ(claims, path) if claims else self._unexplained(path, entry, was)
            if problem:
                raise VerificationError(f"{path} {problem}")

    def _all_differ(self, claims: Iterable[Claim], path: str) -> str:
        """A row is as one of the packages says that ship it; several share directories."""
        entry, was = self.rows[path]
        problems = [self.comparison.differs(claim, path, entry, was) for claim in claims]
        return "" if "" in problems or self._is_granted(path, entry) else problems[0]

    def _is_granted(self, path: str, entry: Entry) -> bool:
        """Tell whether packages' records make a directory what it is."""
        if entry.type is not FileType.DIRECTORY or entry.xattrs:
            return False
        return any(part.after.grants(path, (entry.uid, entry.gid, entry.mode)) for part in self.parts)

    def _unexplained(self, path: str, entry: Entry, was: Entry | None) -> str:
        is_plain = not entry.xattrs and entry.uid == entry.gid == 0 and not entry.mode & 0o7022
        described = self._is_described(path, after=True)
        if described is False:
            return "is what the package database has of a package that the plan leaves alone"
        if described:
            return "" if is_plain else "belongs to the package database, and has a mode or an owner that it never has"
        is_new_folder = entry.type is FileType.DIRECTORY and (was is None or was.implicit)
        if is_new_folder and path in self.above and is_plain and entry.mode == 0o755:
            return ""
        if path in self.moved or self._is_granted(path, entry) or self._is_beside(path, entry):
            return ""
        return self._unlike_effect(path, entry, was)

    def _unlike_effect(self, path: str, entry: Entry, was: Entry | None) -> str:
        """Return how something is more than a script did or may leave, or nothing."""
        effects = self.explanation.effects
        if effects is None:
            if path in _ACCOUNTS and was is not None and (entry.type is not was.type or entry.mode & ~was.mode):
                return "has the image's accounts, and would be open to more users than before"
            if path not in self.edited:
                self.left.append(path)
        else:
            effect = effects.get(path)
            if effect is None:
                return "is in the new layer, and no package, database or script of the plan explains it"
            if effect.entry is None or not is_same(effect.entry, entry):
                return f"is not what came of {effect.name}"
        return new_rights(entry, was if was is not None and was.sha256 == entry.sha256 else None)

    def _is_beside(self, path: str, entry: Entry) -> bool:
        """Tell whether this is a configuration file's new version, beside the one that stays."""
        for package in chain.from_iterable((self.explanation.packages or {}).values()):
            for suffix in package.suffixes:
                present = path.removesuffix(suffix)
                for claim in self.claims.get(present, ()) if present != path else ():
                    if self._is_offered(claim, entry, self.after.lookup(present, follow=False)):
                        return True
        return False

    def _is_offered(self, claim: Claim, entry: Entry, present: Entry | None) -> bool:
        said = claim[1] if claim is not None else None
        if said is None or not said.is_configuration or said.sha256 != entry.sha256:
            return False
        as_present = present is not None and attributes_of(present) == attributes_of(entry)
        return as_present or not self.comparison.attributes_differ(said, entry)

    # -- what is gone ----------------------------------------------------------------------------------------

    def check_removed(self) -> None:
        """What the layer takes away was of old versions, or scripts took it: what is theirs, or nobody's."""
        effects = self.explanation.effects
        for path in sorted(self.removed):
            if path in self.rows or path in self.going or self.after.lookup(path, follow=False) is not None:
                continue
            described = self._is_described(path, after=False)
            if path in _ACCOUNTS:
                raise VerificationError(f"{path}, which has the image's accounts, would be taken away")
            if described is False:
                raise VerificationError(f"{path} of a package that the plan leaves alone would be taken away")
            if described or (effects is not None and path in effects and effects[path].entry is None):
                continue
            if effects is not None:
                raise VerificationError(f"the layer takes {path} away, which no package or script of the plan explains")
            self.taken.append(path)

    def check_left_behind(self) -> None:
        """Nothing of an old version stays but what the new one has, too, configuration, and what others account for."""
        for path, (part, package, listed) in self.going.items():
            if path in self.claims:
                continue
            was, place = self._was(path), self.after.resolve(path, follow=False)
            entry = self.after.lookup(place, follow=False) if was is not None else None
            if was is None or entry is None or was.type is FileType.DIRECTORY or not is_same(was, entry):
                continue  # what is another than before is a row of the layer
            if place in self.claims or part.before.is_configuration(listed, package) or self._is_kept(place, entry):
                continue
            if place not in self.listed_in_result:
                raise VerificationError(
                    f"{listed} of {package.name} {package.version} would stay, which no package of the result has"
                )

    def _is_kept(self, path: str, entry: Entry) -> bool:
        """Tell whether scripts may have made, or made again, what an old version had."""
        effects = self.explanation.effects
        if effects is not None:
            return path in effects and effects[path].entry is not None
        packages = chain.from_iterable((self.explanation.packages or {}).values())
        return entry.type is FileType.SYMLINK or any(speaks_of(package.scripts, path) for package in packages)

    # -- other packages --------------------------------------------------------------------------------------

    def check_others(self) -> None:
        """What the plan leaves alone is as it was, wherever a path of the layer could have met it."""
        before, after = self.before, self.after
        touched = self.rows.keys() | self.removed
        moved = self._moves_links()
        folders: dict[str, tuple[str, bool]] = {}
        for part, package in [(one, package) for one in self.parts for package in one.before.packages()]:
            if package.key in part.replaced:
                continue
            for path in part.before.files(package):
                place = part.before.place(path, package.name)
                folder, _, name = place.rpartition("/")
                known = folders.get(folder)
                if known is None:
                    real = before.resolve(folder)
                    known = folders[folder] = f"{real}/" if real else "", moved and after.resolve(folder) != real
                if known[1] or known[0] + name in touched:
                    self._check_other(part, package, path, known[0] + name)

    def _moves_links(self) -> bool:
        """Tell whether anything could be elsewhere because a link on the way to it is new, gone or another."""
        pairs = (*self.rows.values(), *((None, self._was(path)) for path in self.removed))
        return any(one is not None and one.type is FileType.SYMLINK for pair in pairs for one in pair)

    def _check_other(self, part: Part, package: InstalledPackage, path: str, place: str) -> None:
        """`place` is where the file is in the image; links and diversions may have moved it."""
        was = self.before.lookup(place, follow=False)
        canonical = self._place(part, path, package.name)
        entry = self.after.lookup(canonical, follow=False)
        owner = f"{path} of {package.name}, which the plan leaves alone,"
        if was is None or was.implicit or (part.names and part.before.describes(place, part.names)):
            return  # rpm lists its own tables, and who updates packages changes them
        if entry is not None and is_same(was, entry):
            new = self.rows.get(place) if canonical != place and place not in self.claims else None
            if new is not None and new[0].type is FileType.FILE:
                raise VerificationError(f"{owner} would be moved away for a file that no package ships")
            self.moved.add(canonical)
            return
        claims = self.claims.get(canonical, ())
        if any(claim is None or claim[1].type is not FileType.DIRECTORY for claim in claims):
            return  # a planned package has taken it over, and what it is was held against that
        if entry is None:
            raise VerificationError(f"{owner} would be taken away")
        if entry.type is was.type is FileType.DIRECTORY and (claims or self._is_granted(canonical, entry)):
            return
        is_configuration = was.type is FileType.FILE and part.before.is_configuration(path, package)
        if is_configuration and entry.type is was.type and attributes_of(entry) == attributes_of(was):
            self.edited.add(canonical)
            return
        raise VerificationError(f"{owner} would be changed")

    # -- what a user should know -----------------------------------------------------------------------------

    def notes(self) -> Iterator[str]:
        """Say what scripts did that no package accounts for; where none was run, their verdicts say it."""
        if self.explanation.effects is not None:
            return
        left = [path for path in self.left if self.rows[path][0].type is not FileType.DIRECTORY]
        for what, paths in (
            ("scripts left what no package has", left),
            ("scripts took away what no package has", self.taken),
            ("scripts changed the configuration of other packages", self.edited),
            ("scripts gave their packages' files rights that they aren't packed with", self.comparison.granted),
        ):
            found = sorted(path for path in paths if not _CACHES.fullmatch(path))
            if found:
                more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
                yield f"{what}: {', '.join(found[:_SHOWN])}{more}"
