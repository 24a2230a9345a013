"""Many runs side by side: each has the folder, tables and checkpoint of a run of its own, whatever stops them."""

import micro
import pytest
import torch

import lop
from lop import capacity, runner
from lop.plan import members
from lop.runner import run, run_population
from lop.runs import RunFolder, load
from lop.runs.folder import RunningElsewhereError, read_status
from lop.training.population import Population
from lop.training.stacked import Block
from lop.utils.errors import UserError

LRS = [0.001, 0.1]


def config_of(data_dir, results, optimizer="adam", algos=("cbp",), benchmark="permuted_digits", **overrides):
    overrides = {key.replace("__", "."): value for key, value in overrides.items()}
    return micro.micro_config(benchmark, data_dir, results, optimizer=optimizer, algos=algos, overrides=overrides)


def six(data_dir, results, **overrides):
    """Three seeds at two step sizes."""
    return members(config_of(data_dir, results, **overrides), seeds="0-2", vary={"optimizer.lr": LRS})


@pytest.fixture(scope="module")
def singles(data_dir, tmp_path_factory):
    """The folders of single runs, by name."""
    results = tmp_path_factory.mktemp("singles")
    return {config.run_name(): run(config, summaries=False).folder for config in six(data_dir, results)}


def assert_same(results, singles):
    assert len(results) == len(singles)
    for result in results:
        assert result.status == "finished"
        assert micro.differences(singles[result.folder.name], result.folder) == []


@pytest.fixture
def looped(monkeypatch):
    """One learner after the other, whatever could be stacked: the same to the last bit."""
    monkeypatch.setattr(runner, "make_population", Population)


@pytest.fixture
def sizes(monkeypatch):
    """Of the populations that are trained, in turn."""
    seen, make_loop = [], runner.make_loop

    def watched(folders, *args):
        seen.append(len(folders))
        return make_loop(folders, *args)

    monkeypatch.setattr(runner, "make_loop", watched)
    return seen


def stop_at(monkeypatch, look):
    count = [0]

    def due(request):
        count[0] += 1
        request.reason = "test" if count[0] == look else request.reason
        return request.reason is not None

    monkeypatch.setattr("lop.training.stopping.StopRequest.due", due)


def test_each_is_what_a_run_of_its_own_would_be(tmp_path, data_dir, singles, looped, sizes):
    results = run_population(six(data_dir, tmp_path), summaries=False)
    assert sizes == [6]
    assert_same(results, singles)
    assert [result.folder.name for result in results] == [config.run_name() for config in six(data_dir, tmp_path)]
    assert all((result.resumed, result.reason) == (False, None) for result in results)


@pytest.mark.parametrize("look", [1, 4, 7])
def test_a_population_goes_on_as_single_runs(tmp_path, data_dir, monkeypatch, singles, looped, look):
    configs = six(data_dir, tmp_path)
    with monkeypatch.context() as patch:
        stop_at(patch, look)
        stopped = run_population(configs, summaries=False)
    assert {result.status for result in stopped} == {"interrupted"}
    assert {result.reason for result in stopped} == {"test"}
    again = [run(config, summaries=False) for config in reversed(configs)]
    assert all(result.resumed for result in again)
    assert_same(again, singles)


@pytest.mark.parametrize(("optimizer", "algo", "look"), [("sassha", "bp", 2), ("adam", "cbp", 6)])
def test_a_stopped_stack_goes_on_bit_by_bit(tmp_path, data_dir, monkeypatch, optimizer, algo, look):
    """Two seeds at two step sizes as one computation: as the same computation that nobody stopped."""

    def configs(folder):
        config = config_of(data_dir, tmp_path / folder, optimizer, (algo,))
        return members(config, seeds=[0, 1], vary={"optimizer.lr": LRS})

    whole = {result.folder.name: result.folder for result in run_population(configs("whole"), summaries=False)}
    blocks, learn = [], Block.learn
    with monkeypatch.context() as patch:
        patch.setattr(Block, "learn", lambda self, batches: blocks.append(len(batches)) or learn(self, batches))
        with monkeypatch.context() as inner:
            stop_at(inner, look)
            assert {r.status for r in run_population(configs("parts"), summaries=False)} == {"interrupted"}
        results = run_population(configs("parts"), summaries=False)
    assert set(blocks) == {4}
    assert_same(results, whole)


