"""What came of it all, for people, machines and browsers."""

from open_webui_edge.diagnostics.report.document import document
from open_webui_edge.diagnostics.report.page import page
from open_webui_edge.diagnostics.report.table import table

__all__ = ["document", "page", "table"]
