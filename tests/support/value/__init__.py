# SPDX-License-Identifier: Apache-2.0
"""Values of the product in one line, and its documents."""
