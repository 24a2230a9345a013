"""The studies that come with the project."""

from pathlib import Path

import pytest

from lop.study.file import read_study

STUDIES = sorted((Path(__file__).parents[2] / "studies").glob("*.yaml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_method_has_as_many_settings_to_begin_with(path):
    study = read_study(path)
    assert len({len(case.settings()) for case in study.cases}) == 1
    assert len(study.evaluation_seeds) >= 3
