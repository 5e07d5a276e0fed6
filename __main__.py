"""One stack: its settings, one deployment, its outputs."""

import pulumi

from open_webui_edge.components.deployment import OpenWebUIDeployment
from open_webui_edge.components.preflight import settings_of_this_stack

deployment = OpenWebUIDeployment("edge", settings_of_this_stack())
for name, value in deployment.outputs.items():
    pulumi.export(name, value)