def test_single_runs_go_on_as_a_population(tmp_path, data_dir, monkeypatch, singles, looped, sizes):
    """Two at one place, one at another, one finished, two not begun."""
    configs = six(data_dir, tmp_path)
    for i, look in ((0, 3), (1, 3), (2, 8)):
        with monkeypatch.context() as patch:
            stop_at(patch, look)
            assert run(configs[i], summaries=False).status == "interrupted"
    run(configs[3], summaries=False)
    sizes.clear()
    assert_same(run_population(configs, summaries=False), singles)
    assert sorted(sizes) == [1, 2, 2]
    sizes.clear()
    again = run_population(configs, summaries=False)
    assert sizes == []
    assert all(result.resumed for result in again)
    assert_same(again, singles)


def test_chunks_of_a_given_size(tmp_path, data_dir, monkeypatch, singles, looped, sizes):
    """A stop in the second of three: its runs go on together, the third follows."""
    configs = six(data_dir, tmp_path, run__population=2)
    with monkeypatch.context() as patch:
        stop_at(patch, 15)
        stopped = run_population(configs, summaries=False)
    assert [result.status for result in stopped] == ["finished"] * 2 + ["interrupted"] * 4
    assert [read_status(result.folder)["state"] for result in stopped] == ["finished"] * 2 + ["interrupted"] * 4
    assert len(load(tmp_path).runs) == 6
    assert_same(run_population(configs, summaries=False), singles)
    assert sizes == [2, 2, 2, 2]


def test_auto_is_what_memory_allows(tmp_path, data_dir, monkeypatch, singles, looped, sizes):
    (config, *_) = configs = six(data_dir, tmp_path)
    free = int(4.5 * capacity.run_bytes(config) / capacity.SHARE)
    monkeypatch.setattr(capacity, "free_memory", lambda device: free)
    assert_same(run_population(configs, summaries=False), singles)
    assert sizes == [4, 2]


def test_the_bytes_of_a_run(tmp_path, data_dir):
    """A linear net under SGD: weights and gradients; Adam: two moments more; a wider batch: its inputs."""
    sizes = {"net__hidden": [], "algos": ()}
    sgd, adam, wide = (
        capacity.run_bytes(config_of(data_dir, tmp_path, name, **sizes, **more))
        for name, more in (("sgd", {}), ("adam", {}), ("sgd", {"benchmark__batch_size": 16}))
    )
    weights = 4 * (64 * 10 + 10)
    assert sgd >= 2 * weights
    assert adam - sgd == pytest.approx(2 * weights, rel=0.02)
    assert wide - sgd == pytest.approx(8 * 4 * 64, rel=0.5)


def test_kinds_are_trained_one_after_the_other(tmp_path, data_dir, looped, sizes):
    configs = [
        config for name in ("sgd", "adam") for config in members(config_of(data_dir, tmp_path, name), seeds=[0, 1])
    ]
    results = run_population([configs[0], configs[2], configs[1], configs[3]], summaries=False)
    assert sizes == [2, 2]
    assert ["-sgd" in result.folder.name for result in results] == [True, False, True, False]


