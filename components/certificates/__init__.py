"""The site's certificate: self-signed, provided, or from an ACME issuer."""
