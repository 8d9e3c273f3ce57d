# SPDX-License-Identifier: Apache-2.0
"""The engine that carries effects out in a tree, for every package format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import assert_never

from copacetic.lines import split_lines
from copacetic.oci.filesystem import Entry, FileType
from copacetic.oci.tree import TreeBuilder
from copacetic.scripts import effects
from copacetic.scripts.accounts import Accounts, login_group

__all__ = ["ScriptEngine"]

_SET_GID = 0o2000
MAX_MOVED = 256 * 1024 * 1024


@dataclass(slots=True)
class ScriptEngine:
    """Carries effects out in one tree. In a rehearsal what is derived from other files' content is left out."""

    tree: TreeBuilder
    epoch: int
    rehearsal: bool = False
    adduser: str = ""
    """The version of Debian's adduser that makes accounts; empty without one."""
    busybox: str = ""
    """The version of busybox that makes them otherwise."""
    libc: tuple[str, str] | None = None
    """The old and the new version of the package that ldconfig belongs to, when it changes."""
    configuring: str = ""
    """The new `config` script of Debian's ca-certificates."""

    def perform(self, effect: effects.Effect) -> effects.Done | None:
        """Do what a command does; None where that isn't possible without the command, and nothing is done."""
        match effect:
            case effects.KeepAttributes(paths):
                return self._keep_attributes(paths)
            case effects.MakeAccount():
                return self._make_account(effect)
            case effects.LinkApplets() | effects.PruneApplets():
                return self._settle_applets(effect)
            case (
                effects.SetAlternative()
                | effects.DropBytecode()
                | effects.ChooseCertificates()
                | effects.UpdateCertificates()
                | effects.UpdateTrust()
                | effects.UpdateLibraryCache()
            ):
                return self._derive(effect)
            case _:
                return self._change_files(effect)

    # -- files -----------------------------------------------------------------------------------------------

    def _change_files(self, effect: effects.FileEffect) -> effects.Done | None:
        match effect:
            case effects.RemoveFiles():
                return self._remove(effect)
            case effects.RemoveFolders(paths, parents):
                results = [self._remove_folder(path, parents=parents) for path in paths]
                return effects.Done(all(results), any(results))
            case effects.MakeFolders():
                return self._make_folders(effect)
            case effects.MakeLink():
                return self._make_link(effect)
            case effects.Move():
                return self._move(effect)
            case effects.CopyFiles():
                return self._copy(effect)
            case effects.Touch(paths):
                return self._touch(paths)
            case effects.AppendLines():
                return self._append(effect)
            case effects.ChangeOwner():
                return self._change_owner(effect)
            case effects.ChangeMode(paths, mode):
                return self._alter(paths, lambda entry: replace(entry, mode=mode), follow=True)
        assert_never(effect)

    def _remove(self, effect: effects.RemoveFiles) -> effects.Done:
        succeeds, changed = True, False
        for path in effect.paths:
            entry = self.tree.lookup(path, follow=False)
            if entry is None:
                succeeds = succeeds and effect.force
            elif entry.type is FileType.DIRECTORY and not (effect.recursive and self.tree.resolve(path, follow=False)):
                succeeds = False
            else:
                self.tree.remove_all(path)
                changed = True
        return effects.Done(succeeds, changed)

    def _remove_folder(self, path: str, *, parents: bool) -> bool:
        removed = self.tree.type_of(path, follow=False) is FileType.DIRECTORY and self.tree.remove(path)
        above = self.tree.resolve(path, follow=False).rpartition("/")[0]
        return removed and (not (parents and above) or self._remove_folder(above, parents=True))

    def _make_folders(self, effect: effects.MakeFolders) -> effects.Done:
        succeeds, changed = True, False
        for path in effect.paths:
            entry = self.tree.lookup(path)
            if entry is not None:
                succeeds = succeeds and effect.parents and entry.type is FileType.DIRECTORY
            elif self.tree.lookup(path, follow=False) is not None or not self._has_room(path, deep=effect.parents):
                succeeds = False
            else:
                self._make(path, Entry(type=FileType.DIRECTORY, mode=effect.mode, mtime=self.epoch))
                changed = True
        return effects.Done(succeeds, changed)

    def _make(self, path: str, entry: Entry, content: bytes | None = None) -> None:
        """Put something new of root's, after the directories above; in a set-gid one it gets that group."""
        canonical = self.tree.resolve(path, follow=entry.type is not FileType.SYMLINK)
        above = canonical.rpartition("/")[0]
        parent = self.tree.lookup(above)
        if parent is None and above:
            self._make(above, Entry(type=FileType.DIRECTORY, mode=0o755, mtime=entry.mtime))
            parent = self.tree.lookup(above)
        if parent is not None and parent.mode & _SET_GID:
            bits = _SET_GID if entry.type is FileType.DIRECTORY else 0
            entry = replace(entry, gid=parent.gid, mode=entry.mode | bits)
        self.tree.put(canonical, entry, content)

    def _has_room(self, path: str, *, deep: bool) -> bool:
        """Tell whether a directory can be made: what is above is one, or (`deep`) can be made as well."""
        above = path.rpartition("/")[0]
        kind = self.tree.type_of(above)
        if kind is not None:
            return kind is FileType.DIRECTORY
        return deep and self.tree.lookup(above, follow=False) is None and self._has_room(above, deep=True)

    def _is_directory(self, path: str) -> bool:
        return self.tree.type_of(path) is FileType.DIRECTORY

    def _make_link(self, effect: effects.MakeLink) -> effects.Done:
        path, target = effect.path, effect.target
        if self._is_directory(path) and not (effect.plain and self.tree.target_of(path) is not None):
            path = f"{path}/{target.rstrip('/').rpartition('/')[2]}".lstrip("/")
        present = self.tree.type_of(path, follow=False)
        if present is not None and (not effect.force or present is FileType.DIRECTORY):
            return effects.Done(succeeds=False)
        if not self._is_directory(path.rpartition("/")[0]):
            return effects.Done(succeeds=False)
        same = self.tree.target_of(path) == target
        if not same:
            self._make(path, Entry(type=FileType.SYMLINK, mode=0o777, target=target, mtime=self.epoch))
        return effects.Done(changed=not same)

    def _move(self, effect: effects.Move) -> effects.Done | None:
        source, target = effect.source, effect.target
        entry = self.tree.lookup(source, follow=False)
        if entry is None:
            return effects.Done(succeeds=False)
        if entry.type not in (FileType.FILE, FileType.SYMLINK) or entry.link_group:
            return None
        if self._is_directory(target):
            target = f"{target}/{source.rpartition('/')[2]}"
        if not self._is_directory(target.rpartition("/")[0]):
            return effects.Done(succeeds=False)
        content = self._content(source, entry)
        if content is None and entry.type is FileType.FILE:
            return None
        source, target = (self.tree.resolve(path, follow=False) for path in (source, target))
        if source == target:
            return effects.Done(None)  # busybox calls that success, coreutils doesn't
        self.tree.remove(source)
        self.tree.put(target, replace(entry, implicit=False), content)
        return effects.Done(changed=True)

    def _content(self, path: str, entry: Entry) -> bytes | None:
        """Return a file's bytes; None for anything else, and for one whose bytes aren't at hand, or are too many."""
        is_known = entry.type is FileType.FILE and entry.size <= MAX_MOVED
        return self.tree.find(path, limit=MAX_MOVED) if is_known else None

    def _copy(self, effect: effects.CopyFiles) -> effects.Done | None:
        there = [path for path in effect.sources if self.tree.lookup(path, follow=False) is not None]
        folder = self.tree.resolve(effect.target)
        same = all(self.tree.resolve(path.rpartition("/")[0]) == folder for path in there)
        return effects.Done(succeeds=False) if same else None

    def _touch(self, paths: tuple[str, ...]) -> effects.Done:
        succeeds, changed = True, False
        for path in paths:
            if self.tree.lookup(path) is not None:
                continue
            if not self._is_directory(self.tree.resolve(path).rpartition("/")[0]):
                succeeds = False
                continue
            self._make(path, Entry(type=FileType.FILE, mode=0o644, mtime=self.epoch), b"")
            changed = True
        return effects.Done(succeeds, changed)

    def _append(self, effect: effects.AppendLines) -> effects.Done | None:
        entry = self.tree.lookup(effect.path)
        content = self._content(effect.path, entry) if entry is not None else None
        if content is None:
            return None
        text = content.decode("utf-8", "surrogateescape")
        missing = [line for line in effect.lines if line not in split_lines(text)]
        if missing:
            added = "".join(f"{line}\n" for line in missing)
            self.tree.write(effect.path, f"{text}{added}".encode("utf-8", "surrogateescape"), mtime=self.epoch)
        return effects.Done(changed=bool(missing))

    # -- attributes ------------------------------------------------------------------------------------------

    def _change_owner(self, effect: effects.ChangeOwner) -> effects.Done | None:
        """Names that the image doesn't have make the command fail before it does anything."""
        user, group = effect.user, effect.group
        has_group = bool(group) or effect.login
        uid, gid = Accounts(self.tree).owner(user, -1, group, login_group(self.tree, user) if effect.login else -1)
        if (user and uid < 0) or (has_group and gid < 0):
            return effects.Done(succeeds=False)

        def change(entry: Entry) -> Entry:
            owned = replace(entry, uid=uid if user else entry.uid, gid=gid if has_group else entry.gid)
            return owned if entry.type is not FileType.FILE else _without_privileges(owned)

        return self._alter(effect.paths, change, follow=effect.follow)

    def _alter(self, paths: tuple[str, ...], change: Callable[[Entry], Entry], *, follow: bool) -> effects.Done | None:
        """Give other attributes to files; one whose bytes aren't at hand can't be changed."""
        succeeds, changed = True, False
        for path in paths:
            entry = self.tree.lookup(path, follow=follow)
            new = None if entry is None else change(entry)
            if new is None:
                succeeds = False
            elif new != entry:
                if not self._rewrite(self.tree.resolve(path, follow=follow), new):
                    return None
                changed = True
        return effects.Done(succeeds, changed)

    def _rewrite(self, path: str, entry: Entry) -> bool:
        if self.tree.holds(path):
            self.tree.change(path, entry)
            return True
        content = self._content(path, entry) if not entry.link_group else None
        if entry.link_group or (content is None and entry.type is FileType.FILE):
            return False
        self.tree.put(path, replace(entry, implicit=False), content)
        return True

    def _keep_attributes(self, paths: tuple[str, ...]) -> effects.Done:
        for path in paths:
            below, new = self.tree.below(path), self.tree.lookup(path, follow=False)
            if below is not None and new is not None and below.type is new.type is FileType.FILE:
                kept = replace(new, mode=below.mode, uid=below.uid, gid=below.gid, xattrs=dict(below.xattrs))
                self.tree.change(path, kept)
        return effects.Done(changed=True)

    # -- what follows from other files -----------------------------------------------------------------------

    def _make_account(self, effect: effects.MakeAccount) -> effects.Done | None:
        from copacetic.scripts.handlers.adduser import add_as_busybox, add_as_debian

        if self.adduser:
            return add_as_debian(self.tree, effect.words, adduser=self.adduser, mtime=self.epoch)
        return add_as_busybox(self.tree, effect.words, busybox=self.busybox, mtime=self.epoch) if self.busybox else None

    def _settle_applets(self, effect: effects.AppletEffect) -> effects.Done | None:
        from copacetic.scripts.handlers.busybox import BINARY, applet_paths, install_links, prune_links

        binary = effect.binary if isinstance(effect, effects.LinkApplets) else BINARY
        paths = applet_paths(self.tree, binary)
        if paths is None:
            return None
        if isinstance(effect, effects.LinkApplets):
            return effects.Done(changed=install_links(self.tree, paths, binary, mtime=self.epoch))
        return effects.Done(None, prune_links(self.tree, paths))

    def _derive(self, effect: effects.DerivedEffect) -> effects.Done | None:
        from copacetic.scripts.handlers import alternatives, bytecode, certificates, ldconfig, trust

        match effect:
            case _ if self.rehearsal:
                pass
            case effects.SetAlternative(words):
                edits = alternatives.plan_alternative(self.tree, words[1:])
                if edits is None:
                    return None
                for edit in edits:
                    edit.apply(self.tree, mtime=self.epoch)
            case effects.DropBytecode():
                bytecode.remove_bytecode(self.tree)
                bytecode.renew_sources(self.tree)
            case effects.ChooseCertificates():
                certificates.update_configuration(self.tree, self.configuring, mtime=self.epoch)
            case effects.UpdateCertificates(bundling):
                certificates.update_certificates(self.tree, bundling, mtime=self.epoch)
            case effects.UpdateTrust():
                if not trust.update_trust(self.tree, mtime=self.epoch):
                    return None
            case effects.UpdateLibraryCache(links):
                ldconfig.update_library_cache(self.tree, mtime=self.epoch, libc=self.libc, links=links)
            case _:
                assert_never(effect)
        return effects.Done(None if isinstance(effect, effects.UpdateCertificates) else True, changed=True)


def _without_privileges(entry: Entry) -> Entry:
    """Take away what chown(2) takes from a file, even where the owner stays."""
    mode = entry.mode & (~0o6000 if entry.mode & 0o010 else ~0o4000)
    return replace(entry, mode=mode, xattrs={k: v for k, v in entry.xattrs.items() if k != "security.capability"})
