"""An image, pulled once and pinned: what its name resolved to stays until the name changes."""

import pulumi
import pulumi_docker as docker

from components.docker.container import physical_name


def pinned_image(
    name: str,
    reference: pulumi.Input[str],
    role: str,
    opts: pulumi.ResourceOptions,
    *,
    one_at_a_time: bool = False,
) -> pulumi.Output[str]:
    """Make an engine have an image and return its id.

    With `one_at_a_time` no two containers ever run it in two versions: when it changes, all that run it are removed
    before the first is made anew.

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
        # Pulumi then removes what depends on it before, and not each container when its turn comes.
        opts=pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(delete_before_replace=one_at_a_time or None)),
    )
    return pin.source_image_id
