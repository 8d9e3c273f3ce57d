# SPDX-License-Identifier: Apache-2.0
"""OCI image values. What reads or writes something is imported by the full name of its module."""

from copacetic.oci.descriptor import Descriptor, Digest, Platform
from copacetic.oci.manifest import ImageConfig, Index, Manifest
from copacetic.oci.reference import Reference

__all__ = ["Descriptor", "Digest", "ImageConfig", "Index", "Manifest", "Platform", "Reference"]
