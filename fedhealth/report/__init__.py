"""What people look at: `report.html` and `MODEL_CARD.md`, made from the files of a run folder and from nothing else.

`reading.py` reads, `curves.py` computes, `tables.py` says it in words, `features.py` and `worth.py` show what hospitals say
of the final model, `svg.py` and `bars.py` draw, `page.py` puts it together with the templates. Nothing here knows Flower or
the run that is on; the live page feeds the same parts (`fedhealth/dashboard.py`).
"""

from fedhealth.report.page import compare_runs, write_report

__all__ = ["compare_runs", "write_report"]
