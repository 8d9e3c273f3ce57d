# SPDX-License-Identifier: Apache-2.0
"""`python -m demo`: copa at work on a real image; see `make demo`."""
