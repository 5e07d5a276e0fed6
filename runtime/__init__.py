"""Programs that run inside containers or on the instance; nothing here imports the rest of the project."""
