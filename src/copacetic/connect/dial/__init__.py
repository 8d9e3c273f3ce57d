# SPDX-License-Identifier: Apache-2.0
"""Ways to a daemon: each kind of address becomes a byte stream, and is closed with all that was started for it."""
