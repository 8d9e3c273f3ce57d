# SPDX-License-Identifier: Apache-2.0
"""
From a source to the platforms of an image, and into one's files: distribution and package database; no plan yet.

Nothing is changed, and nothing of the image is run.
"""
