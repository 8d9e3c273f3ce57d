# SPDX-License-Identifier: Apache-2.0
"""`make demo`: a real Debian image, or the user's, is planned and patched into an OCI layout; nothing is pushed."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from demo.roots import CACHE, NotPossibleError, build_root, compress

OUT = CACHE.parent / "demo"


def debian_image() -> str:
    """Build a Debian 12 image from the main suite only, with the security suite in its sources."""
    say("building a Debian 12 image from the distribution's own packages (about 20 seconds, once a week) …")
    tar = build_root("bookworm", name="bookworm-demo", age=False)
    return write_layout(tar, compress(tar), OUT / "debian")


def write_layout(tar: Path, blob: Path, layout: Path) -> str:
    """Write an image of one layer as an OCI layout."""
    with tar.open("rb") as file:
        diff_id = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    created = "2024-01-01T00:00:00Z"
    config = {
        "created": created,
        "architecture": subprocess.run(
            ["dpkg", "--print-architecture"], check=True, capture_output=True, text=True
        ).stdout.strip(),
        "os": "linux",
        "config": {"Cmd": ["bash"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": created, "created_by": "mmdebstrap"}],
    }
    layer = add_blob(layout, blob.read_bytes(), "application/vnd.oci.image.layer.v1.tar+gzip")
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": add_blob(layout, json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": [layer],
    }
    entry = add_blob(layout, json.dumps(manifest).encode(), str(manifest["mediaType"]))
    entry["annotations"] = {"org.opencontainers.image.ref.name": "12"}
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    return f"oci:{layout}:12"


def add_blob(layout: Path, data: bytes, media_type: str) -> dict[str, object]:
    digest = hashlib.sha256(data).hexdigest()
    path = layout / "blobs" / "sha256" / digest
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def say(text: str) -> None:
    sys.stderr.write(f"\n\x1b[1m{text}\x1b[0m\n" if sys.stderr.isatty() else f"\n{text}\n")


def copa(*arguments: str) -> int:
    program = Path(sys.executable).with_name("copa")
    say("$ copa " + " ".join(arguments))
    return subprocess.run([program, *arguments], check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", help="an image of yours, as `copa patch -i` takes it")
    image = parser.parse_args().image
    try:
        image = image or debian_image()
    except NotPossibleError as error:
        say(f"can't build the demo image: {error}")
        return 1
    os.environ.setdefault("COPA_ALLOW_NETWORK", "127.0.0.0/8,::1")  # a machine's mirror may be on it
    patched = f"oci:{OUT / 'patched'}:demo"
    return copa("plan", "-i", image) or copa("patch", "-i", image, "--to", patched) or copa("plan", "-i", patched)


if __name__ == "__main__":
    sys.exit(main())
