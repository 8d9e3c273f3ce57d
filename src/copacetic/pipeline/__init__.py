# SPDX-License-Identifier: Apache-2.0
"""
The road that every request takes: open → plan → apply → prove → publish.

Each folder is a station, and imports from earlier ones only. What all of them share lies beside them: `run` (over the
platforms of an image), `platform` (one of them from end to end) and `outcome`. No station turns names into sources or
clients, reads the environment or prints.
"""
