"""What stands on AWS of a deployment, from its stack file on, without what an engine would be asked."""

import pulumi

from open_webui_edge.components.aws.vm import AwsVm
from open_webui_edge.components.aws.vm_args import vm_args
from open_webui_edge.components.preflight import settings_of_this_stack
from open_webui_edge.settings.placement import placement_of

settings = settings_of_this_stack()
vm = AwsVm("edge-vm", vm_args(settings, placement_of(settings)))
pulumi.export("address", vm.host.address)
pulumi.export("volume", vm.host.volume_id)
pulumi.export("load_balancer", vm.load_balancer)
pulumi.export("records", vm.records_to_create)
