"""A phase, its streams and its terms: trees whose leaves are numbers and whose structure is the
program. Two phases share a compiled step exactly where their structures are equal."""

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Self

import jax
import numpy as np
from jax.sharding import Mesh

from tljax.balance import BALANCERS
from tljax.bind import Bound, node, split, static
from tljax.errors import unknown, wrong
from tljax.losses.multitask import uncertainty_weighted
from tljax.phase import optimizers


@node
@dataclasses.dataclass(frozen=True)
class Stream:
    """What flows: batches of a table, through transforms and a stem of the stream's own."""

    name: str = static()
    batch: int = static(64)
    transforms: tuple[Bound, ...] = ()
    stem: str = static("")
    of: str = static("")  # another stream, whose examples it shows through its own transforms
    neighbour: bool = static(False)  # shows, for each of them, one of its nearest neighbours
    balanced: bool = static(False)  # draws all classes equally often
    mix: Bound | None = None  # mixes the examples of a batch, of data.mixing

    @property
    def base(self) -> str:
        """The stream whose data it shows."""
        return self.of or self.name

    def __post_init__(self) -> None:
        if type(self.batch) is not int or self.batch < 1:
            raise wrong(f"streams.{self.name}.batch", self.batch, "an integer of at least 1")
        object.__setattr__(self, "transforms", tuple(self.transforms))


@jax.tree_util.register_pytree_with_keys_class
class Term(Bound):
    """A loss of a view, with its `weight` and, of one whose weight rises, its `ramp`'s γ."""


@node
@dataclasses.dataclass(frozen=True)
class Balance:
    """How the gradients of several tasks are combined; without one they are added."""

    method: Bound  # of a balance.Balancer, or of "uncertainty"
    tasks: tuple[str, ...] = static(())  # names of terms; the others are simply added
    shared: tuple[str, ...] = static(("trunk/**",))  # patterns of what all tasks share


def balance(
    name: str = "sum",
    tasks: Sequence[str] = (),
    shared: Sequence[str] = ("trunk/**",),
    *,
    field: str = "balance",
    **fields: Any,
) -> Balance | None:
    """How tasks are weighed: `balance("pcgrad", tasks=("label", "segments"))`; None of a sum.

    Args:
      name: "sum", "uncertainty" or one of `balance.BALANCERS`.
      tasks: names of terms; (): all.
      shared: patterns of the parameters that all tasks share.
      field: where it was given, for error messages.
      **fields: the method's own.
    """
    kinds = ("sum", "uncertainty", *BALANCERS)
    if name not in kinds:
        raise unknown(f"{field}.name", name, kinds)
    if name not in BALANCERS:
        for key in fields:
            raise unknown(field, key, ("name", "tasks", "shared"))
        method = Bound(uncertainty_weighted)
    else:
        skip = ("state", "losses", "gramian", "key")
        split_fields = split(BALANCERS[name].weigh, fields, field, skip)
        method = Bound(BALANCERS[name], *split_fields)
    return None if name == "sum" else Balance(method, tuple(tasks), tuple(shared))


@node
@dataclasses.dataclass(frozen=True)
class Phase:
    """What a phase of training is.

    Attributes:
      network: an unbound `models.Network`.
      streams: `Stream`s, as a list or by name.
      terms: name -> `Term`; their weighted losses are summed.
      optimizer: from `tljax.optimizer`, or any optax transformation.
      steps: how many; a number, of which the schedules see the part that is done.
      train: pattern -> factor on the learning rate, the first match wins; 0 freezes.
      average: decay of an exponential moving average to evaluate; None keeps none.
      balance: how tasks are weighed against each other.
      start: (pattern, origin) pairs: "fresh", an earlier phase's name; (): the phase before.
      prepare: name -> what is fitted on the features before the first step.
      tables: name -> `[classes, attributes]`, or whatever array terms read.
      statistics: whether batch statistics are of all streams, "joint", or "separate".
      freeze_statistics: None: where no parameter of a module moves, its running statistics are
        used, and stay as they are; True: all are, and stay; False: all move, of frozen modules too.
      stochastic_norm: the probability with which a channel of a batch normalisation takes its
        running statistics (StochNorm); None: it does not.
      accumulate: the parts of a batch, taken one after another.
      mesh: the devices of one run; None: one.
    """

    network: Any = static()
    streams: Any = ()  # Stream by name, once it is made
    terms: Mapping[str, Term] = dataclasses.field(default_factory=dict)
    optimizer: Any = dataclasses.field(
        default_factory=lambda: optimizers.optimizer(learning_rate=0.01)
    )
    steps: Any = 1000.0
    train: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"**": 1.0})
    average: Any = None
    balance: Balance | None = None
    start: tuple[tuple[str, str], ...] = static(())
    prepare: Mapping[str, Bound] = dataclasses.field(default_factory=dict)
    tables: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    statistics: str = static("joint")
    freeze_statistics: bool | None = static(None)
    stochastic_norm: Any = None
    accumulate: int = static(1)
    mesh: Mesh | None = static(None)

    def __post_init__(self) -> None:
        weighed = self.balance
        if weighed is not None:
            tasks = tuple(name for name in self.terms if name in (weighed.tasks or self.terms))
            for task in weighed.tasks:
                if task not in self.terms:
                    raise unknown("balance.tasks", task, self.terms)
            if len(tasks) < 2:
                expected = f"at least two of the terms {list(self.terms)}"
                raise wrong("balance.tasks", weighed.tasks, expected)
            weighed = dataclasses.replace(weighed, tasks=tasks)
        streams: Any = self.streams
        if isinstance(streams, Sequence):
            streams = {stream.name: stream for stream in streams}
        parts = (("streams", Stream, "Stream", streams), ("terms", Term, "term", self.terms))
        for field, kind, made, values in parts:
            for name, value in values.items():
                if not isinstance(value, kind):
                    raise wrong(f"{field}.{name}", value, f"a {kind.__name__}: tljax.{made}(...)")
        for name, stream in streams.items():
            if stream.of in streams:  # it shows the same examples, so as many
                stream = dataclasses.replace(stream, batch=streams[stream.of].batch)
                streams = {**streams, name: stream}
        train = dict(self.train)
        for name, value in {
            # The order of a mapping is part of the structure: sums are taken in it.
            "streams": OrderedDict(streams),
            "terms": OrderedDict(self.terms),
            "prepare": OrderedDict(self.prepare),
            # What is absent is no number, but structure.
            "train": OrderedDict((p, _present(factor)) for p, factor in train.items()),
            "average": _present(self.average),
            "stochastic_norm": _present(self.stochastic_norm),
            "optimizer": optimizers.of(self.optimizer),
            "balance": weighed,
            "start": tuple((pattern, origin) for pattern, origin in self.start),
        }.items():
            object.__setattr__(self, name, value)

    @property
    def separate(self) -> bool:
        """Whether batch statistics belong to each stream by itself."""
        return self.statistics == "separate"

    def changed(self, **fields: Any) -> Self:
        """The phase with other fields."""
        return dataclasses.replace(self, **fields)


def _present(number: Any) -> Any:
    """A number of Python's that is not 0, or any array; else None."""
    return None if isinstance(number, int | float) and number == 0 else number


def numbers(tree: Any) -> Any:
    """A tree with its Python numbers as float32, so that one program serves all their values."""
    return jax.tree.map(lambda x: np.float32(x) if isinstance(x, int | float) else x, tree)
