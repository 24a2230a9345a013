"""Studies: methods tuned alike on tuning seeds, compared on others, with tables, a report and an answer.

    python lop-src/main.py study -c studies/small.yaml

The form of the file: `lop.study.file`; how it is carried out: `lop.study.driver`; docs/studies.md says it at length.
"""

from lop.study.course import run_study, study_results
from lop.study.driver import Driver, StudyResult
from lop.study.file import make_study, read_study
from lop.study.spec import Study

__all__ = ["Driver", "Study", "StudyResult", "make_study", "read_study", "run_study", "study_results"]
