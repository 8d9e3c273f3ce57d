# SPDX-License-Identifier: Apache-2.0
"""`kube-pod://POD`, and buildx builders in Kubernetes: kubectl runs `buildctl dial-stdio` in a pod."""

from __future__ import annotations

from copacetic.connect.address import KubePodAddress
from copacetic.connect.dial.process import ProcessStream

__all__ = ["connect_deployment", "connect_pod"]

_MISSING = "install kubectl, or use another kind of address"


def connect_pod(address: KubePodAddress, *, name: str) -> ProcessStream:
    """Connect to a pod; what the address leaves open is as kubectl's configuration has it."""
    return _connect(
        address.pod, context=address.context, namespace=address.namespace, container=address.container, name=name
    )


def connect_deployment(deployment: str, *, namespace: str, kubeconfig: str, name: str) -> ProcessStream:
    """Connect to some running pod of a deployment. The strings must have gone through a grammar."""
    return _connect(f"deployment/{deployment}", namespace=namespace, kubeconfig=kubeconfig, name=name)


def _connect(target: str, *, name: str, **options: str) -> ProcessStream:
    given = {option: value for option, value in options.items() if value}
    container = given.pop("container", "")
    command = ["kubectl", *(f"--{option}={value}" for option, value in given.items()), "exec"]
    if container:
        command.append(f"--container={container}")
    command += ["-i", target, "--", "buildctl", "dial-stdio"]
    return ProcessStream(command, name=name, missing=_MISSING)
