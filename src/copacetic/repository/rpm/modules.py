# SPDX-License-Identifier: Apache-2.0
"""
Modules: streams of packages of which one is in use, or none. What belongs to another stream is invisible.

The file is YAML of one shape, written by one library, and large: it is read by its lines, and what doesn't have that
shape is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from copacetic.errors import RepositoryError
from copacetic.oci.filesystem import ImageFilesystem
from copacetic.repository.rpm.inifile import FILE_LIMIT, parse_ini

__all__ = ["OF_MODULES", "Modularity", "ModuleDocument", "parse_modules", "read_states"]

OF_MODULES = "module streams:"
"""How reasons begin that have to do with them."""
_MAX_DOCUMENTS = 50_000
_FOLDER = "etc/dnf/modules.d"
_WORD = re.compile(r"[A-Za-z0-9_.+-]{1,128}")
_SPLIT = re.compile(r"^---[ \t]*$|^\.\.\.[ \t]*$", re.MULTILINE)
_FLOW = re.compile(r"\[\s*(.*?)\s*\]")
_KEY = re.compile(r"(\"[^\"]*\"|'[^']*'|[^\s:'\"{}\[\]][^:{}\[\]]*?)\s*:(?=\s|$)(.*)")
_ARTIFACT = re.compile(
    r"([A-Za-z0-9_][A-Za-z0-9_.+~%{}-]*)-([0-9]{1,9}):([A-Za-z0-9_.+~^%{}]+)-([A-Za-z0-9_.+~^%{}]+)\.(\w+)"
)


class ModuleDocument(msgspec.Struct, frozen=True, array_like=True):
    """One stream in one build of it, or (without artifacts) what is the default of a module."""

    name: str
    stream: str
    artifacts: tuple[str, ...] = ()
    """name-epoch:version-release.architecture."""
    requires: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Modules with the streams that will do; none of them for any."""
    is_default: bool = False


def parse_modules(text: str, where: str) -> tuple[ModuleDocument, ...]:
    """Raises `RepositoryError`, naming what has another shape."""
    found = []
    for number, part in enumerate(_SPLIT.split(text)):
        if number > _MAX_DOCUMENTS:
            raise RepositoryError(f"{where}: more than {_MAX_DOCUMENTS} documents about modules")
        document = _document(part, where)
        if document is not None:
            found.append(document)
    return tuple(found)


def _document(text: str, where: str) -> ModuleDocument | None:
    if not text.strip():
        return None
    values: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    for path, value in _walk(text):
        if path in {"document", "data.name", "data.stream", "data.module"}:
            values[path] = value
        elif path == "data.artifacts.rpms" or path.startswith("data.dependencies.requires"):
            lists.setdefault(path, []).extend([value] if value else [])
    kind = values.get("document", "")
    if kind == "modulemd-defaults":
        name, stream = values.get("data.module", ""), values.get("data.stream", "")
        return ModuleDocument(name, stream, is_default=True) if _are_words(name, stream) else None
    if kind != "modulemd":
        return None
    name, stream = values.get("data.name", ""), values.get("data.stream", "")
    if not _are_words(name, stream):
        raise RepositoryError(f"{where}: a module that has the name {name[:80]!r} and the stream {stream[:80]!r}")
    artifacts = lists.get("data.artifacts.rpms", [])
    odd = next((one for one in artifacts if not _ARTIFACT.fullmatch(one)), None)
    if odd is not None:
        raise RepositoryError(f"{where}: the module {name}:{stream} has the package {odd[:120]!r}")
    prefix = "data.dependencies.requires."
    requires = tuple((path[len(prefix) :], tuple(rows)) for path, rows in lists.items() if path.startswith(prefix))
    return ModuleDocument(name, stream, tuple(artifacts), requires)


def _are_words(*words: str) -> bool:
    return all(_WORD.fullmatch(word) for word in words)


