# SPDX-License-Identifier: Apache-2.0
"""
The image on its way into the solver while the plan is still being made.

Only a run that was asked for is worth that: nothing else is known so early. What goes wrong here says nothing yet;
the solve that needs the image will say it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread

from copacetic.errors import CopaError
from copacetic.llb.solver import Inputs
from copacetic.oci.transport import Source
from copacetic.pipeline.apply.execute import image_state
from copacetic.pipeline.apply.solvelog import SolveLog
from copacetic.pipeline.environment import Environment, Execution, ImageAccess
from copacetic.pipeline.open.image import PlatformImage, SourceImage

__all__ = ["warm_up"]


@contextmanager
def warm_up(
    image: SourceImage, platform: PlatformImage, environment: Environment, execution: Execution
) -> Iterator[None]:
    """
    Load the image into the solver beside whatever is done in this context.

    Leaving it by an exception leaves the loading to end with the solver.
    """
    thread = Thread(target=_load, args=(image, platform, environment, execution), name="copa-warm-up", daemon=True)
    thread.start()
    yield
    thread.join()


def _load(image: SourceImage, platform: PlatformImage, environment: Environment, execution: Execution) -> None:
    images: dict[str, Source] = {}
    access = ImageAccess(source=image.source, pull_name=execution.pull_name)
    state = image_state(access, platform.descriptor.digest, "image", images)
    inputs = Inputs(images=images, credentials=execution.credentials)
    with suppress(CopaError):
        solver = execution.open_solver()
        watched = environment.progress.task(f"solve with {solver.capabilities().name}: the image")
        definition = state.marshal(platform.platform)
        with watched, SolveLog(environment.progress) as log, solver.solve(definition, inputs, log) as result:
            result.filesystem.iterdir("")  # solvers fetch lazily
