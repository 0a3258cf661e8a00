"""JAX as the tests want it, and a small run to share."""

import os
from pathlib import Path

# Before jax is imported; the processes that a test starts inherit it. On an accelerator, where one
# is named, what is to be bit for bit the same needs XLA's deterministic operations.
os.environ["JAX_PLATFORMS"] = os.environ.get("TLJAX_TEST_PLATFORM", "cpu")
os.environ["JAX_NUM_CPU_DEVICES"] = "4"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
# Most of the suite's time is compilation, which this halves. The killed runs of test_resume.py and
# the command lines of test_main.py compile as a user's do.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
# Programs of tests are not kept beside a user's; those of a second or more, beside the tests.
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(__file__).parents[1] / ".pytest_cache/programs")

import importlib.metadata
import sys

import pytest
from hypothesis import settings
from shrunk import shrunk_dann

# XLA's newer way to write the loops of a CPU takes three times as long to compile as its older one,
# which later jaxlibs have no more: they end a process that asks for it.
JAXLIB = tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2]))
OLDER = "" if JAXLIB >= (0, 11) else "--xla_cpu_use_fusion_emitters=false"
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
os.environ["XLA_FLAGS"] = OLDER if os.environ["JAX_PLATFORMS"] == "cpu" else DETERMINISTIC

# Compilation makes first examples slow; the same examples in every run keep a failure repeatable.
settings.register_profile("tljax", deadline=None, derandomize=True)
settings.load_profile("tljax")


@pytest.fixture(scope="module", autouse=True)
def no_programs_of_other_files():
    """A process holds a limited number of compiled programs: one of thousands crashes in XLA."""
    yield
    jax = sys.modules.get("jax")
    if jax:
        jax.clear_caches()


@pytest.fixture
def small():
    """Two phases of 4 steps: 6 features and a linear head, on 60 digits of 4×4 pixels each."""
    from tljax.experiment import blank

    config = blank()
    digits = dict(data="digits", size=4)
    config.streams.source = dict(digits, split="train[:60]", batch=8)
    config.streams.target = dict(digits, split="train[600:660]", batch=8)
    config.evaluate.target = dict(digits, split="train[1400:1440]", batch=40)
    config.network.trunk = dict(name="mlp", features=(6,))
    config.phases = ("first", "second")
    config.first = dict(
        flow=("source",), terms=dict(label=dict(term="cross_entropy", stream="source"))
    )
    config.second = dict(
        flow=("target",), terms=dict(label=dict(term="cross_entropy", stream="target"))
    )
    config.optimizer.learning_rate = 0.1
    config.update(steps=4, log_every=2, evaluate_every=4, checkpoint_every=4, figures=False)
    return config


@pytest.fixture
def tiny():
    """A config of a test's own to change; see `shrunk_dann`."""
    return shrunk_dann()


LONG = (
    *("test_hosts", "test_experiment", "test_resume", "test_configs", "test_memory", "test_main"),
    *("test_terms", "test_sweep", "test_adaptation", "test_starting", "test_gramian"),
    *("test_alignment", "test_search"),
)


def pytest_collection_modifyitems(items):
    """Long files first, so that no worker is left alone with one at the end."""
    place = {name: i for i, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG)))
