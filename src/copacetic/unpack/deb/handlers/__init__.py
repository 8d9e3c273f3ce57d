# SPDX-License-Identifier: Apache-2.0
"""
What Debian's maintainer scripts derive from files, done without running them: one module for each kind of state.
"""
