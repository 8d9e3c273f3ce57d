# SPDX-License-Identifier: Apache-2.0
"""
The shell language: a grammar, and an interpreter of what a script may reach.

Nothing is executed. What a script finds around it is asked of `Surroundings`, and not known is always an answer.
"""
