"""The phases of a resolved config, one after another; each goes on where it was killed."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from tljax import assembly, opening, prepare, results, starting
from tljax.train import hosts, loop, placing, step
from tljax.train.checkpoint import Checkpoints
from tljax.train.records import Display, Muted, Records


class Built(NamedTuple):
    """A config's data, network and phases, ready to run."""

    data: opening.Data
    network: Any
    names: tuple[str, ...]  # of the phases
    fields: tuple[Mapping[str, Any], ...]  # of each phase
    config: Mapping[str, Any]

    def phase(self, index: int, restart: int = 0) -> loop.Phase:
        """The phase at `index`; a restart of it has randomness of its own."""
        name, fields = self.names[index], self.fields[index]
        phase = assembly.phase(name, index, fields, self.config, self.data, self.network, restart)
        return phase._replace(name=f"{name}@{restart}") if restart else phase


def build(
    config: Mapping[str, Any],
    opened: dict[str, Any] | None = None,
    placed: dict[int, Any] | None = None,
) -> Built:
    """The data, the network and the fields of each phase of a resolved config.

    Raises:
      UserError: a mistake in the config or its data.
    """
    data = opening.open_data(config, opened, placed)
    net = assembly.network(config, data)
    names = tuple(config["phases"]) or ("train",)
    own = config if config["phases"] else {"train": {}}
    fields = tuple({**config, **own[name]} for name in names)
    built = Built(data, net, names, fields, config)
    for i, each in enumerate(fields):
        prepare.parse(each["prepare"], assembly.place(names[i], "prepare"))
        opening.check_unseen(data, names[: i + 1], [own["flow"] for own in fields[: i + 1]])
        phase = built.phase(i)
        if i and not each["prepare"]:
            starting.check(phase)  # what a later phase lacks is better said now than then
    return built


def finish(
    config: Mapping[str, Any], workdir: Path, display: Display
) -> tuple[Built, results.Variables, dict[str, results.Variables]]:
    """Runs what is left of a run.

    Args:
      config: resolved.
      workdir: has been claimed for it.
      display: where progress is shown.

    Returns:
      What was built, the variables of the first phase's first step, those of every phase's end.
    """
    built = build(config)
    with loop.stop_on_signals() as stop:
        first, finals = phases(built, workdir, display, stop)
    return built, first, finals


class _Run(NamedTuple):
    """Where a run writes and shows what it does, and who may stop it."""

    workdir: Path
    records: Records
    display: Display
    stop: loop.Stop


def phases(
    built: Built, workdir: Path, display: Display, stop: loop.Stop
) -> tuple[results.Variables, dict[str, results.Variables]]:
    """What is left of all phases of a run; see `finish`."""
    records = Records(workdir, built.config["tensorboard"]) if hosts.leader() else Muted()
    run = _Run(workdir, records, display, stop)
    earlier: dict[str, results.Variables] = {}
    first, passed = None, []
    for index, (name, fields) in enumerate(zip(built.names, built.fields, strict=True)):
        best, carried = None, results.carried(earlier)
        for restart in range(fields["restarts"]):
            phase, state = starting.begin(
                built.phase(index, restart), fields, earlier, built.data, built.config["seed"]
            )
            hosts.check_same(state, f"the parameters that phase {name} starts from")
            for stream, arrays in phase.resident.items():
                hosts.check_same(arrays, f"the data of streams.{stream}")
            state = placing.split(state, phase.plan.mesh)
            shared = placing.everywhere((phase.hyper, phase.resident), phase.plan.mesh)
            phase = phase._replace(hyper=shared[0], resident=shared[1])
            anchor = _copied(results.start(state))
            begun = placing.gathered(anchor, phase.plan.mesh)
            first = first or begun
            results.check_splits(
                built.network, built.data.splits, name, results.with_heads(carried, begun)
            )
            passed.append(phase.name)
            if phase.steps:
                of_state = functools.partial(_of_state, built, phase.plan.mesh, name, carried)
                state = _trained(phase, state, anchor, of_state, built.config["keep"], passed, run)
            loss = float(state.totals["loss"])
            if best is None or loss < best[0]:
                best = (loss, placing.gathered(results.variables(state), phase.plan.mesh))
        assert best is not None
        earlier[name] = results.with_heads(carried, best[1])
    run.records.close()
    assert first is not None
    return first, earlier


def _of_state(
    built: Built, mesh: Any, name: str, carried: results.Variables, state: step.State
) -> dict[str, dict[str, float]]:
    """`judge` by the leader of several processes; they gather the state together."""
    variables = placing.gathered(results.variables(state), mesh)
    return judge(built, name, carried, variables) if hosts.leader() else {}


def judge(
    built: Built, name: str, carried: results.Variables, variables: results.Variables
) -> dict[str, dict[str, float]]:
    """The evaluations of a phase, of what its state is judged by."""
    now = {name: results.with_heads(carried, variables)}
    splits = [split for split in built.data.splits.values() if split.phase == name]
    judged = results.judge(built.network, now, splits)
    return {split: values for split, (_, values) in judged.items()}


def _trained(
    phase: loop.Phase,
    start: step.State,
    anchor: results.Variables,
    judge: Callable[[step.State], Mapping[str, Mapping[str, float]]],
    keep: int,
    passed: list[str],
    run: _Run,
) -> step.State:
    """The state at a phase's end, from where its last checkpoint stands."""
    checkpoints = Checkpoints(run.workdir / "checkpoints" / phase.name, keep)
    saved = checkpoints.restore(start)
    state = start if saved is None else saved
    at = int(state.step)
    if at:
        run.display.say(f"phase {phase.name}: resuming at step {at}")
    if at < phase.steps:
        run.records.rewind(passed, at)
        try:
            state = loop.train(
                phase, state, anchor, judge, checkpoints, run.records, run.display, run.stop
            )
        finally:
            checkpoints.wait()
    checkpoints.close()
    return state


@jax.jit
def _copied(tree: Any) -> Any:
    """A copy of what is to outlast a state, which is donated to its first step."""
    return jax.tree.map(jax.numpy.copy, tree)
