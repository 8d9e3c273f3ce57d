# SPDX-License-Identifier: Apache-2.0
"""BuildKit: where a builder is, how to reach it, and how to have graphs solved there."""
