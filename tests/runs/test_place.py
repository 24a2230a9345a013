"""A run folder is new, empty or marked, and strictly below the results folder; nothing else is touched."""

import json
import os
from pathlib import Path

import pytest

from lop.config import Config, validate
from lop.runs import SCHEMA, RunFolder
from lop.utils.errors import UserError


def make_config(results, name, **run) -> Config:
    config = validate({"benchmark": "b", "net": "mlp", "optimizer": "sgd", "run": {"results_dir": str(results), **run}})
    config.run.name = name  # past the check of the config, which is not the last one
    return config


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def foreign(tmp_path) -> Path:
    """A working folder with somebody's files, some under names like ours, around a results folder."""
    for folder in (tmp_path, tmp_path / "results", tmp_path / "outside", tmp_path / "results" / "theirs"):
        folder.mkdir(exist_ok=True)
        for name in ("mine.tmp", "config.json", "tasks.csv", "config.json.tmp"):
            (folder / name).write_text("precious")
    (tmp_path / "results" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "results" / "dangling").symlink_to(tmp_path / "nothing")
    return tmp_path


NAMES = [
    "..",
    ".",
    "...",
    "a/../..",
    "a/b",
    "{outside}",
    "link",
    "link/new",
    "dangling",
    "old-x",
    "x.",
    "con",
    "NUL.txt",
]
NAMES += ["theirs", "../outside", "..\\outside", "C:x", "tasks.csv", "config.json", "", "a\0b"]


@pytest.mark.parametrize("resume", ["auto", "never"])
@pytest.mark.parametrize("name", NAMES)
def test_no_name_reaches_what_is_not_ours(tmp_path, name, resume):
    foreign(tmp_path)
    before = contents(tmp_path)
    config = make_config(tmp_path / "results", name.format(outside=tmp_path / "outside"), resume=resume)
    if not name:  # no name: the config's own
        with RunFolder(config) as folder:
            assert folder.path.parent == tmp_path / "results"
        return
    with pytest.raises(UserError, match=r"choose another"), RunFolder(config):
        pass
    assert contents(tmp_path) == before


def test_a_folder_with_foreign_files_only_is_never_ours_and_an_empty_one_is(tmp_path):
    (tmp_path / "empty").mkdir()
    with RunFolder(make_config(tmp_path, "empty")) as folder:
        (folder.path / "notes.tmp").write_text("the user's")
        (folder.path / "deep").mkdir()
        (folder.path / "deep" / "status.json.tmp").write_text("the user's")
        (folder.path / "status.json.tmp").write_text("half")
    with RunFolder(make_config(tmp_path, "empty", resume="never")) as folder:
        assert not (folder.path / "status.json.tmp").exists()
        assert (folder.path / "notes.tmp").exists()
        assert (folder.path / "deep" / "status.json.tmp").exists()
        assert (folder.path / "old-1" / "config.json").exists()


def test_a_folder_without_a_mark_is_ours_by_its_config_and_status(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    config = make_config(tmp_path, "mine")
    (folder / "config.json").write_text(config.model_dump_json())
    with pytest.raises(UserError, match="not a run's"), RunFolder(config):
        pass
    (folder / "status.json").write_text(json.dumps({"schema": SCHEMA, "state": "finished"}))
    with RunFolder(config) as opened:
        assert opened.status()["state"] == "finished"


def test_a_link_under_our_name_is_not_written_through(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("kept")
    with RunFolder(make_config(tmp_path / "results", "mine")) as folder:
        pass
    folder.tables["online"].path.symlink_to(precious)
    with pytest.raises(UserError, match=r"online\.csv: a link"), RunFolder(make_config(tmp_path / "results", "mine")):
        pass
    assert precious.read_text() == "kept"


@pytest.mark.parametrize("name", ["online.csv", "status.json", "checkpoint.pt"])
def test_a_pipe_under_our_name_is_not_waited_for(tmp_path, name):
    config = make_config(tmp_path, "mine")
    with RunFolder(config) as folder:
        pass
    (folder.path / name).unlink(missing_ok=True)
    os.mkfifo(folder.path / name)
    with pytest.raises(UserError, match=f"{name}: not a regular file"), RunFolder(config):
        pass


def test_the_home_folder_is_meant(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    with RunFolder(make_config("~/runs", "mine")) as folder:
        assert folder.path == tmp_path / "runs" / "mine"
    with pytest.raises(UserError, match="no such home"):
        RunFolder(make_config("~nobody_of_that_name/x", "mine"))
