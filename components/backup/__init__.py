"""Copies of what people made: taken while it is in use, kept by restic, and put back."""
