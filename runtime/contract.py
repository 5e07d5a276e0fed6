"""What two sides of a container share: paths, ports, labels and roles.

Running stacks hold these strings, so their values stay.
"""

APP = "open-webui-edge"
"""Value of the label `app` of everything that this project creates on an engine."""
DEPLOYMENT = "deployment"
"""Label of everything that one deployment creates: distinguishes deployments of the same stack name."""
CONFIG_DIR = "/run/open-webui-edge"
"""Volume with a container's settings, secrets and the programs of this project."""
DATA_DIR = "/app/backend/data"
"""Open WebUI's data volume: uploads, caches and, without PostgreSQL, the database."""
TEMPORARY = ".temporary"
"""Folder in that volume for temporary files, such as uploads in flight, with one folder for each replica."""
REPOSITORY_DIR = "/repository/restic"
"""Mount point of a backup repository in a volume."""
TRIAL_ROLE = "open-webui-trial"
"""Role of the container in which a new version is tried."""
PORT = 8080
"""Port on which Open WebUI listens in its container."""
