"""One stack: its settings, one deployment, its outputs."""

import pulumi

from components.configuration import settings_of_this_stack
from components.deployment import OpenWebUIDeployment

deployment = OpenWebUIDeployment("edge", settings_of_this_stack())
for name, value in deployment.outputs.items():
    pulumi.export(name, value)
