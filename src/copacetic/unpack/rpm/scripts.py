# SPDX-License-Identifier: Apache-2.0
"""The commands of rpm's scripts that have a rule of their own, or do more than to change files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from copacetic.errors import ImageError
from copacetic.glob import matches_glob
from copacetic.lines import split_lines
from copacetic.oci.filesystem import FileType
from copacetic.scripts import effects
from copacetic.scripts.accounts import read_rows
from copacetic.scripts.commands import Deriver
from copacetic.scripts.handlers import trust
from copacetic.scripts.judge import CommandJudge, Rule
from copacetic.scripts.judgement import HARMLESS, Judgement, NeedsExecution
from copacetic.scripts.runner import Dialect, ScriptRun
from copacetic.scripts.shell.expansion import Value
from copacetic.unpack.rpm.alternatives import is_chosen
from copacetic.unpack.rpm.luaforms import UNKNOWN_LUA

__all__ = ["OWN_WORDS", "PROGRAMS", "RPM"]

MAX_FILE = 1024 * 1024
_LEGACY = "etc/pki/ca-trust/ca-legacy.conf"
_SYSUSERS = ("usr/lib/sysusers.d", "etc/sysusers.d")
_USERS, _GROUPS = "etc/passwd", "etc/group"
_GCONV = ("usr/lib64/gconv", "usr/lib/gconv")
_LIBRARY = re.compile(
    r"lib(?:anl|BrokenLocale|c|dl|m|mvec|nss_compat|nss_db|nss_dns|nss_files|nss_hesiod|pthread|resolv|rt|SegFault"
    r"|thread_db|util)(?:-[2-9]\.[0-9]+\.so|\.so\.[0-9]+)|libthread_db-1\.0\.so.*|libSegFault\.so.*"
)
"""What glibc's scripts take for a library of an old glibc."""
OWN_WORDS = "copa-"
"""How the commands begin that stand for parts of scripts, and that no script may have itself."""
PROGRAMS: Mapping[str, str] = {
    # What the glibc of EL6 and EL7 does where later ones have Lua for it.
    "glibc_post_upgrade": (
        "copa-has-line /etc/ld.so.conf 'include ld.so.conf.d/*.conf' || copa-unknown-program\n"
        "/sbin/ldconfig\n"
        "if [ -e /usr/lib64/gconv/gconv-modules.cache ]; then\n"
        "/usr/sbin/iconvconfig -o /usr/lib64/gconv/gconv-modules.cache --nostdlib /usr/lib64/gconv\n"
        "fi\n"
    ),
}
"""Programs that stand in the place of a script, by their names without what comes behind a dot."""
_TRUST = ("etc/pki", "usr/share/pki", "usr/bin/ca-legacy", "usr/bin/update-ca-trust", "usr/bin/p11-kit")
_DERIVERS: Mapping[str, Deriver] = {
    "ca-legacy": Deriver(_TRUST),
    "update-ca-certificates": Deriver(("etc/pki", "usr/share/pki", "etc/ca-certificates", "usr/lib/ca-certificates")),
    "update-ca-trust": Deriver(_TRUST),
    "update-crypto-policies": Deriver(("etc/crypto-policies", "usr/share/crypto-policies")),
}
_SAME_NAME = re.compile(
    r"(gio-querymodules|gdk-pixbuf-query-loaders|gtk-query-immodules-3\.0|glib_post_upgrade)-(?:32|64)"
)


@dataclass(slots=True)
class RpmJudge(CommandJudge):
    """Judges what the tables don't know; what it is asked about couldn't be done in the tree."""

    def find_rule(self, name: str) -> Rule | None:
        """See `CommandJudge.find_rule`."""
        if name.startswith(OWN_WORDS):
            return self.do_unknown
        if name == "iconvconfig" or name.startswith("iconvconfig."):
            return self.do_iconv
        if name in _DERIVERS:
            return self.do_derived
        if _SAME_NAME.fullmatch(name):
            return self.do_same
        return CommandJudge.find_rule(self, name)

    def do_unknown(self, words: Sequence[Value], _repeated: bool, _certain: bool) -> Judgement:
        kind = "its Lua" if words[0] == UNKNOWN_LUA else "what it does"
        return NeedsExecution(f"{kind} is of no form that is known")

    def do_iconv(self, _words: Sequence[Value], _repeated: bool, _certain: bool) -> Judgement:
        """The cache stays as it is where the modules' list does."""
        changed = next((p for p in sorted(self.changes.news | self.changes.removed) if _is_gconv_list(p)), None)
        return HARMLESS if changed is None else NeedsExecution(f"iconvconfig has to be run, as {changed} changes")

    def do_derived(self, words: Sequence[Value], _repeated: bool, _certain: bool) -> Judgement:
        """What follows from files stays as it is where they do, whatever was done before."""
        name = (words[0] or "").rpartition("/")[2]
        return self._not_there(words[0] or name) or self._derive(name, _DERIVERS[name])

    def do_same(self, words: Sequence[Value], repeated: bool, certain: bool) -> Judgement:
        """A program with the number of bits in its name is the one without."""
        first = words[0] or ""
        return self._named(
            re.sub(r"-(?:32|64)$", "", first.rpartition("/")[2]), words, repeated=repeated, certain=certain
        )


