# SPDX-License-Identifier: Apache-2.0
"""Maintainer scripts at random, and a box to run them in."""
