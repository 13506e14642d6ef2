"""`commit`: an image from a container, by hand. The first way to make one, before there was a Dockerfile.

What the container changed becomes one layer; what it was started with becomes the config. It is quick,
and it forgets how things came to be: a Dockerfile can be read, and run again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from minidock import trace
from minidock.build import settings
from minidock.build.draft import Draft, Step
from minidock.containers import lifecycle, timestamps, user_namespace
from minidock.containers.spec import Spec
from minidock.containers.state import Container
from minidock.errors import Conflict, InvalidInput, NotFound
from minidock.images import layer as layers
from minidock.images import reference
from minidock.images.image import OCI_LAYER, Image, Layer
from minidock.images.store import Store
from minidock.images.transaction import Transaction


@trace.mechanism(lesson=8)
def commit(
    store: Store,
    container: Container,
    name: str = "",
    *,
    message: str = "",
    author: str = "",
    changes: Sequence[str] = (),
    pause: bool = True,
) -> str:
    """Make an image of *container* under *name* (none: it is dangling); returns its id.

    *changes* are Dockerfile instructions such as ``CMD ["sh"]``. Raises InvalidInput for those that need
    a container, NotFound when the container's image is gone. Source: docker commit.
    """
    spec = container.spec
    names = [str(reference.parse(name).pinned())] if name else []
    if name and reference.parse(name).digest:
        raise InvalidInput(f"{name}: refusing to create a tag with a digest reference")
    image = _image_of(store, container)
    wanted = settings.with_changes(_settings(spec), changes)
    with store.transaction() as new:
        with container.lock(), _still(container, pause):
            layer = _layer(store, new, container, image)
        step = Step(timestamps.now(), " ".join(spec.command), layer, message)
        draft = Draft.of(image).after(step, wanted, author)
        return new.put_made_image(draft.config, draft.layers, names)


def _image_of(store: Store, container: Container) -> Image:
    try:
        return store.resolve(container.spec.image_id)
    except NotFound:
        raise NotFound(
            f"the image of container {container.id[:12]} was removed: {container.spec.image}",
            hint=f"minidock export {container.id[:12]} | minidock import - NAME still saves its files.",
        ) from None


def _settings(spec: Spec) -> dict[str, Any]:
    """What the container was started with: its image's config, and what the user said instead."""
    own = {
        "User": spec.user,
        "ExposedPorts": {port: {} for port in spec.exposed_ports},
        "Env": spec.environment,
        "Entrypoint": spec.entrypoint,
        "Cmd": spec.command,
        "Volumes": {path: {} for path in spec.volumes},
        "WorkingDir": "" if spec.working_directory == "/" else spec.working_directory,
        "Labels": spec.labels,
        "StopSignal": "" if spec.stop_signal == "SIGTERM" else spec.stop_signal,
        "Healthcheck": spec.health_check,
        "Shell": spec.shell,
    }
    return {key: value for key, value in own.items() if value}


def _layer(store: Store, new: Transaction, container: Container, image: Image) -> Layer | None:
    """The changes of *container* as a layer of the store; None when there are none.

    Its directory stays the container's. So the layer's own tree is made from the archive.
    """
    upper = container.directory / "upper"
    if not os.listdir(upper):
        return None
    archive = new.directory / "partial" / os.urandom(8).hex()
    with open(archive, "xb") as file:
        packed = layers.pack_layer(upper, file, owners=user_namespace.ids_of(container.spec).inside)
    new.add_blob(archive, packed.digest)
    if not new.keep_layer(packed.diff_id):
        below = store.ensure_layers(image)[::-1]
        with open(new.blob_file(packed.digest), "rb") as blob, new.layer(packed.diff_id) as tree:
            tree.size = layers.apply_layer(blob, tree.path, max_size=store.max_layer_size, parents=below)
    return Layer(packed.digest, packed.diff_id, packed.size, f"{OCI_LAYER}+gzip")


@contextmanager
def _still(container: Container, pause: bool) -> Iterator[None]:
    """Hold a running container still: else a file could change between its size and its content."""
    paused = False
    if pause and container.status() == "running":
        with suppress(Conflict):  # it ended just now: nothing moves any more
            lifecycle.pause(container)
            paused = True
    try:
        yield
    finally:
        if paused:
            with suppress(Conflict):  # it was killed meanwhile
                lifecycle.unpause(container)