def _is_gconv_list(path: str) -> bool:
    folder, _, name = path.rpartition("/")
    return folder.removesuffix("/gconv-modules.d") in _GCONV and (name == "gconv-modules" or name.endswith(".conf"))


def _read_lines(run: ScriptRun, words: list[str]) -> effects.Reading:
    """Tell whether a file has a line."""
    try:
        data = run.runner.tree.find(words[1].lstrip("/"), limit=MAX_FILE)
    except ImageError:
        return None
    return effects.Done(data is not None and words[2] in split_lines(data.decode("utf-8", "surrogateescape")))


def _read_appended(_run: ScriptRun, words: list[str]) -> effects.Reading:
    return effects.AppendLines(words[1].lstrip("/"), tuple(words[2:]))


def _read_libraries(run: ScriptRun, words: list[str]) -> effects.Reading:
    """Take old libraries out of some directories, as the scripts of glibc do."""
    tree = run.runner.tree
    folders: list[str] = []
    for word in words[1:]:
        above, _, name = word.lstrip("/").rpartition("/")
        folders += [f"{above}/{one}" for one in tree.iterdir(above) if matches_glob(one, name)]
    found = [
        f"{folder}/{name}"
        for folder in folders
        if tree.type_of(folder) is FileType.DIRECTORY
        for name in tree.iterdir(folder)
        if _LIBRARY.search(name)
    ]
    return effects.RemoveFiles(tuple(found), force=True) if found else effects.Done()


def _read_trust(run: ScriptRun, words: list[str]) -> effects.Reading:
    """`update-ca-trust`, and `ca-legacy install`, which chooses what comes to the list and may be empty."""
    tree = run.runner.tree
    if run.live.find_program(words[0]) is None:
        return effects.Done(succeeds=False)
    if words[0].rpartition("/")[2] == "update-ca-trust":
        known = trust.is_known_program(tree, trust.UPDATER) and trust.is_plain_trust(tree)
        return effects.UpdateTrust() if known and words[1:] in ([], ["extract"]) else None
    settings = tree.find(_LEGACY, limit=MAX_FILE) or b""
    disabled = re.search(rb"(?im)^legacy *= *disable *$", settings) is not None
    target = f"/usr/share/pki/ca-trust-legacy/ca-bundle.legacy.{'disable' if disabled else 'default'}.crt"
    known = trust.is_known_program(tree, trust.CHOOSER) and words[1:] == ["install"]
    return effects.MakeLink(trust.LEGACY, target, force=True, plain=True) if known else None


def _read_sysusers(run: ScriptRun, words: list[str]) -> effects.Reading:
    """`systemd-sysusers` has nothing to do where all users and groups that its files name are there."""
    tree = run.runner.tree
    if run.live.find_program(words[0]) is None:
        return effects.Done(succeeds=False)
    names = [f"{folder}/{name}" for folder in _SYSUSERS for name in tree.iterdir(folder) if name.endswith(".conf")]
    known = {kind: {row[0] for row in read_rows(tree, path)} for kind, path in (("u", _USERS), ("g", _GROUPS))}
    for path in names:
        data = tree.find(path, limit=MAX_FILE)
        for line in split_lines(data.decode("utf-8", "surrogateescape")) if data is not None else ["?"]:
            fields = line.split()
            if not fields or fields[0].startswith("#") or fields[0] == "r":
                continue
            if len(fields) < 2 or fields[1] not in known.get(fields[0].rstrip("!"), ()):
                return None
    return effects.Done()


def _read_alternative(run: ScriptRun, words: list[str]) -> effects.Reading:
    """`update-alternatives --install` of what is among a name's choices already."""
    return effects.Done() if is_chosen(run.runner.tree, words[1:]) else None


RPM = Dialect(
    judge=RpmJudge,
    readers={
        "alternatives": _read_alternative,
        "ca-legacy": _read_trust,
        "copa-append-lines": _read_appended,
        "copa-has-line": _read_lines,
        "copa-remove-libraries": _read_libraries,
        "systemd-sysusers": _read_sysusers,
        "update-alternatives": _read_alternative,
        "update-ca-trust": _read_trust,
    },
    mark=lambda text: text,
)
