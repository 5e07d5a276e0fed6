"""Images, pulled once and pinned: the ID that a name resolved to stays until the name changes."""

import pulumi
import pulumi_docker as docker

from open_webui_edge.components.docker.container import physical_name


def pinned_image(
    name: str,
    reference: pulumi.Input[str],
    role: str,
    opts: pulumi.ResourceOptions,
    *,
    one_at_a_time: bool = False,
) -> pulumi.Output[str]:
    """Pull an image if the engine lacks it, and return its ID.

    With `one_at_a_time` no two containers ever run two versions of it: when it changes, all of its containers are
    removed before the first is created again.

    RemoteImage pulls a missing image, but follows its tag at each refresh. Tag is never read back: its source_image_id
    is the ID at the time when this stack first used the name, and its own tag protects that image from `docker image
    prune`.
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
        # Pulumi then removes all dependents before the first one is created again.
        opts=pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(delete_before_replace=one_at_a_time or None)),
    )
    return pin.source_image_id
