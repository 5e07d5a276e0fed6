"""An image, pulled once and pinned: what its name resolved to stays until the name changes."""

import pulumi
import pulumi_docker as docker

from components.docker.container import physical_name


def pinned_image(name: str, reference: str, role: str, opts: pulumi.ResourceOptions) -> pulumi.Output[str]:
    """Make an engine have an image and return its id.

    RemoteImage pulls it where it is missing, but follows its tag at each refresh. Tag is never read back: its
    source_image_id is what the name meant when this stack first used it, and its own name keeps a clean-up of unused
    images from taking that one.
    """
    image = docker.RemoteImage(
        f"{name}-image",
        name=reference,
        # Other stacks on the same engine may run it.
        keep_locally=True,
        opts=opts,
    )
    pin = docker.Tag(
        f"{name}-image-pin",
        source_image=image.name,
        target_image=f"{physical_name(role)}:pinned",
        opts=opts,
    )
    return pin.source_image_id
