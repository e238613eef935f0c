"""The same units give the same outcomes and the same files, wherever they are carried out and whoever dies."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
from pathlib import Path

import pytest

from engine_work import Failing, Files, files_of, n_begun
from loraudit.engines import open_engine, positions_of_shard
from loraudit.errors import DataError
from loraudit.spec.engines import EngineOptions

UNITS = range(40)
DEATHS = {3: 1, 8: 2, 21: 1}


@pytest.fixture
def importable_by_workers(monkeypatch):
    """Workers of Ray import the work by name; they have the environment of the process that started the cluster."""
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    )


def carried_out(folder, deaths, **options):
    folder.mkdir()
    with open_engine(EngineOptions(**options), shared=folder) as engine:
        outcomes = list(engine.map(Files(folder, deaths), UNITS))
        return outcomes, files_of(folder), engine


def test_processes_agree_with_one_process_whoever_dies(tmp_path):
    outcomes, files, _ = carried_out(tmp_path / "serial", {})
    pooled, pooled_files, engine = carried_out(tmp_path / "pool", DEATHS, workers=2)
    assert pooled == outcomes
    assert pooled_files == files
    assert engine.n_repeated == sum(DEATHS.values())


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs loraudit[ray]")
def test_ray_agrees_with_one_process_whoever_dies(tmp_path, importable_by_workers, capfd):
    outcomes, files, _ = carried_out(tmp_path / "serial", {})
    before = signal.getsignal(signal.SIGTERM)
    with contextlib.ExitStack() as stack:
        folder = tmp_path / "ray"
        folder.mkdir()
        options = EngineOptions(engine="ray", workers=2, worker_cpus=1)
        engine = stack.enter_context(open_engine(options, shared=folder))
        assert signal.getsignal(signal.SIGTERM) is before  # Ray would have put its own
        assert list(engine.map(Files(folder, {21: 1}), UNITS)) == outcomes
        assert files_of(folder) == files
        assert {unit: n for unit, n in n_begun(folder).items() if n > 1} == {21: 2}
        assert engine.n_repeated == 1
        # On the same cluster, since starting one takes longer than all of this:
        failing = engine.map(Failing("data", tmp_path), range(500))
        assert [next(failing) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(DataError, match=r"^Records are bad\.\n  line 1\n  line 2$") as raised:
            next(failing)
        assert type(raised.value) is DataError
        assert raised.value.problems == ("line 1", "line 2")
        facts = engine.facts()
    import ray  # not before: a process that has imported Ray already is let to keep its ways

    assert facts.pop("workers") in {1, 2}  # one may have carried out all before the other had started
    assert facts == {
        "engine": "ray",
        "ray": ray.__version__,
        "cluster": "own",
        "nodes": 1,
        "threads_per_worker": 1,
        "gpus_per_worker": 0.0,
    }
    assert not ray.is_initialized()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert capfd.readouterr().out == ""


def test_shards_put_together_are_the_whole(tmp_path):
    whole, files, _ = carried_out(tmp_path / "serial", {})
    folder = tmp_path / "shards"
    folder.mkdir()
    parts = {}
    for shard in ("1/3", "2/3", "3/3"):
        with open_engine(EngineOptions(workers=1, shard=shard), shared=folder) as engine:
            positions = positions_of_shard(shard, len(UNITS))
            parts |= dict(zip(positions, engine.map(Files(folder), (UNITS[i] for i in positions)), strict=True))
    assert [parts[i] for i in range(len(UNITS))] == whole
    assert files_of(folder) == files
