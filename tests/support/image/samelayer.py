# SPDX-License-Identifier: Apache-2.0
"""
One run in a real Debian whose layer depends on nothing but the image: `python -m support.image.samelayer CACHE TAR DEBS OUT`.

It says which kind of worker it was, and writes the layer to OUT.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from copacetic import llb
from copacetic.cache import Cache
from copacetic.llb.solver import Inputs
from copacetic.oci import Platform
from copacetic.worker import WorkerSettings, WorkerSolver

SCRIPT = r"""
set -eu
touch /reference
export DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
useradd --system --uid 432 --user-group --home-dir /var/lib/service --create-home service
install -d -o service -g 33 -m 2750 /var/lib/service/data
echo x > /var/lib/service/data/file
chown service:service /var/lib/service/data/file
echo own > /srv/own; chown 1:2 /srv/own; chgrp 3 /srv/own; chmod 4711 /srv/own
chown service /etc/motd
chown 8:12 /etc/debian_version; chmod 600 /etc/debian_version
ln /usr/bin/id /usr/local/bin/id-too
ln -s nowhere /srv/link
rm -r /usr/share/doc/apt; mkdir /usr/share/doc/apt; echo new > /usr/share/doc/apt/new
rm -r /usr/share/doc/gzip
mv /usr/share/doc/dpkg /usr/share/doc/dpkg-moved
rm -r /usr/share/doc/tar; echo file > /usr/share/doc/tar
rm /etc/issue; mkdir /etc/issue; echo inside > /etc/issue/file
chmod 700 /usr/share/doc; chmod 755 /usr/share/doc
mkfifo /srv/pipe
mkdir -p "/srv/$(printf 'n%.0s' $(seq 100))/$(printf 'm%.0s' $(seq 200))"
printf 'odd\377name' | xargs -0 -I{} touch "/srv/{}"
dd if=/dev/zero of=/srv/sparse bs=1 count=1 seek=5000000 2>/dev/null
dpkg --force-unsafe-io --log=/dev/null -i /debs/*.deb
rm -f /var/cache/ldconfig/aux-cache /etc/*-
find / -xdev -newer /reference ! -path '/proc/*' ! -path '/dev/*' -exec touch -h -d @1000000000 {} +
rm /reference
"""


def main(cache: Path, tar: Path, debs: Path, out: Path) -> None:
    from support.image.images import MemorySource, make_image, make_layer

    image = make_image([make_layer(tar.read_bytes(), compression="none")])
    worker = WorkerSolver(WorkerSettings(cache=Cache(cache)))
    try:
        base = llb.oci_layout("client/image", image.descriptor.digest, store="it")
        mounts = [llb.Bind(dest="/debs", source=llb.local("debs"))]
        run = base.run(["/bin/sh", "-c", SCRIPT], mounts=mounts, network=llb.Network.NONE, name="the run")
        inputs = Inputs(images={"it": MemorySource(image)}, directories={"debs": debs})
        definition = llb.diff(base, run.root).marshal(Platform.parse("linux/amd64"))
        with tempfile.TemporaryDirectory() as folder:
            [layer] = worker.export(definition, inputs, lambda _event: None, folder=Path(folder))
            out.write_bytes(layer.path.read_bytes())
        labels = worker.capabilities().labels
        sys.stdout.write(json.dumps({"mode": labels["mode"], "filesystems": labels["filesystems"]}) + "\n")
    finally:
        worker.close()


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
