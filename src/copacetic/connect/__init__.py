# SPDX-License-Identifier: Apache-2.0
"""
Byte streams to daemons: sockets, TLS, Docker's endpoints and contexts, buildx, containers, ssh, kubectl.

What is spoken over a stream is somebody else's: `buildkit` speaks gRPC.
"""
