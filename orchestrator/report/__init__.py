"""What came of a run, for people and machines. Built from the run's record alone."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from orchestrator.report.build import build_report
from orchestrator.report.model import Report
from tta_tasks.foreign import ForeignTree
from tta_tasks.models import RunRecord

__all__ = ["FORMS", "Report", "build_report", "write_reports"]

#: Form of the report -> its file. A person opens the first.
FORMS: Final = {
    "report": "report.html",
    "markdown": "report.md",
    "json": "report.json",
    "junit": "junit.xml",
    "record": "record.json",
}


def write_reports(report: Report, record: RunRecord, folder: Path) -> dict[str, Path]:
    """Write ``report`` into ``folder`` in every form, and the record it was made from.

    Returns:
        What it is -> where it is.

    Raises:
        OSError: The folder cannot be written.
    """
    # What they render with is in the extra `cli`; a producer builds reports, and writes none.
    from orchestrator.report.html import to_html  # noqa: PLC0415
    from orchestrator.report.junit import to_junit  # noqa: PLC0415
    from orchestrator.report.markdown import to_markdown  # noqa: PLC0415

    texts = {
        "report": to_html(report),
        "markdown": to_markdown(report),
        "json": report.model_dump_json(indent=2) + "\n",
        "junit": to_junit(report),
        "record": record.model_dump_json(indent=2) + "\n",
    }
    folder.mkdir(parents=True, exist_ok=True)
    written = ForeignTree(folder)  # a repository may have put links there
    for form, name in FORMS.items():
        written.write_text(name, texts[form])
    return {form: folder / name for form, name in FORMS.items()}
