# SPDX-License-Identifier: Apache-2.0
"""
Small files that repositories change in place: what is known already isn't sent again.

Every answer also stays under its own digest, so that a plan which names it can be held against it later, when the
repository has moved on or can't be reached.
"""

from __future__ import annotations

import hashlib

import msgspec
from msgspec import Struct

from copacetic.cache import Bucket
from copacetic.errors import RepositoryError
from copacetic.http import HttpClient

__all__ = ["FetchedFile", "fetch_conditionally", "recall_answer"]

_ABSENT = frozenset({403, 404, 410})


class _Kept(msgspec.Struct, array_like=True):
    etag: str
    last_modified: str
    sha256: str


class FetchedFile(Struct, frozen=True):
    """A file as it came."""

    body: bytes
    sha256: str


def fetch_conditionally(url: str, http: HttpClient, bucket: Bucket, *, limit: int) -> FetchedFile | None:
    """
    Return a file as it came, or None when there is none (403, 404, 410); proxies are asked to look again.

    Nothing is verified here: what is kept is only a copy of the answer. Raises `RepositoryError` for another status
    and for more than `limit` bytes.
    """
    key = hashlib.sha256(url.encode()).hexdigest()
    kept = _kept(bucket, key)
    known = recall_answer(bucket, kept.sha256) if kept is not None else None
    headers = {"Cache-Control": "max-age=0"}
    if kept is not None and known is not None:
        headers |= {"If-None-Match": kept.etag} if kept.etag else {}
        headers |= {"If-Modified-Since": kept.last_modified} if kept.last_modified else {}
    with http.open("GET", url, headers=headers) as response:
        if response.status == 304 and known is not None:
            return known
        if response.status in _ABSENT:
            return None
        if response.status != 200:
            raise RepositoryError(f"{response.url} answers {response.status}")
        body = response.read_all(limit)
        etag, last_modified = response.headers.get("ETag", ""), response.headers.get("Last-Modified", "")
    answer = FetchedFile(body, hashlib.sha256(body).hexdigest())
    if bucket.path(_content_key(answer.sha256)) is None:
        bucket.write(_content_key(answer.sha256), body)
    if etag or last_modified:
        bucket.write(key, msgspec.msgpack.encode(_Kept(etag, last_modified, answer.sha256)))
    return answer


def recall_answer(bucket: Bucket, sha256: str) -> FetchedFile | None:
    """Return the answer that has a digest, if it is still there."""
    try:
        body = bucket.read(_content_key(sha256))
    except ValueError:
        return None
    return FetchedFile(body, sha256) if body is not None else None


def _content_key(sha256: str) -> str:
    return f"{sha256}.content"


def _kept(bucket: Bucket, key: str) -> _Kept | None:
    data = bucket.read(key)
    try:
        return msgspec.msgpack.decode(data, type=_Kept) if data else None
    except msgspec.DecodeError:
        return None
