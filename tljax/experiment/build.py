"""From the fields of a config to what runs: tables, a network, phases. Past this room nobody reads
a field by its name."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np

from tljax import programs
from tljax.checks import NOT_NEGATIVE
from tljax.data import streams
from tljax.data.streams import Reader
from tljax.data.table import Table
from tljax.errors import UserError, unknown, wrong
from tljax.experiment import choice, results
from tljax.experiment.check import Checked, place
from tljax.experiment.fields import ConfigFields, PhaseFields
from tljax.experiment.opening import Opened, check_unseen, open_data, stream_of
from tljax.experiment.preprocessing import another_look
from tljax.experiment.reading import check_vocabulary
from tljax.experiment.weighing import balance_of, mixed, term_of
from tljax.models import Network
from tljax.models import build as build_network
from tljax.models.adapters import parse
from tljax.phase import optimizers, prepare
from tljax.phase.phase import Phase
from tljax.phase.scoring import Split
from tljax.phase.transfer import outside
from tljax.train import placing, starting
from tljax.train.best import Select
from tljax.train.loop import Cadence


class Built(NamedTuple):
    """A config's data, network and phases, ready to run."""

    config: Checked
    phases: Mapping[str, Phase]
    tables: Mapping[str, Table]  # of every stream, also of one that shows another's
    data: Mapping[str, Table]  # of streams that live on the device
    readers: Mapping[str, Mapping[str, Reader]]  # phase -> stream -> what reads it from disk
    splits: Mapping[str, Split]
    cadence: Cadence
    classes: Mapping[str, tuple[str, ...]]  # head -> the names of its outputs, in their order
    tokenizer: str  # of texts, as a tokenizer.json; "": there are none
    selects: Mapping[str, Select]  # phase -> what its best step is chosen by, where one is

    @property
    def network(self) -> Network:
        """The network, the same in all phases, with the adapters of all of them."""
        networks = [phase.network for phase in self.phases.values()]
        return networks[0].adapted({n: each for net in networks for n, each in net.adapters})

    def key(self, phase: str, restart: int = 0) -> jax.Array:
        """The key of a phase; a restart of it has randomness of its own."""
        index = list(self.phases).index(phase)
        key = jax.random.fold_in(jax.random.key(self.config.fields.seed), index)
        return jax.random.fold_in(key, restart) if restart else key


def build(config: Checked, opened: Opened | None = None) -> Built:
    """The data, the network and the phases of a config.

    Args:
      config: checked.
      opened: what other runs have opened; added to.

    Raises:
      UserError: a mistake in the config or its data.
    """
    opened, fields = opened or Opened({}, {}), config.fields
    programs.keep(fields.compiled_dir)
    programs.make_room()
    tables, splits, attributes, classes_of, tokenizer = open_data(config, opened)
    known = [*tables.values(), *(split.table for split in splits.values())]
    classes = max((len(table.classes) for table in known if table.label is not None), default=0)
    net = network_of(config, classes)
    check_vocabulary(tokenizer, net.trunk)
    heads = dict(net.heads.modules)
    for split in splits.values():
        results.check_width(split, getattr(heads.get(split.head), "outputs", None))
    phases = {
        name: _phase(name, of_phase, config, net, tables, attributes, tokenizer)
        for name, of_phase in config.phases.items()
    }
    data = {}
    for name, table in tables.items():
        if table.resident and not fields.streams[name].of:
            if id(table) not in opened.placed:
                streams.check_finite(table.input, f"streams.{name}")
                opened.placed[id(table)] = jax.device_put(table)
            data[name] = opened.placed[id(table)]
    readers = {
        name: readers_of(phase, index, tables, fields)
        for index, (name, phase) in enumerate(phases.items())
    }
    cadence = Cadence(
        log=fields.log_every,
        evaluate=fields.evaluate_every,
        checkpoint=fields.checkpoint_every,
        dispatch=fields.steps_per_dispatch,
    )
    check_unseen(splits, tables, {name: phase.streams for name, phase in phases.items()})
    selects = {name: _select(name, config) for name in phases if config.phases[name].select.by}
    built = Built(
        *(config, phases, tables, data, readers, splits, cadence, classes_of, tokenizer, selects)
    )
    if len(phases) > 1:
        _check_phases(built)
    return built


def _select(phase: str, config: Checked) -> Select:
    """What a phase's best step is chosen by, if it may be."""
    fields, field = config.phases[phase].select, place(phase, "select.by")
    evaluation = choice.readable(fields.by, config.plain, field)
    metric = fields.by.partition("/")[2]
    if (config.fields.evaluate[evaluation].phase or list(config.phases)[-1]) != phase:
        expected = f"an evaluation of this phase: evaluate.{evaluation}.phase={phase!r}"
        raise wrong(field, fields.by, expected)
    if not metric:
        raise wrong(field, fields.by, f"EVALUATION/METRIC, as '{evaluation}/loss'")
    return Select(evaluation, metric, choice.lower(fields.by), fields.patience, field)


def _check_phases(built: Built) -> None:
    """Refuses what a later phase or its evaluations lack: better said now than then."""
    earlier: Any = {}  # phase -> shapes; None from where a phase has what is not known yet
    for name, phase in built.phases.items():
        if phase.prepare or any(outside(origin) for _, origin in phase.start):
            earlier = None
        if phase.prepare:
            continue
        with place_errors(name):
            read = (flowing(built, name), built.readers[name])
            before = earlier and handed(built, name, earlier, shapes=True)
            shapes = starting.check(phase, *read, built.key(name), before)
        if earlier is not None:
            earlier[name] = results.with_heads(results.carried(earlier), shapes)
            splits = [split for split in built.splits.values() if split.phase == name]
            results.check_splits(built.network, splits, earlier[name])


