"""The figures of a study as files."""

import pandas as pd
import pytest
from study_runs import Written

from lop import viz
from lop.study import make_study, run_study
from lop.study.course import evaluation_runs
from lop.study.figures import drawn, write_figures
from lop.utils.errors import UserError


def test_figures_are_written_and_moves_are_of_all_methods(given, monkeypatch):
    def moves(tasks):
        return pd.DataFrame({"label": tasks["label"].unique(), "metric": "loss"})

    monkeypatch.setattr(viz, "first_moves", moves)  # the runs of this test have no diagnostics
    given["drawn"] = ["adam", "sgd"]
    study = make_study(given)
    result, tables = run_study(study, Written(lambda config: 0.8), lambda line: None)
    write_figures(result, tables)
    written = {path.name for path in (study.results_dir / "figures").iterdir()}
    assert {"digits_scores.png", "digits_changes.png", "digits_tasks.png"} <= written
    assert "digits_moves.png" not in written
    assert set(pd.read_csv(study.results_dir / "moves.csv")["label"]) == {"sgd", "adam"}
    tasks = evaluation_runs(result, "digits").tasks
    assert list(drawn(tasks, study.drawn)["label"].unique()) == ["adam", "sgd"]
    assert set(drawn(tasks, ["adam"])["label"]) == {"adam"}


def test_only_methods_of_the_study_can_be_drawn(given):
    given["drawn"] = ["sgdd"]
    with pytest.raises(UserError, match=r"drawn: no such method, 'sgdd'; did you mean 'sgd'"):
        make_study(given)
