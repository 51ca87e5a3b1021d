"""The report page: what compression yielded, as one HTML file that needs nothing else.

``page`` lays it out, ``candidates`` and ``chart`` draw its parts, ``figures`` writes numbers for people, ``markup`` escapes.
"""

from edge_compress.report_page.page import write_report

__all__ = ["write_report"]
