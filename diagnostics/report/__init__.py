"""What came of it all, for people, machines and browsers."""

from diagnostics.report.document import document
from diagnostics.report.page import page
from diagnostics.report.table import table

__all__ = ["document", "page", "table"]
