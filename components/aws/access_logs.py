"""A bucket for what a load balancer writes down."""

from typing import TypedDict

import pulumi
import pulumi_aws as aws

from components.aws.policy import policy_document
from components.aws.tags import physical_name, tags

# Longest that leaves AWS room for its random end.
_PREFIX = 36


class AccessLogsArgs(TypedDict):
    """How long logs are of use."""

    keep_days: int


class AccessLogs(pulumi.ComponentResource):
    """A private bucket that Elastic Load Balancing alone may write to, for load balancers of this account.

    Addresses and paths of requests are in it, and no chat: it goes with the stack, logs and all.
    """

    bucket: pulumi.Output[str]
    """Its name, known once it may be written to."""

    def __init__(self, name: str, args: AccessLogsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the bucket and say who writes."""
        super().__init__("open-webui-edge:index:AccessLogs", name, {**args}, opts)
        child = pulumi.ResourceOptions(parent=self)

        bucket = aws.s3.Bucket(
            f"{name}-bucket",
            # Nobody else in the world may have one of that name.
            bucket_prefix=f"{physical_name('logs', _PREFIX).lower()}-",
            force_destroy=True,
            tags=tags("load-balancer"),
            opts=child,
        )
        closed = aws.s3.BucketPublicAccessBlock(
            f"{name}-public-access",
            bucket=bucket.bucket,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=child,
        )
        aws.s3.BucketOwnershipControls(
            f"{name}-ownership",
            bucket=bucket.bucket,
            rule={"object_ownership": "BucketOwnerEnforced"},
            opts=child,
        )
        # Elastic Load Balancing writes with S3's own keys or not at all.
        aws.s3.BucketServerSideEncryptionConfiguration(
            f"{name}-encryption",
            bucket=bucket.bucket,
            rules=[{"apply_server_side_encryption_by_default": {"sse_algorithm": "AES256"}}],
            opts=child,
        )
        aws.s3.BucketLifecycleConfiguration(
            f"{name}-lifecycle",
            bucket=bucket.bucket,
            rules=[
                {
                    "id": "expire",
                    "status": "Enabled",
                    "filter": {"prefix": ""},
                    "expiration": {"days": args["keep_days"]},
                    "abort_incomplete_multipart_upload": {"days_after_initiation": 1},
                }
            ],
            opts=child,
        )
        account = aws.get_caller_identity_output(opts=pulumi.InvokeOutputOptions(parent=self)).account_id
        policy = aws.s3.BucketPolicy(
            f"{name}-policy",
            bucket=bucket.bucket,
            policy=pulumi.Output.json_dumps(
                policy_document(
                    {
                        "Sid": "LoadBalancersOfThisAccount",
                        "Effect": "Allow",
                        # In every region; an account a region is what AWS wanted before August 2022.
                        "Principal": {"Service": "logdelivery.elasticloadbalancing.amazonaws.com"},
                        "Action": "s3:PutObject",
                        # Each account's load balancers write below its own number only.
                        "Resource": pulumi.Output.concat(bucket.arn, "/AWSLogs/", account, "/*"),
                    },
                    {
                        "Sid": "EncryptedConnectionsOnly",
                        "Effect": "Deny",
                        "Principal": "*",
                        "Action": "s3:*",
                        "Resource": [bucket.arn, pulumi.Output.concat(bucket.arn, "/*")],
                        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
                    },
                )
            ),
            # S3 takes one change of a bucket's rights at a time.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[closed]),
        )
        self.bucket = policy.bucket
        self.register_outputs({"bucket": self.bucket})
