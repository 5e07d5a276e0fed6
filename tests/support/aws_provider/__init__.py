"""A stand-in for Pulumi's AWS provider, for tests: Pulumi's protocol in front of Terraform's own provider."""
