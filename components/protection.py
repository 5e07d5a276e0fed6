"""Resource options that protect data from updates, replacements and `make down`.

No setting removes the protection; `make down DATA=delete` does, in the state itself (cli/stack.py).
"""

import pulumi


def protected(parent: pulumi.Resource) -> pulumi.ResourceOptions:
    """Return the options of a child that holds data.

    `protect` refuses a deletion of the resource itself, `retain_on_delete` keeps it when a parent is deleted.
    """
    return pulumi.ResourceOptions(parent=parent, protect=True, retain_on_delete=True)


def retained(parent: pulumi.Resource) -> pulumi.ResourceOptions:
    """Return the options of a child with data that a setting may disable: it leaves the state, but is not deleted.

    When the resource is created again under its name, it adopts the data.
    """
    return pulumi.ResourceOptions(parent=parent, retain_on_delete=True)


def deleted_with_instance(instance: pulumi.Resource) -> pulumi.ResourceTransform:
    """Return the transform for resources on an instance's engine, all of which are on a protected data volume.

    They leave the state together with the instance, and the next instance adopts them from the data volume. Were one
    of them protected, the instance on which it depends could not be replaced.
    """

    def transform(args: pulumi.ResourceTransformArgs) -> pulumi.ResourceTransformResult | None:
        if not args.type_.startswith("docker:"):
            return None
        args.opts.protect = False
        args.opts.deleted_with = instance
        return pulumi.ResourceTransformResult(props=args.props, opts=args.opts)

    return transform