def _walk(text: str) -> Iterator[tuple[str, str]]:
    """Yield paths of keys joined by dots with scalar values; each item of a list comes by itself."""
    stack: list[tuple[int, str]] = []
    skip = -1
    """Deeper lines than this belong to a text of several lines."""
    for raw in text.split("\n"):
        line = raw.rstrip()
        bare = line.lstrip(" ")
        if not bare or bare.startswith("#"):
            continue
        indent = len(line) - len(bare)
        if skip >= 0 and indent > skip:
            continue
        skip = -1
        item = bare.startswith("- ") or bare == "-"
        body = bare[2:].lstrip() if item else bare
        # An item may stand as deep as the key of its list.
        while stack and (stack[-1][0] > indent or (stack[-1][0] == indent and not item)):
            stack.pop()
        key, colon, value = _key(body)
        if not colon:
            yield ".".join(name for _, name in stack), _scalar(body)
            continue
        value = value.strip()
        depth = indent + (len(bare) - len(body)) if item else indent
        path = ".".join((*(name for _, name in stack), key))
        if value[:1] in {"|", ">"}:
            skip = depth
            continue
        flow = _FLOW.fullmatch(value)
        if flow is not None:
            for part in flow[1].split(",") if flow[1] else [""]:
                yield path, _scalar(part.strip())
        else:
            yield path, _scalar(value)
            if not value:
                stack.append((depth, key))


def _key(body: str) -> tuple[str, str, str]:
    """Split at the colon that ends a key; a package's epoch has one, too."""
    match = _KEY.match(body)
    return (_scalar(match[1]), ":", match[2]) if match is not None else ("", "", "")


def _scalar(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    return text.partition(" #")[0].rstrip()


def read_states(fs: ImageFilesystem) -> dict[str, str]:
    """Return the streams that an image has enabled, by module; "" for a module that is disabled."""
    found: dict[str, str] = {}
    for name in fs.iterdir(_FOLDER):
        if not name.endswith(".module"):
            continue
        path = f"{_FOLDER}/{name}"
        try:
            text = fs.read(path, limit=FILE_LIMIT).decode("utf-8", "replace")
        except FileNotFoundError:
            continue
        for section, values in parse_ini(text, path).items():
            state, stream = values.get("state", ""), values.get("stream", "")
            module = values.get("name", "") or section
            if state in {"enabled", "1"} and _are_words(module, stream):
                found[module] = stream
            elif state == "disabled":
                found[module] = ""
    return found


class Modularity:
    """Which packages of all repositories may be seen."""

    def __init__(
        self,
        documents: Iterable[ModuleDocument],
        states: Mapping[str, str],
        labels: Mapping[str, str],
        platform: str,
    ) -> None:
        """
        `labels` are `name:stream` of installed packages by their names, "" for those of no module. An installed stream
        is in use whatever the defaults are.
        """
        known = list(documents)
        self._labels = labels
        active = {document.name: document.stream for document in known if document.is_default}
        for label in filter(None, labels.values()):
            module, _, stream = label.partition(":")
            active[module] = stream.partition(":")[0]
        active.update(states)
        self._active = active
        self._stream_of: dict[str, str] = {}
        """`name:stream` of the packages in streams, by NEVRA; those in use go first."""
        self._visible: set[str] = set()
        self._names: dict[str, str] = {}
        """Of packages in active streams, with what the stream is."""
        for document in known:
            usable = active.get(document.name) == document.stream and self._fits(document, platform)
            label = f"{document.name}:{document.stream}"
            for artifact in document.artifacts:
                if usable:
                    self._visible.add(artifact)
                    self._stream_of[artifact] = label
                    match = _ARTIFACT.fullmatch(artifact)
                    if match is not None and match[5] != "src":
                        self._names.setdefault(match[1], label)
                else:
                    self._stream_of.setdefault(artifact, label)

    def _fits(self, document: ModuleDocument, platform: str) -> bool:
        """Tell whether what a build of a stream needs is in use."""
        for module, streams in document.requires:
            if not streams or "-" in "".join(stream[:1] for stream in streams):
                continue
            if module == "platform":
                if platform and platform.partition(":")[2] not in streams:
                    return False
            elif self._active.get(module, streams[0]) not in streams:
                return False
        return True

    def stream_of(self, nevra: str) -> str:
        """Return `name:stream` of a package that belongs to one; with its epoch, even if that is 0."""
        return self._stream_of.get(nevra, "")

    def hides(self, name: str, nevra: str, *, hotfix: bool) -> str:
        """Say why a package can't be seen; empty for one that can. `hotfix` is what its repository says of itself."""
        label, installed = self._stream_of.get(nevra, ""), self._labels.get(name)
        if label:
            module = label.partition(":")[0]
            if nevra not in self._visible:
                used = self._active.get(module, "")
                return f"{OF_MODULES} it is of {label}, and {f'{module}:{used} is in use' if used else 'none is'}"
            if installed == "":
                return f"{OF_MODULES} it is of {label}, and what is installed is of none"
        elif name in self._names and not hotfix and installed != "":
            return f"{OF_MODULES} {self._names[name]} is in use, which has packages of that name"
        return ""
