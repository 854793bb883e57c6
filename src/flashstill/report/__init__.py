"""One self-contained HTML page from the records of a run. Formatting only; nothing is modelled here."""

from flashstill.report.findings import findings
from flashstill.report.page import write_report
from flashstill.report.simulation import write_simulation_page
from flashstill.report.study import write_study_report

__all__ = ["findings", "write_report", "write_simulation_page", "write_study_report"]
