# SPDX-License-Identifier: Apache-2.0
"""Registries, repositories and token servers on loopback."""
