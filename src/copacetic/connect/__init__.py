# SPDX-License-Identifier: Apache-2.0
"""
Byte streams to daemons: sockets, TLS, Docker's endpoints and contexts, buildx, containers, ssh, kubectl.

`address` has the grammar, `route` leads to a way, `dial` has the ways. What is spoken over a stream is somebody else's,
as gRPC is `buildkit`'s; only the engine's own API is here (`engine`), since containers and builders are found through
it, too. Nothing here knows images or graphs.
"""
