"""Checkpoints: every bit counts, two are kept, and each knows what it was made from."""

import os
import random
import shutil

import pytest
import torch

from lop.config import validate
from lop.runs import RunFolder, checkpoint
from lop.runs.checkpoint import DamagedCheckpointError
from lop.runs.table import TableChangedError
from lop.utils.errors import UserError
from lop.utils.files import make_folder


def make_config(tmp_path, lr=0.1, **run):
    sections = {"benchmark": "b", "net": "mlp", "optimizer": {"name": "sgd", "lr": lr}}
    return validate({**sections, "run": {"results_dir": str(tmp_path), "name": "mine", **run}})


def save(folder, number, data="data"):
    folder.tables["tasks"].append([{"task": number}])
    folder.save_checkpoint({"number": number, "tables": folder.state_dict()}, data)


def flip(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_every_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"x": torch.randn(20), "text": "words", "number": 0.1})
    whole, chosen = path.read_bytes(), random.Random(0)
    header = 8 * (len(checkpoint.MARK) + checkpoint.DIGEST_SIZE)
    for bit in [*range(header), *(chosen.randrange(8 * len(whole)) for _ in range(1000))]:
        flip(path, bit)
        with pytest.raises(DamagedCheckpointError):
            checkpoint.load(path)
        path.write_bytes(whole)
    for content in (whole[:-1], whole + b"\0", whole[:10], b""):
        path.write_bytes(content)
        with pytest.raises(DamagedCheckpointError):
            checkpoint.load(path)


@pytest.mark.parametrize("harm", ["flip", "cut", "delete"])
def test_the_one_before_is_used_and_the_tables_are_cut_back_to_it(tmp_path, harm, capsys):
    with RunFolder(make_config(tmp_path)) as folder:
        for number in range(3):
            save(folder, number)
    if harm == "flip":
        flip(folder.checkpoint, 8 * folder.checkpoint.stat().st_size // 2)
    elif harm == "cut":
        os.truncate(folder.checkpoint, 100)
    else:
        folder.checkpoint.unlink()
    with RunFolder(make_config(tmp_path)) as again:
        state = again.load_checkpoint("data")
        assert state["number"] == 1
        again.load_state_dict(state["tables"])
        assert again.tables["tasks"].path.read_text() == "task\n0\n1\n"
        assert ("damaged" in capsys.readouterr().err) is (harm != "delete")
        save(again, 7)
    # the damaged one was not kept as the one before
    assert checkpoint.load(again.previous_checkpoint)["number"] == 1
    assert checkpoint.load(again.checkpoint)["number"] == 7


def test_two_damaged_ones_are_refused(tmp_path):
    with RunFolder(make_config(tmp_path)) as folder:
        save(folder, 0)
        save(folder, 1)
    for path in (folder.checkpoint, folder.previous_checkpoint):
        flip(path, 2000)
    with RunFolder(make_config(tmp_path)) as again, pytest.raises(DamagedCheckpointError, match="resume=never"):
        again.load_checkpoint("data")


def test_without_its_config_a_folder_goes_on_with_its_own_settings_only(tmp_path):
    with RunFolder(make_config(tmp_path)) as folder:
        save(folder, 0)
        folder.set_status("running")
    (folder.path / "config.json").unlink()
    with pytest.raises(UserError, match=r"optimizer\.lr differs"), RunFolder(make_config(tmp_path, lr=0.2)):
        pass
    assert folder.checkpoint.exists()
    with RunFolder(make_config(tmp_path)) as again:
        assert again.load_checkpoint("data")["number"] == 0
    (folder.path / "config.json").unlink()
    with RunFolder(make_config(tmp_path, lr=0.2, resume="never")) as again:
        assert again.load_checkpoint("data") is None
        assert (again.path / "old-1" / "checkpoint.pt").exists()
        assert not again.tables["tasks"].path.exists()


def test_a_finished_run_without_config_and_checkpoint_is_not_reported_as_another(tmp_path):
    with RunFolder(make_config(tmp_path)) as folder:
        folder.set_status("finished")
    (folder.path / "config.json").unlink()
    with pytest.raises(UserError, match=r"config\.json is gone"), RunFolder(make_config(tmp_path)):
        pass


def test_a_config_that_was_exchanged_does_not_help(tmp_path):
    with RunFolder(make_config(tmp_path)) as folder:
        save(folder, 0)
    other = make_config(tmp_path, lr=0.2)
    (folder.path / "config.json").write_text(other.model_dump_json())
    with RunFolder(other) as again, pytest.raises(UserError, match=r"optimizer\.lr differs"):
        again.load_checkpoint("data")


def test_changed_data_are_noticed(tmp_path):
    with RunFolder(make_config(tmp_path)) as folder:
        save(folder, 0, data="one")
    with RunFolder(make_config(tmp_path)) as again, pytest.raises(UserError, match="data set is not the one") as error:
        again.load_checkpoint("another")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("harm", ["delete", "truncate", "replace", "flip", "shorter"])
def test_a_table_that_somebody_changes_in_mid_run_is_noticed(tmp_path, harm):
    with RunFolder(make_config(tmp_path)) as folder:
        save(folder, 10)
        path = folder.tables["tasks"].path
        whole = path.read_bytes()
        if harm == "delete":
            path.unlink()
        elif harm == "truncate":
            path.write_bytes(b"")
        elif harm == "replace":
            path.write_bytes(b"z" * 100)
        elif harm == "flip":
            flip(path, 8 * len(whole) - 10)
        else:
            path.write_bytes(whole[:-1])
        left = path.read_bytes() if path.exists() else None
        for write in (lambda: folder.tables["tasks"].append([{"task": 11}]), folder.sync):
            with pytest.raises(TableChangedError, match=r"tasks\.csv"):
                write()
        assert (path.read_bytes() if path.exists() else None) == left


def test_a_changed_row_is_noticed_at_the_next_start(tmp_path):
    with RunFolder(make_config(tmp_path)) as folder:
        for number in range(200):
            folder.tables["tasks"].append([{"task": number}])
        save(folder, 200)
    flip(folder.tables["tasks"].path, 8 * 20)  # far from the end
    with RunFolder(make_config(tmp_path)) as again, pytest.raises(TableChangedError):
        again.load_state_dict(again.load_checkpoint("data")["tables"])


def test_parents_of_a_new_folder_survive_a_power_cut(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr("lop.utils.files.sync_folder", synced.append)
    make_folder(tmp_path / "a" / "b" / "c")
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    make_folder(tmp_path / "a" / "b")
    assert len(synced) == 3
    shutil.rmtree(tmp_path / "a")


def test_a_view_is_saved_without_the_memory_around_it(tmp_path):
    """A member's tensors are rows of its stack's: a hundred members would write a hundred times a hundred nets."""
    stack = torch.arange(100_000.0).view(100, 1000)
    checkpoint.save(tmp_path / "one.pt", {"net": {"weight": stack[3]}, "more": [stack[4], (stack[5], 1)]})
    assert (tmp_path / "one.pt").stat().st_size < 3 * 4000 + 4000
    state = checkpoint.load(tmp_path / "one.pt")
    assert torch.equal(state["net"]["weight"], stack[3])
    assert torch.equal(state["more"][1][0], stack[5])