def test_a_kill_in_the_middle_of_a_save_does_not_part_them(tmp_path, data_dir, monkeypatch, singles, looped, sizes):
    """The first runs have saved, the others have not: all go on together from the place that they have in common."""
    configs = six(data_dir, tmp_path, run__checkpoint_every=2)
    save, count = RunFolder.save_checkpoint, [0]

    class Killed(BaseException):
        pass

    def dies(self, *args):
        count[0] += 1
        if count[0] == 6 * 2 + 3:  # the first before anything is learned
            raise Killed
        save(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_checkpoint", dies)
        with pytest.raises(Killed):
            run_population(configs, summaries=False)
    sizes.clear()
    assert_same(run_population(configs, summaries=False), singles)
    assert sizes == [6]


@pytest.mark.parametrize("policy", ["continue", "stop", "reset_network"])
def test_one_that_diverges_disturbs_nobody(tmp_path, data_dir, singles, looped, policy):
    """Without eps, Adam's first step ruins the weights of pixels that are always 0."""
    config = config_of(data_dir, tmp_path, run__on_divergence=policy)
    configs = members(config, seeds=[0, 1], vary={"optimizer.eps": [1e-8, 0.0, 1e-3]})
    alone = {c.run_name(): c.model_copy(deep=True) for c in configs if c.optimizer.options["eps"] > 0}
    for single in alone.values():
        single.run.results_dir = str(tmp_path / "alone")
    results = run_population(configs, summaries=False)
    for config, result in zip(configs, results, strict=True):
        if config.run_name() in alone:
            single = run(alone[config.run_name()], summaries=False)
            assert micro.differences(single.folder, result.folder) == []
        else:
            assert result.status == ("diverged" if policy == "stop" else "finished")
            assert (load(result.folder).events["what"] == "diverged").any()


def test_all_of_them_ruined_by_the_first_step_is_a_mistake(tmp_path, data_dir, looped):
    config = config_of(data_dir, tmp_path, optimizer__eps=0.0)
    with pytest.raises(UserError, match="first step") as single:
        run(config, summaries=False)
    with pytest.raises(UserError) as several:
        run_population(members(config, seeds="1-3"), summaries=False)
    assert str(several.value) == str(single.value)


def test_locks_of_all_are_given_back(tmp_path, data_dir, looped):
    configs = six(data_dir, tmp_path)
    with RunFolder(configs[3]), pytest.raises(RunningElsewhereError):
        run_population(configs, summaries=False)
    with pytest.raises(UserError, match="the same"):
        run_population([*configs, configs[0]], summaries=False)
    for config in configs:
        with RunFolder(config):
            pass


def test_out_of_memory_says_how_many_fit(tmp_path, data_dir, monkeypatch, looped):
    def learn(self, batches):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    monkeypatch.setattr(Population, "learn", learn)
    configs = six(data_dir, tmp_path, run__population=6)
    monkeypatch.setattr(
        capacity, "free_memory", lambda device: int(4.5 * capacity.run_bytes(configs[0]) / capacity.SHARE)
    )
    with pytest.raises(UserError, match=r"out of memory .* set run\.population=4") as error:
        run_population(configs, summaries=False)
    assert "\n" not in str(error.value)
    for config in configs:
        with RunFolder(config):
            pass


def test_images_are_loaded_once(tmp_path, data_dir, monkeypatch, looped):
    from lop.data import sources

    loaded, load = [], sources._load
    monkeypatch.setattr(sources, "_load", lambda *args: loaded.append(args) or load(*args))
    run_population(six(data_dir, tmp_path), summaries=False)
    assert len(loaded) == 1
    with sources.sharing_images():
        parts = [lop.experiment.build(config) for config in six(data_dir, tmp_path)]
        images = {part.stream._splits["test"][0].data_ptr() for part in parts}
    assert len(images) == 1
    assert sources.load_images("digits") is not sources.load_images("digits")


@pytest.mark.skipif(not micro.CONTROL, reason="needs Gymnasium and MuJoCo")
def test_environments_are_taken_in_turns(tmp_path, data_dir):
    def configs(results):
        return members(config_of(data_dir, results, algos=(), benchmark="rl_hopper"), seeds=[0, 1])

    singles = {config.run_name(): run(config, summaries=False).folder for config in configs(tmp_path / "singles")}
    assert_same(run_population(configs(tmp_path / "together"), summaries=False), singles)


def test_threads_and_global_random_state_are_as_before(tmp_path, data_dir):
    torch.set_num_threads(2)
    state = torch.get_rng_state()
    run_population(six(data_dir, tmp_path), summaries=False)
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.get_rng_state(), state)
