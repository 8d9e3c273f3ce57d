# SPDX-License-Identifier: Apache-2.0
"""
XML from anywhere, as a stream: no document types, no entities of its own, bounded in depth and text.

Names come without their prefixes, which repositories choose as they like.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NoReturn, Protocol
from xml.parsers import expat

__all__ = ["XmlError", "XmlReader", "read_xml"]

MAX_DEPTH = 32
MAX_TEXT = 1024 * 1024
"""Of one element."""
PIECE = 1 << 18


class XmlError(ValueError):
    """What is no XML, or more than is taken."""


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class XmlReader:
    """Calls `start` with path and attributes, and `end` with path and text; a path is names joined by slashes."""

    def __init__(
        self,
        start: Callable[[str, Mapping[str, str]], None] = lambda _path, _attributes: None,
        end: Callable[[str, str], None] = lambda _path, _text: None,
    ) -> None:
        self._start = start
        self._end = end
        self._paths = [""]
        self._text: list[str] = []
        self._size = 0
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._on_start
        parser.EndElementHandler = self._on_end
        parser.CharacterDataHandler = self._on_text
        parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = _refuse
        parser.ExternalEntityRefHandler = _refuse
        self._parser = parser

    def feed(self, data: bytes, *, last: bool = False) -> None:
        """Raises `XmlError`."""
        try:
            self._parser.Parse(data, last)
        except expat.ExpatError as error:
            raise XmlError(f"no XML: {error}") from error
        except LookupError as error:  # of an encoding
            raise XmlError(str(error)) from None

    def _on_start(self, name: str, attributes: Mapping[str, str]) -> None:
        if len(self._paths) > MAX_DEPTH:
            raise XmlError(f"elements more than {MAX_DEPTH} deep")
        path = f"{self._paths[-1]}/{name.rpartition(':')[2]}"
        self._paths.append(path)
        self._text.clear()
        self._size = 0
        self._start(path, attributes)

    def _on_end(self, _name: str) -> None:
        self._end(self._paths.pop(), "".join(self._text))
        self._text.clear()
        self._size = 0

    def _on_text(self, text: str) -> None:
        self._size += len(text)
        if self._size > MAX_TEXT:
            raise XmlError(f"a text of more than {MAX_TEXT} characters")
        self._text.append(text)


def _refuse(*_arguments: object) -> NoReturn:
    raise XmlError("it has a document type, which no repository needs")


def read_xml(
    stream: _Readable,
    start: Callable[[str, Mapping[str, str]], None] = lambda _path, _attributes: None,
    end: Callable[[str, str], None] = lambda _path, _text: None,
) -> None:
    """Read a whole stream. Raises `XmlError`, and what the stream and the callbacks raise."""
    reader = XmlReader(start, end)
    while part := stream.read(PIECE):
        reader.feed(part)
    reader.feed(b"", last=True)
