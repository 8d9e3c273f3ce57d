# SPDX-License-Identifier: Apache-2.0
"""
State that is derived from files, done without running anything: one module for each kind.

A handler changes the tree that it is given; whether it has to was decided before.
"""
