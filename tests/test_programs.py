"""What is compiled is kept for later processes, where nobody else writes and nothing is changed."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from tljax import experiment, programs
from tljax.errors import Noticed
from tljax.experiment import grid, group, sweep
from tljax.train import lanes

NAMES = (
    *("jax_compilation_cache_dir", "jax_compilation_cache_max_size"),
    *("jax_enable_compilation_cache", "jax_persistent_cache_min_compile_time_secs"),
)


@pytest.fixture(autouse=True)
def a_user_of_no_cache(monkeypatch, tmp_path):
    """The configuration of a user who has said nothing, and a home of its own."""
    before = {name: getattr(jax.config, name) for name in NAMES}
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(programs, "_ours", set())
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def kept(path):
    """The names of the programs in a directory."""
    return {each.name for each in path.rglob("*-cache")}


def compiled_anew(number):
    """A program that nobody has compiled before in this process."""
    jax.clear_caches()
    jax.jit(lambda x: jnp.sin(x) * number)(jnp.ones(3))


def test_programs_are_kept_in_the_users_own_directory(tmp_path):
    programs.keep()
    compiled_anew(2.5)
    [directory] = (tmp_path / "home/tljax/programs").iterdir()
    assert directory.stat().st_mode & 0o777 == 0o700
    assert any("sin" in name or "lambda" in name for name in kept(directory))
    assert jax.config.jax_compilation_cache_max_size == programs.LARGEST


def test_a_second_process_finds_them_and_trains_the_same(small, tmp_path):
    small.compiled_dir = str(tmp_path / "programs")
    found = []
    for name in ("cold", "warm"):
        jax.clear_caches()
        experiment.run(small, tmp_path / name)
        found.append(kept(tmp_path / "programs"))
    assert found[0] == found[1] and any("train_steps" in name for name in found[0])
    metrics = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("cold", "warm")]
    assert metrics[0] == metrics[1]


def test_a_run_that_resumes_finds_them_too(small, tmp_path, monkeypatch):
    """What was restored is bound to no device, as what was begun: programs of either are others."""
    small.update(compiled_dir=str(tmp_path / "programs"), log_every=1, checkpoint_every=1)
    jax.clear_caches()
    experiment.run(small, tmp_path / "whole")
    before = kept(tmp_path / "programs")
    shown = []

    def killed(self, step):
        shown.append(step)
        if len(shown) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tljax.train.records.Display.advance", killed)
        with pytest.raises(KeyboardInterrupt):
            experiment.run(small, tmp_path / "killed")
    jax.clear_caches()
    experiment.run(small, tmp_path / "killed")
    assert kept(tmp_path / "programs") == before
    results = [(tmp_path / name / "result.json").read_bytes() for name in ("whole", "killed")]
    assert results[0] == results[1]


def test_one_field_turns_it_off_also_after_a_run_that_had_it_on(small, tmp_path):
    small.compiled_dir = str(tmp_path / "programs")
    experiment.build(experiment.check(small))
    compiled_anew(3.5)
    before = kept(tmp_path)
    small.compiled_dir = ""
    experiment.build(experiment.check(small))
    compiled_anew(4.5)
    assert before and kept(tmp_path) == before


def test_what_the_user_has_told_jax_goes_first(tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "theirs"))
    programs.keep()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "theirs")
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_enable_compilation_cache", False)
    programs.keep()
    assert jax.config.jax_compilation_cache_dir is None


def test_a_directory_that_others_may_write_is_not_trusted(tmp_path):
    path = tmp_path / "shared"
    path.mkdir()
    path.chmod(0o777)
    with pytest.warns(Noticed, match="shared: others may write there"):
        programs.keep(str(path))
    assert jax.config.jax_compilation_cache_dir is None


def test_a_place_that_is_no_directory_is_said_and_stops_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.warns(Noticed, match="no compiled programs are kept"):
        programs.keep(str(tmp_path / "file" / "below"))
    assert jax.config.jax_compilation_cache_dir is None


def test_a_damaged_program_is_compiled_again(small, tmp_path):
    small.compiled_dir = str(tmp_path / "programs")
    first = experiment.run(small, tmp_path / "first")
    for path in (tmp_path / "programs").rglob("*-cache"):
        path.write_bytes(path.read_bytes()[:100])
    jax.clear_caches()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        second = experiment.run(small, tmp_path / "second")
    assert first["evaluations"] == second["evaluations"]
    assert any("compilation cache" in str(each.message) for each in said)


def test_cheap_programs_compute_the_same_also_within_others():
    def drawn(key, shape):
        return {"x": jax.random.normal(key, shape)}

    cheap = programs.once(drawn, static_argnums=1)
    key = jax.random.key(3)
    alone, usual = cheap(key, (4, 5))["x"], drawn(key, (4, 5))["x"]
    np.testing.assert_allclose(alone, usual, rtol=2e-6, atol=1e-7)
    within = jax.jit(lambda key: cheap(key, (4, 5))["x"])(key)
    np.testing.assert_allclose(within, usual, rtol=2e-6, atol=1e-7)
    assert cheap.__name__ == "drawn"


def test_programs_are_let_go_before_a_process_has_too_many(small, tmp_path, monkeypatch):
    """XLA ends a process at its limit of mappings, so a run begins with room for its own."""
    cleared = []
    monkeypatch.setattr(jax, "clear_caches", lambda: cleared.append(True))
    experiment.run(small, tmp_path / "first")
    assert not cleared  # a process of few programs keeps them
    monkeypatch.setattr(programs, "FULL", 0.0)
    experiment.run(small, tmp_path / "second")
    assert cleared


def test_a_sweep_whose_members_fit_compiles_its_steps_once(small, tmp_path, monkeypatch):
    """On an accelerator: what is asked for its memory is the program that then runs."""
    one_device = lanes.mesh(jax.local_devices()[:1])
    monkeypatch.setattr(lanes, "mesh", lambda: one_device)
    monkeypatch.setattr(lanes, "batched", lambda: True)
    monkeypatch.setattr(group, "bytes_of_device", lambda: 2**40)
    small.compiled_dir = str(tmp_path / "programs")
    jax.clear_caches()
    sweep.run(small, grid.parse(["seed=0,1,2"]), tmp_path / "run")
    names = [name for name in kept(tmp_path / "programs") if name.startswith("jit_steps-")]
    assert len(names) == len(small.phases), names
