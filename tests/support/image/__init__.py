# SPDX-License-Identifier: Apache-2.0
"""Images, layers and trees in memory and on the disk."""
