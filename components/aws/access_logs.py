"""A bucket for the access logs of a load balancer."""

from typing import TypedDict

import pulumi
import pulumi_aws as aws

from open_webui_edge.components.aws.iam import policy_document
from open_webui_edge.components.aws.tags import physical_name, tags

# Longest that leaves AWS room for its random end.
_PREFIX = 36


class AccessLogsArgs(TypedDict):
    """Retention of the logs."""

    keep_days: int


class AccessLogs(pulumi.ComponentResource):
    """A private bucket that Elastic Load Balancing alone may write to, for load balancers of this account.

    The logs hold addresses and paths of requests, but no chats, so the bucket is deleted with the stack.
    """

    bucket: pulumi.Output[str]
    """Its name, known once it may be written to."""

    def __init__(self, name: str, args: AccessLogsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Create the bucket and its policy."""
        super().__init__("open-webui-edge:index:AccessLogs", name, {**args}, opts)
        child = pulumi.ResourceOptions(parent=self)

        bucket = aws.s3.Bucket(
            f"{name}-bucket",
            # Names of buckets are unique in all of AWS.
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
        # Elastic Load Balancing only supports S3's own keys.
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
                        # The same in every region; before August 2022 each region had an account of its own.
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
            # S3 refuses two changes of a bucket's permissions at the same time.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[closed]),
        )
        self.bucket = policy.bucket
        self.register_outputs({"bucket": self.bucket})