@contextmanager
def place_errors(phase: str) -> Iterator[None]:
    """Within it a mistake in a field of a phase is named with the phase."""
    try:
        yield
    except UserError as error:
        field = re.split(r"[:.\\[]", str(error), maxsplit=1)[0]
        if phase == "train" or field not in PhaseFields.model_fields:
            raise
        raise UserError(f"{phase}.{error}") from error.__cause__


def handed(
    built: Built, phase: str, earlier: Mapping[str, Any], shapes: bool = False
) -> dict[str, Any]:
    """The variables of earlier phases as a phase starts from them: what it does not adapt further
    is merged.

    Raises:
      UserError: what it starts from has a bottleneck that it lacks.
    """
    mine, start = dict(built.phases[phase].network.adapters), built.phases[phase].start
    rest = {name: each for name, each in built.network.adapters if name not in mine}
    effective, merged = built.network.adapted(rest).effective, {}
    for name, variables in earlier.items():
        params = variables["params"]
        params = jax.eval_shape(effective, params) if shapes else effective(params)
        merged[name] = {**variables, "params": params}
        left = [each for each in params.get("adapters", {}) if each not in mine]
        if left and name in ({origin for _, origin in start} or list(earlier)[-1:]):
            expected = f"also {left[0]!r} of phase {name!r}, which cannot be merged"
            raise wrong("adapters", list(mine), expected)
    return merged


def flowing(built: Built, phase: str) -> dict[str, Table]:
    """The tables on the device that a phase reads."""
    bases = {stream.base for stream in built.phases[phase].streams.values()}
    return {name: table for name, table in built.data.items() if name in bases}


def network_of(config: Checked, classes: int) -> Network:
    """The network, with the adapters of all phases; a bank of neighbours that gives no number has
    an output for each class."""
    fields = config.fields
    adapters: dict[str, Any] = {}
    for phase, of_phase in config.phases.items():
        for name, adapter in parse(of_phase.adapters, place(phase, "adapters")).items():
            if adapters.setdefault(name, adapter) != adapter:
                expected = "the same in every phase, or another name"
                raise wrong(place(phase, f"adapters.{name}"), of_phase.adapters[name], expected)
    heads = {
        name: {"outputs": classes, **head}
        if isinstance(head, Mapping) and head.get("name") == "neighbours"
        else head
        for name, head in fields.network.heads.items()
    }
    return build_network(
        fields.network.stems,
        fields.network.trunk,
        heads,
        precision=fields.precision,
        remat=fields.remat,
    ).adapted(adapters)


def _phase(
    name: str,
    fields: PhaseFields,
    config: Checked,
    net: Network,
    tables: Mapping[str, Table],
    attributes: Mapping[str, np.ndarray],
    tokenizer: str,
) -> Phase:
    """A phase from its fields."""
    named, top = config.fields.streams, config.fields
    specs = []
    for stream in fields.flow or tuple(named):
        if stream not in named:
            raise unknown(place(name, "flow"), stream, named)
        specs.append(stream_of(stream, named[stream], f"streams.{stream}", config, tokenizer))
    if not fields.terms and fields.steps:
        expected = "at least one term: dict(NAME=dict(term=..., weight=...))"
        raise wrong(place(name, "terms"), fields.terms, expected)
    parsed = {
        term: term_of(term, of_term, place(name, f"terms.{term}"), tables)
        for term, of_term in fields.terms.items()
    }
    tasks = tuple(fields.balance.get("tasks", ()))
    parsed = mixed(parsed, fields.mixing, tasks, tables, place(name, "mixing"))
    for i, (_, factor) in enumerate(fields.train):
        NOT_NEGATIVE.fit(factor, place(name, f"train[{i}]"))
    if len(dict(fields.train)) < len(fields.train):
        raise wrong(place(name, "train"), fields.train, "each pattern once")
    for i, (_, origin) in enumerate(fields.start):
        if not isinstance(origin, str):
            expected = (
                "'fresh', an earlier phase, 'run:WORKDIR', 'weights:FILE', 'hf:REPO' or 'timm:NAME'"
            )
            raise wrong(place(name, f"start[{i}]"), origin, expected)
    batches = {spec.name: spec.batch for spec in specs}
    mesh = {"data": top.mesh.data, "shard": top.mesh.shard}
    with place_errors(name):
        return Phase(
            network=net.adapted({n: each for n, each in net.adapters if n in fields.adapters}),
            streams=specs,
            terms=parsed,
            optimizer=optimizers.parse(fields.optimizer, "optimizer"),
            steps=fields.steps,
            train=dict(fields.train),
            average=fields.average,
            balance=balance_of(fields.balance),
            start=fields.start,
            prepare=prepare.parse(fields.prepare, "prepare"),
            tables=attributes,
            statistics=top.statistics,
            freeze_statistics=fields.freeze_statistics,
            stochastic_norm=fields.stochastic_norm,
            accumulate=top.accumulate,
            mesh=placing.mesh(mesh, batches, top.accumulate),
        )


def readers_of(
    phase: Phase, index: int, tables: Mapping[str, Table], fields: ConfigFields
) -> dict[str, Reader]:
    """What reads the streams that are not on the device; one `of` another by a view of its own."""
    readers = {}
    for name, stream in phase.streams.items():
        table, of = tables[name], fields.streams[name]
        if not table.resident:
            own = (fields.seed + streams.identity(f"{stream.base}/{index}")) % 2**31
            read = (stream.batch, own, jax.process_index(), jax.process_count())
            readers[stream.base] = streams.reader(table, *read)
            if stream.of and of.view:
                table = another_look(table, of, f"streams.{name}")
                readers[name] = streams.reader(table, *read, looks=streams.identity(name))
    return readers
