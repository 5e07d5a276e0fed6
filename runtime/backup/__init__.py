"""Programs for backups: online copies of data and database, the restic repository, and restores."""
