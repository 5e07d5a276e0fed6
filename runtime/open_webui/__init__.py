"""Programs of Open WebUI's containers: launcher, upgrade, metrics, and those that commands run inside them."""
