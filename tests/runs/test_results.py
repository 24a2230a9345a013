import errno
import os
import pickle
import shutil

import pytest
import torch

from lop.config import validate
from lop.runs import RunFolder, Table, checkpoint, load, read_config, run_folder_of
from lop.utils.errors import UserError


def make_config(tmp_path, **run):
    return validate({"benchmark": "b", "net": "mlp", "optimizer": "sgd", "run": {"results_dir": str(tmp_path), **run}})


def test_table_is_cut_back_to_the_checkpoint(tmp_path):
    table = Table(tmp_path / "t.csv")
    table.append([{"a": 0.1 + 0.2, "b": "x,y"}])
    state = table.state_dict()
    table.append([{"a": 2.0, "b": "lost"}])
    with open(table.path, "a") as file:
        file.write("3.0,half a ro")
    again = Table(table.path)
    again.load_state_dict(state)
    again.append([{"a": 1e-300, "b": "kept"}])
    assert table.path.read_text() == 'a,b\n0.30000000000000004,"x,y"\n1e-300,kept\n'


def test_table_shorter_than_the_checkpoint_is_refused(tmp_path):
    table = Table(tmp_path / "t.csv")
    table.append([{"a": 1}])
    state = table.state_dict()
    table.path.write_text("")
    with pytest.raises(UserError, match="resume=never"):
        Table(table.path).load_state_dict(state)


def test_second_process_is_refused_and_the_lock_is_free_afterwards(tmp_path):
    config = make_config(tmp_path)
    with RunFolder(config), pytest.raises(UserError, match="another process"), RunFolder(config):
        pass
    with RunFolder(config):
        pass


def test_resume_require_and_never(tmp_path):
    with pytest.raises(UserError, match="nothing to resume"), RunFolder(make_config(tmp_path, resume="require")):
        pass
    with RunFolder(make_config(tmp_path)) as folder:
        folder.tables["tasks"].append([{"task": 0}])
    with RunFolder(make_config(tmp_path, resume="never")) as folder:
        assert not folder.tables["tasks"].path.exists()
        assert (folder.path / "old-1" / "tasks.csv").exists()


def test_a_named_folder_refuses_another_experiment(tmp_path):
    with RunFolder(make_config(tmp_path, name="mine")):
        pass
    with RunFolder(make_config(tmp_path, name="mine", time_limit_hours=1)):
        pass
    with pytest.raises(UserError, match="another experiment"), RunFolder(make_config(tmp_path, name="mine", seed=4)):
        pass


def test_a_folder_under_another_runs_name_is_not_reported_as_that_run(tmp_path):
    with RunFolder(make_config(tmp_path)) as folder:
        folder.set_status("finished")
    other = make_config(tmp_path, seed=4)
    folder.path.rename(run_folder_of(other))
    with pytest.raises(UserError, match=r"another experiment \(run\.seed differs\)"), RunFolder(other):
        pass
    assert read_config(run_folder_of(other)).run.seed == 0


def test_load_gathers_runs(tmp_path):
    for seed in (0, 1):
        with RunFolder(make_config(tmp_path, seed=seed)) as folder:
            folder.tables["tasks"].append([{"task": t, "eff_rank_before": float(seed + t)} for t in range(2)])
            rows = [{"task": t, "phase": "before", "layer": i, "eff_rank": 1.0 * i} for t in (0, 1) for i in (0, 1)]
            folder.tables["layers"].append(rows)
            folder.set_status("finished")
    results = load(tmp_path)
    assert results.tasks["seed"].tolist() == [0, 0, 1, 1]
    assert results.runs["state"].tolist() == ["finished", "finished"]
    before = results.metrics("before", run=results.runs["run"][1])
    assert before == [{"task": t, "eff_rank": 1.0 + t, "layers": {"eff_rank": [0.0, 1.0]}} for t in (0, 1)]
    with pytest.raises(UserError, match="no run folders"):
        load(tmp_path / "nowhere")


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_checkpoints_refuse_what_is_not_theirs_and_execute_nothing(tmp_path):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"x": torch.arange(3)})
    assert checkpoint.load(path)["x"].tolist() == [0, 1, 2]
    assert list(tmp_path.iterdir()) == [path]
    whole = path.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2], pickle.dumps(Hostile(tmp_path / "written"))):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"checkpoint\.pt"):
            checkpoint.load(path)
    checkpoint.save(path, {"evil": Hostile(tmp_path / "written")})
    with pytest.raises(UserError, match="not a checkpoint of this project"):
        checkpoint.load(path)
    checkpoint.save(path, {"format": 99})
    with pytest.raises(UserError, match="format 99"):
        checkpoint.load(path)
    assert not (tmp_path / "written").exists()


def test_a_failed_save_leaves_the_old_checkpoint(tmp_path):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"x": 1})
    with pytest.raises(Exception, match="pickle"):
        checkpoint.save(path, {"x": lambda: None})
    assert checkpoint.load(path)["x"] == 1
    assert list(tmp_path.iterdir()) == [path]


def write_runs(tmp_path, count=3):
    for seed in range(count):
        with RunFolder(make_config(tmp_path, seed=seed)) as folder:
            folder.tables["tasks"].append([{"task": t, "x": seed + t / 10} for t in range(2)])
            folder.tables["events"].append([{"task": 0, "detail": 'two\nlines, and a "quote"'}])
            folder.set_status("finished")
            yield folder.path


