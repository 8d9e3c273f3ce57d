# SPDX-License-Identifier: Apache-2.0
"""Ways to a builder: each kind of address becomes a byte stream on which BuildKit speaks HTTP/2."""
