# SPDX-License-Identifier: Apache-2.0
"""apk repositories: `etc/apk/repositories` in, verified packages out."""
