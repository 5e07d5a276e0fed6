"""What stands on AWS of a deployment, from its stack file on, without what an engine would be asked."""

import pulumi

from components.aws.vm import AwsVm
from components.aws.wanted import vm_args
from components.configuration import settings_of_this_stack
from stacks.placement import placement_of

settings = settings_of_this_stack()
vm = AwsVm("edge-vm", vm_args(settings, placement_of(settings)))
pulumi.export("address", vm.host.address)
pulumi.export("volume", vm.host.volume_id)
pulumi.export("load_balancer", vm.load_balancer)
pulumi.export("records", vm.wanted_records)
