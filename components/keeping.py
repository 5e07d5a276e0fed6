"""What holds data is kept: neither an update nor a replaced component nor `make down` deletes it."""

import pulumi


def kept(parent: pulumi.Resource) -> pulumi.ResourceOptions:
    """Return the options of a child that holds data.

    `protect` stops a deletion that Pulumi was asked for, `retain_on_delete` one that follows from something else.
    """
    return pulumi.ResourceOptions(parent=parent, protect=True, retain_on_delete=True)


def release(args: pulumi.ResourceTransformArgs) -> pulumi.ResourceTransformResult | None:
    """Lift both from a resource: the transform for `data.keep: false`, after which a destroy deletes data."""
    if not (args.opts.protect or args.opts.retain_on_delete):
        return None
    args.opts.protect = False
    args.opts.retain_on_delete = False
    return pulumi.ResourceTransformResult(props=args.props, opts=args.opts)
