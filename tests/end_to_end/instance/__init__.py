"""The hardware below a cloud that only exists on paper: whatever instance it has boots here, for real.

The cloud (moto) knows what was asked for; nothing runs there. `Hardware` looks at it and does the rest: an instance is
a container with an init of its own, cloud-init, and the user data that the cloud holds; a volume is a file behind a
loop device that comes and goes as the cloud says; an elastic IP, which lies in 127.0.0.0/8, leads to the instance that
it is associated with.
"""
