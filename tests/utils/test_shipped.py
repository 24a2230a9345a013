"""The notebooks that come with the package."""

import pytest

from lop.cli import main
from lop.utils import shipped
from lop.utils.errors import UserError
from lop.utils.shipped import copy_notebooks, shipped_notebooks


def test_the_main_notebook_is_the_first_of_all():
    names = [path.name for path in shipped_notebooks()]
    assert names[0] == "run-expr.ipynb"
    assert {"tutorial.ipynb", "compare.ipynb"} <= set(names)


def test_copies_are_laid_out_as_in_the_repository(tmp_path, capsys):
    assert main(["notebook", str(tmp_path / "mine")]) == 0
    assert "run-expr.ipynb" in capsys.readouterr().out
    found = {str(path.relative_to(tmp_path / "mine")) for path in (tmp_path / "mine").rglob("*.ipynb")}
    assert {"run-expr.ipynb", "notebooks/tutorial.ipynb"} <= found
    assert len(copy_notebooks(tmp_path / "mine")) == len(found)  # the same again changes nothing


def test_what_somebody_has_changed_is_not_overwritten(tmp_path, capsys):
    copy_notebooks(tmp_path)
    (tmp_path / "run-expr.ipynb").write_text("mine")
    (tmp_path / "notebooks" / "tutorial.ipynb").unlink()
    assert main(["notebook", str(tmp_path)]) == 2
    assert "differs; name another folder" in capsys.readouterr().err
    assert (tmp_path / "run-expr.ipynb").read_text() == "mine"
    assert not (tmp_path / "notebooks" / "tutorial.ipynb").exists()  # all or nothing


def test_an_installation_without_them_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "PACKAGE", tmp_path / "a" / "b" / "lop")
    with pytest.raises(UserError, match="without notebooks"):
        shipped_notebooks()
