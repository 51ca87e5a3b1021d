"""The report page: what compression yielded, as one HTML file that needs nothing else.

``page`` lays it out, ``candidates`` and ``chart`` draw its parts, ``figures`` writes numbers for people, ``markup`` escapes. The
page is loaded when it is written, since every command writes figures and few write a page.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["write_report"]


def write_report(report: dict[str, Any], path: Path) -> None:
    """Write the page; see ``page.write_report``."""
    from edge_compress.report_page.page import write_report as write

    write(report, path)
