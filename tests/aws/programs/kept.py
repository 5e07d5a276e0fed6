"""What a stack keeps when it is wanted no longer: a zone with a record, a vault for copies."""

import pulumi
import pulumi_aws as aws

from open_webui_edge.components.aws.backup import DailyArgs, VolumeBackup, VolumeBackupArgs
from open_webui_edge.components.aws.dns import DnsRecords, DnsRecordsArgs, DnsZone, DnsZoneArgs

config = pulumi.Config()
dns, backup = config.get_object("dns"), config.get_object("backup")
provider = aws.Provider("aws", region="eu-central-1")
options = pulumi.ResourceOptions(providers={"aws": provider})

if dns:
    zone = DnsZone("edge-zone", DnsZoneArgs(zone="example.com", create=dns["create"]), options)
    args = DnsRecordsArgs(zone_id=zone.zone_id, names=["chat.example.com"], address="192.0.2.7")
    DnsRecords("edge-records", args, options)
expected = VolumeBackupArgs(volume_arn="arn:aws:ec2:eu-central-1:123456789012:volume/vol-0a1b2c3d4e5f60718")
if backup:
    expected["daily"] = DailyArgs(at="03:00", keep_days=7)
VolumeBackup("edge-backup", expected, options)
