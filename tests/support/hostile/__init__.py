# SPDX-License-Identifier: Apache-2.0
"""What is wrong or costly on purpose, and the bounds that it is held to."""
