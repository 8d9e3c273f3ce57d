# SPDX-License-Identifier: Apache-2.0
"""
What maintainer scripts derive from files, done without running them: one module for each kind of state.
"""
