"""Active health checks of replicas: a sidecar probes them and serves DNS to Nginx."""
