"""What holds data is kept: neither an update nor a replaced component nor `make down` deletes it."""

import pulumi


def kept(parent: pulumi.Resource) -> pulumi.ResourceOptions:
    """Return the options of a child that holds data.

    `protect` stops a deletion that Pulumi was asked for, `retain_on_delete` one that follows from something else.
    """
    return pulumi.ResourceOptions(parent=parent, protect=True, retain_on_delete=True)


def left_behind(parent: pulumi.Resource) -> pulumi.ResourceOptions:
    """Return the options of a child with data that a setting may give up: it leaves the state, and stays where it is.

    One that is made again under its name finds it.
    """
    return pulumi.ResourceOptions(parent=parent, retain_on_delete=True)


def kept_by_its_disk(machine: pulumi.Resource) -> pulumi.ResourceTransform:
    """Return the transform for what a machine's engine holds, where all of it lies on a disk that is kept itself.

    It goes out of sight with the machine, and is found again by the next one, so nothing of it is deleted one by one;
    were a volume protected, what it depends on, the machine, would stay as well.
    """

    def transform(args: pulumi.ResourceTransformArgs) -> pulumi.ResourceTransformResult | None:
        if not args.type_.startswith("docker:"):
            return None
        args.opts.protect = False
        args.opts.deleted_with = machine
        return pulumi.ResourceTransformResult(props=args.props, opts=args.opts)

    return transform


def release(args: pulumi.ResourceTransformArgs) -> pulumi.ResourceTransformResult | None:
    """Lift both from a resource: the transform for `data.keep: false`, after which a destroy deletes data."""
    if not (args.opts.protect or args.opts.retain_on_delete):
        return None
    args.opts.protect = False
    args.opts.retain_on_delete = False
    return pulumi.ResourceTransformResult(props=args.props, opts=args.opts)
