"""The report of a study: its notebook executed, and as a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lop.study.spec import Study
from lop.utils.errors import UserError, shortened
from lop.utils.files import write_text
from lop.utils.shipped import shipped_root


def find_report() -> Path | None:
    """notebooks/study.ipynb here or as it came with the package; None in an installation that has no notebooks."""
    path = Path("notebooks/study.ipynb")
    try:
        path = path if path.exists() else shipped_root() / path
    except UserError:
        return None
    return path if path.exists() else None


def make_report(study: Study, path: Path, overrides: dict[str, Any] | None = None) -> str:
    """Execute the notebook on the study's results and write report.ipynb and report.html; a line that says what came
    of it. Raises UserError where a cell fails."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    source = find_report()
    if source is None:
        return "this installation came without notebooks: no report was made"
    output = study.results_dir / "report.ipynb"
    part = output.with_name("report.part.ipynb")
    parameters = {"study": str(path.resolve()), "overrides": json.loads(json.dumps(overrides or {}))}
    try:
        papermill.execute_notebook(str(source), str(part), parameters, kernel_name="python3", progress_bar=False)
    except PapermillExecutionError as error:
        raise UserError(
            f"{part}: a cell of the report failed ({shortened(f'{error.ename}: {error.evalue}')})"
        ) from None
    part.replace(output)
    page = as_page(output, study.name)
    if page is None:
        return f"report: {output}; as a page with nbconvert (pip install 'lop[study]')"
    write_text(output.with_suffix(".html"), page)
    return f"report: {output.with_suffix('.html')}"


def as_page(notebook: Path, title: str) -> str | None:
    """HTML without the code: what a reader wants to see. None where nbconvert is not installed."""
    try:
        from nbconvert import HTMLExporter
    except ImportError:
        return None
    exporter = HTMLExporter(exclude_input=True, exclude_input_prompt=True, exclude_output_prompt=True)
    text, _ = exporter.from_filename(str(notebook), resources={"metadata": {"name": title}})
    return text
