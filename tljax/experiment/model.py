"""A trained model, read from the directory that a run has left; no training data is needed."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from tljax.data.table import TARGETS
from tljax.data.texts import of_list
from tljax.errors import unknown, wrong
from tljax.experiment import origins, results
from tljax.experiment import workdir as workdirs
from tljax.experiment.build import network_of
from tljax.experiment.check import Checked, check
from tljax.experiment.opening import elsewhere
from tljax.phase import evaluate as judging
from tljax.phase.scoring import READOUTS, Outputs, Split, best_spans, class_scores, competing, score

OF_DATA = ("data", "split", "labelled", "stratified", "where", "classes", "validation",
    "calibrate", "per_class", "skip", "seed")  # fmt: skip
"""Fields of an evaluation that say what is judged, not what happens to its inputs."""
BLIND: dict[str, Any] = {"labelled": False, "classes": None, "where": {}}


class Model(NamedTuple):
    """A network with the variables that a run ended with, and what its inputs pass.

    Inputs are an array `[n, ...]`, a list of picture files or, of a run on texts, of texts or pairs
    of them, a `tljax.Table`, or a source as in a config, "folder:NEW". They pass what those of an
    evaluation of the run pass (`preprocessing`); `**fields` are fields of an evaluation that differ
    from it, `size=64` or `head="domain"`.
    """

    network: Any  # an unbound `models.Network`
    variables: dict[str, Any]  # {"params", "batch_stats"}
    classes: dict[str, tuple[str, ...]]  # head -> the names of its outputs, in their order
    config: Checked  # of the run, with the one evaluation that inputs pass as
    kept: Mapping[str, Any]  # what is known of the run's data

    @property
    def like(self) -> str:
        """The evaluation that inputs pass as."""
        return next(iter(self.config.fields.evaluate))

    @property
    def preprocessing(self) -> dict[str, Any]:
        """What inputs pass: the fields of the evaluation that do not say what it judges."""
        fields = self.config.fields.evaluate[self.like].model_dump(mode="json")
        return {name: value for name, value in fields.items() if name not in OF_DATA}

    def split(self, inputs: Any, **fields: Any) -> Split:
        """Inputs as they are shown to the network, batch by batch.

        Raises:
          UserError: inputs, a head or a stem that do not fit.
        """
        config = self.changed(**{"split": "all", **fields}).config
        if isinstance(inputs, list) and config.fields.tokenizer.file:
            inputs = of_list(inputs, f"evaluate.{self.like}")
        split = elsewhere(config, self.like, inputs, self._classes(config))
        results.check_splits(self.network, [split], self.variables)
        return split

    def changed(self, **fields: Any) -> "Model":
        """The model with other fields of the evaluation that inputs pass as."""
        plain = self.config.plain
        section = {**plain["evaluate"][self.like], **fields}
        return self._replace(config=check({**plain, "evaluate": {self.like: section}}))

    def _classes(self, config: Checked) -> tuple[str, ...]:
        """The names that an evaluation of the run has for its classes."""
        names = self.kept.get(f"evaluate.{self.like}", {}).get("classes", ())
        head = self.classes.get(config.fields.evaluate[self.like].head, ())
        return head if isinstance(names, int) or not names else tuple(names)

    def outputs(self, inputs: Any, head: str | None = None, **fields: Any) -> Outputs:
        """The outputs `[n, outputs]` of a head and the features `[n, features]` of inputs."""
        fields = BLIND | fields | ({} if head is None else {"head": head})
        return judging.outputs(self.network, *self.of_network(), self.split(inputs, **fields))

    def predict(self, inputs: Any, head: str | None = None, **fields: Any) -> np.ndarray:
        """The probability of every class, `[n, classes]`; see `read`."""
        fields = BLIND | fields | ({} if head is None else {"head": head})
        split = self.split(inputs, **fields)
        read, at = [], 0
        for logits, _ in self.batches(split):
            read.append(self.read(split, logits, at))
            at += len(logits)
        return np.concatenate(read)

    def features(self, inputs: Any, **fields: Any) -> np.ndarray:
        """The trunk's features, `[n, features]`."""
        return self.outputs(inputs, "", readout="logits", **fields).features

    def batches(self, split: Split) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The outputs and features of a split, a batch at a time."""
        left = len(split.table)
        for pair in judging.batches(self.network, *self.of_network(), split):
            logits, features = jax.device_get(pair)
            yield logits[:left], features[:left]
            left -= len(logits)

    def read(self, split: Split, logits: np.ndarray, start: int = 0) -> np.ndarray:
        """Outputs of the examples from `start` on as probabilities `[n, classes]`: their softmax,
        of classes that compete; or the logistic function of each, where an example may have
        several; values as they are; of spans the first place and the last."""
        kind = self.kind(split)
        if kind == "value":
            return logits
        if kind == "span":
            mask = split.table.mask
            mask = None if mask is None else np.asarray(mask)[start : start + len(logits)]
            return best_spans(Outputs(logits, logits, None, mask=mask))
        if kind == "labels":
            return np.asarray(jax.nn.sigmoid(logits))
        scores = class_scores(Outputs(logits, logits, None), split)
        among = np.isin(np.arange(scores.shape[-1]), competing(split, scores.shape[-1]))
        return np.asarray(jax.nn.softmax(np.where(among, scores, -np.inf).astype(np.float32)))

    def kind(self, split: Split) -> str:
        """What the outputs are of: "label", one class an example; "labels", several; "value";
        "span"."""
        if split.readout == "span":
            return "span"
        if split.readout == "attributes":
            return "labels"
        columns = set(self.kept.get(f"evaluate.{self.like}", {}).get("columns", ())) & {*TARGETS}
        if not columns or split.head != self.config.fields.evaluate[self.like].head:
            columns = {column for each in self.kept.values() for column in each.get("columns", ())}
            columns -= {"labels", "value"} if "label" in columns else set()
        return next((kind for kind in ("labels", "value") if kind in columns), "label")

    def names(self, split: Split, outputs: int) -> tuple[str, ...]:
        """What the outputs, as `read`, are called; numbers where they have no names."""
        of_table = READOUTS[split.readout] and split.readout != "attributes"
        names = split.table.classes if of_table else self.classes.get(split.head, ())
        return names if len(names) == outputs else tuple(map(str, range(outputs)))

    def of_network(self) -> tuple[Any, Any]:
        """Parameters and batch statistics, as functions of a network take them."""
        return self.variables["params"], self.variables["batch_stats"]


def load(workdir: str | os.PathLike, phase: str = "", like: str = "") -> Model:
    """The model that a run, or a member of a sweep, has left in its directory.

    Args:
      workdir: of a run that has ended.
      phase: whose end it is; "": that of the evaluation `like`, or else the last.
      like: the evaluation that inputs pass as; "": the first of the phase with labels, or else
        the first.

    Raises:
      UserError: no run there, one that has not ended, an unknown evaluation, damaged variables.
    """
    workdir = Path(workdir)
    config = check(workdirs.recorded(workdir).config)
    result, known = workdirs.result(workdir), config.fields.evaluate
    if result is None:
        raise wrong("workdir", str(workdir), "the directory of a run that has ended")
    if like and like not in known:
        raise unknown("like", like, known)
    finals = origins.finals(workdir, config.phases)
    if phase and phase not in finals:
        raise wrong("phase", phase, f"one of {list(finals)}")
    phases = {name: each.phase or list(finals)[-1] for name, each in known.items()}
    phase = phase or phases.get(like, list(finals)[-1])
    like = like or min(known, key=lambda name: (phases[name] != phase, not known[name].labelled))
    classes = workdirs.classes(workdir)
    for name, evaluation in result["evaluations"].items():
        if "classes" in evaluation:
            names = evaluation["classes"]  # how many, where they are mere numbers
            names = map(str, range(names)) if isinstance(names, int) else names
            classes.setdefault(known[name].head, tuple(names))
    network = network_of(config, max(map(len, classes.values()), default=0))
    alone = {
        **config.plain["evaluate"][like],
        "calibrate": "",
        "where": {},
        "per_class": None,
        "skip": 0,
    }
    own = config.plain["tokenizer"]
    if (workdir / workdirs.TOKENIZER).exists():
        own = {**own, "file": str((workdir / workdirs.TOKENIZER).resolve())}
    config = check({**config.plain, "evaluate": {like: alone}, "tokenizer": own})
    final = {**finals[phase], "params": network.effective(finals[phase]["params"])}
    return Model(network, final, classes, config, workdirs.kept(workdir))


def evaluate(
    workdir: str | os.PathLike, data: str, split: str = "all", like: str = "", **fields: Any
) -> dict[str, Any]:
    """What a run that has ended is worth on other data; nothing is trained or written.

    Args:
      workdir: of the run.
      data: a source as in a config, `folder:NEW`. Classes meet those of the run by name.
      split: of the data, in TFDS's grammar.
      like: the evaluation of the run whose preprocessing, head and readout are taken; see `load`.
      **fields: others of the evaluation, as `labelled=False`.

    Returns:
      What an evaluation has in `result.json`.

    Raises:
      UserError: no run there, one that has not ended, data that do not fit.
    """
    model = load(workdir, fields.get("phase", ""), like)
    judged = model.split(data, split=split, **fields)
    found = judging.outputs(model.network, *model.of_network(), judged)
    reached = workdirs.result(Path(workdir)) or {}
    gamma = reached["evaluations"][model.like].get("gamma", 0.0)
    return results.evaluation(judged, found, score(found, judged, gamma))
