"""A real Ray cluster of two nodes, of which one is killed in mid-run."""

import os
import threading
import time
from pathlib import Path

import pytest
from in_process import Here
from works import tables, tiny_jobs

from lop.executors import RayCluster, train


def started(node):
    """Ray gives a node 30 seconds to start, which a busy machine may not have."""
    for _ in range(4):
        try:
            return node()
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
    return node()


@pytest.fixture
def cluster(monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is not installed (the extra `cluster`)")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # 15 by default: beside other processes they would stand still
    from ray.cluster_utils import Cluster

    here = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, here)))
    small = {"object_store_memory": 80 * 2**20}
    found = Cluster()
    started(lambda: found.add_node(num_cpus=1, include_dashboard=False, **small))
    found.spare = started(lambda: found.add_node(num_cpus=1, **small))
    yield found
    ray.shutdown()
    found.shutdown()


def test_a_node_dies_and_nothing_is_lost(cluster, tmp_path):
    """Tables equal to those of this process, with folders that all nodes see and with folders of their own."""
    longer = {"benchmark.num_tasks": 24, "run.checkpoint_every": 50}
    jobs = tiny_jobs(tmp_path / "there", overrides=longer)

    def kill_a_node_in_mid_run():
        while not all(any(folder.glob("checkpoint.pt")) for job in jobs for folder in job.folders()):
            time.sleep(0.02)  # both nodes are at work
        cluster.remove_node(cluster.spare, allow_graceful=False)

    killer = threading.Thread(target=kill_a_node_in_mid_run, daemon=True)
    killer.start()
    outcomes = list(RayCluster(address=cluster.address).run(jobs, train))
    killer.join(60)
    assert not killer.is_alive()
    assert sorted(outcome.state for outcome in outcomes) == ["finished"] * 4
    list(Here().run(tiny_jobs(tmp_path / "here", overrides=longer), train))
    assert tables(tmp_path / "there") == tables(tmp_path / "here")
    apart = tiny_jobs(tmp_path / "apart")
    assert {o.state for o in RayCluster(address=cluster.address, shared=False).run(apart, train)} == {"finished"}
    list(Here().run(tiny_jobs(tmp_path / "beside"), train))
    assert tables(tmp_path / "apart") == tables(tmp_path / "beside")
