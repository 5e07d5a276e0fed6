"""`make backup`, `make restore` and `make backup-verify`: by containers that do one thing and go."""
