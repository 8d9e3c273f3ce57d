# SPDX-License-Identifier: Apache-2.0
"""
Images, by OCI's specifications: values here; what reads or writes something is imported by its module's full name.

* Values: `descriptor`, `reference`, `manifest`, `filesystem`, `change`.
* Places: `location` and `transports`; a source and a destination for registries, layouts, archives and engines, with
  logins (`credentials`, `auth`) and configuration (`registryconfig`).
* Layers: streamed (`tarstream`, `layerstream`), indexed and kept (`layerindex`, `layerstore`), seen as one tree
  (`layered`), changed (`tree`), written (`layerwriter`).

Nothing here knows a family of packages or a plan, or what a file in an image is for.
"""

from copacetic.oci.descriptor import Descriptor, Digest, Platform
from copacetic.oci.manifest import ImageConfig, Index, Manifest
from copacetic.oci.reference import Reference

__all__ = ["Descriptor", "Digest", "ImageConfig", "Index", "Manifest", "Platform", "Reference"]
