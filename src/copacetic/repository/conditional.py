# SPDX-License-Identifier: Apache-2.0
"""Small files that repositories change in place: what is known already isn't sent again."""

from __future__ import annotations

import hashlib

import msgspec

from copacetic.cache import Bucket
from copacetic.errors import RepositoryError
from copacetic.http import HttpClient

__all__ = ["fetch_conditionally"]

_ABSENT = frozenset({403, 404, 410})


class _Kept(msgspec.Struct, array_like=True):
    etag: str
    last_modified: str
    body: bytes


def fetch_conditionally(url: str, http: HttpClient, bucket: Bucket, *, limit: int) -> bytes | None:
    """
    Return a file as it came, or None when there is none (403, 404, 410); proxies are asked to look again.

    Nothing is verified here: what is kept is only a copy of the answer. Raises `RepositoryError` for another status
    and for more than `limit` bytes.
    """
    key = hashlib.sha256(url.encode()).hexdigest()
    kept = _kept(bucket, key)
    headers = {"Cache-Control": "max-age=0"}
    if kept is not None:
        headers |= {"If-None-Match": kept.etag} if kept.etag else {}
        headers |= {"If-Modified-Since": kept.last_modified} if kept.last_modified else {}
    with http.open("GET", url, headers=headers) as response:
        if response.status == 304 and kept is not None:
            return kept.body
        if response.status in _ABSENT:
            return None
        if response.status != 200:
            raise RepositoryError(f"{response.url} answers {response.status}")
        body = response.read_all(limit)
        etag, last_modified = response.headers.get("ETag", ""), response.headers.get("Last-Modified", "")
    if etag or last_modified:
        bucket.write(key, msgspec.msgpack.encode(_Kept(etag, last_modified, body)))
    return body


def _kept(bucket: Bucket, key: str) -> _Kept | None:
    data = bucket.read(key)
    try:
        return msgspec.msgpack.decode(data, type=_Kept) if data else None
    except msgspec.DecodeError:
        return None
