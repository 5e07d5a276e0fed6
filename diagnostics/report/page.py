"""The diagnosis as one HTML file."""

from html import escape

from diagnostics.question import Diagnosis
from diagnostics.report.table import table


def page(diagnosis: Diagnosis) -> str:
    """Return the file's text."""
    return f"<!doctype html><meta charset=utf-8><title>Doctor</title><pre>{escape(table(diagnosis))}</pre>"