@pytest.mark.parametrize("content", [b"", b"\x00\x00\x00", b"\xff\xfe garbled \n\xff", b"task,x\n1,2,3\n", b"no line"])
def test_an_empty_or_garbled_table_is_named_and_left_out(tmp_path, capsys, content):
    first, *_ = write_runs(tmp_path)
    (first / "tasks.csv").write_bytes(content)
    results = load(tmp_path)
    assert len(results.runs) == 3
    assert len(results.tasks) == 4
    assert list(results.skipped) == [str(first / "tasks.csv")]
    (line,) = capsys.readouterr().err.splitlines()
    assert str(first / "tasks.csv") in line


@pytest.mark.parametrize("name", ["tasks.csv", "status.json", "config.json"])
def test_a_pipe_or_a_device_is_named_and_not_waited_for(tmp_path, name):
    first, second, _ = write_runs(tmp_path)
    for folder in (first, second):
        (folder / name).unlink(missing_ok=True)
    os.mkfifo(first / name)
    (second / name).symlink_to("/dev/zero")
    assert load(tmp_path).skipped == {str(f / name): "not a regular file" for f in (first, second)}


def test_a_checkpoint_that_is_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match="not a regular file"):
        checkpoint.load(tmp_path / "checkpoint.pt")


def test_what_is_not_a_runs_blocks_nothing(tmp_path, capsys):
    first, second, _ = write_runs(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"name": "somebody else"}')
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_bytes(b"\xff{")
    (first / "tasks.csv").unlink()
    (first / "tasks.csv").mkdir()
    (second / "status.json").write_text("[")
    (tmp_path / "again").symlink_to(tmp_path)
    (second / "circle").symlink_to(second / "circle")
    results = load(tmp_path)
    assert len(results.runs) == 3
    assert len(results.tasks) == 4
    assert len(capsys.readouterr().err.splitlines()) == len(results.skipped) == 4
    with pytest.raises(UserError, match="not the config of a run"):
        load(tmp_path / "other")


def test_of_a_torn_table_the_whole_rows_are_read(tmp_path):
    first, *_ = write_runs(tmp_path, 1)
    with open(first / "tasks.csv", "a") as file:
        file.write("2,0.12")  # of 0.123456
    with open(first / "events.csv", "a") as file:
        file.write('1,"two\nli')
    results = load(tmp_path)
    assert results.tasks["x"].tolist() == [0.0, 0.1]
    assert results.events["detail"].tolist() == ['two\nlines, and a "quote"']


def test_rows_stay_with_their_runs_when_headers_differ(tmp_path):
    for seed in range(4):
        with RunFolder(make_config(tmp_path, seed=seed)) as folder:
            extra = {"extra": 1.0} if seed % 2 else {}
            folder.tables["tasks"].append([{"task": t, "x": 10.0 * seed + t, **extra} for t in range(seed + 1)])
    tasks = load(tmp_path).tasks
    assert (tasks["x"] // 10).tolist() == tasks["seed"].tolist()
    assert tasks.groupby("run").size().sort_values().tolist() == [1, 2, 3, 4]
    assert tasks["extra"].notna().tolist() == (tasks["seed"] % 2 == 1).tolist()
    order = tasks["run"].drop_duplicates().tolist()
    assert order == sorted(order)


@pytest.mark.parametrize(
    ("row", "column"), [("2,0.1x", "x"), ("2,0.1.2", "x"), ("2,", None), ("2x,0.2", "task"), ("2.5,0.2", "task")]
)
def test_a_text_where_a_number_belongs(tmp_path, row, column):
    first, *_ = write_runs(tmp_path)
    whole = load(tmp_path)
    with open(first / "tasks.csv", "a") as file:
        file.write(f"{row}\n")
    results = load(tmp_path)
    path = str(first / "tasks.csv")
    if column is None:  # an empty value is a missing one
        assert results.skipped == {}
        assert results.tasks["x"].isna().sum() == 1
        return
    assert results.skipped == {path: f"not a number in the column {column}"}
    kept = whole.tasks[whole.tasks["run"] != first.name].reset_index(drop=True)
    assert results.tasks.equals(kept)
    assert (results.tasks.dtypes == whole.tasks.dtypes).all()
    assert len(results.events) == len(whole.events)  # a text is what belongs there
    assert load(first).tasks.empty


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch, capsys):
    first, *_ = write_runs(tmp_path)
    locked, scandir = str(first), os.scandir

    def refusing(path):
        if os.fspath(path) == locked:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), locked)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    results = load(tmp_path)
    assert len(results.runs) == 2
    assert results.skipped == {locked: "Permission denied"}
    assert capsys.readouterr().err == f"warning: {locked}: left out, Permission denied\n"
    with pytest.raises(UserError, match="Permission denied"):
        load(first)


def test_half_a_copy_of_a_run_is_not_read(tmp_path):
    first, *_ = write_runs(tmp_path)
    shutil.copytree(first, tmp_path / ".half.part")
    assert len(load(tmp_path).runs) == 3
