# SPDX-License-Identifier: Apache-2.0
"""
The only HTTP transport: pooled connections, TLS, proxies, retries, size limits.

Retries: connection failures, 429 and 5xx, with exponential backoff and jitter, honouring Retry-After up to a
bound. Addresses in messages carry no credentials and no query strings. Redirects never take credentials to
another host.

What an answer means is for the caller to say: registries, repositories and engines are unknown here. Importing this
loads no HTTP library; the first request does.
"""

from __future__ import annotations

from copacetic.http.client import HttpClient, RefusedError
from copacetic.http.response import Response
from copacetic.http.resume import ResumedBody
from copacetic.http.settings import HttpSettings, TlsSettings

__all__ = ["HttpClient", "HttpSettings", "RefusedError", "Response", "ResumedBody", "TlsSettings"]
