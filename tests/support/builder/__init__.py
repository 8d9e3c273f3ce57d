# SPDX-License-Identifier: Apache-2.0
"""What runs programs in images: BuildKit, Docker, podman and the worker, real ones and such that misbehave."""
