"""A trained model, read from the directory that a run has left; no training data is needed."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from tljax.bind import Bound
from tljax.data.table import Table
from tljax.errors import unknown, wrong
from tljax.experiment import origins, results
from tljax.experiment import workdir as workdirs
from tljax.experiment.build import network_of
from tljax.experiment.check import check
from tljax.experiment.opening import elsewhere
from tljax.phase.evaluate import Outputs, Split, check_fit, outputs, score
from tljax.phase.phase import Stream


class Model(NamedTuple):
    """A network with the variables that a run ended with."""

    network: Any  # an unbound `models.Network`
    variables: dict[str, Any]  # {"params", "batch_stats"}
    classes: dict[str, tuple[str, ...]]  # head -> the names of its outputs, in their order

    def outputs(
        self,
        inputs: Any,
        head: str = "label",
        *,
        transforms: Sequence[Bound] = (),
        stem: str = "",
        statistics: str | None = None,
        batch: int = 256,
    ) -> Outputs:
        """The outputs `[n, outputs]` of a head and the features `[n, features]` of inputs.

        Args:
          inputs: `[n, ...]`, as the network was trained on: images uint8 or float in [0, 1].
          head: of the network; "" for the features alone.
          transforms: what the inputs passed in training that belongs to them, `standardise` say.
          stem: the stem that they pass.
          statistics: the stream whose batch statistics are used, where each has its own.
          batch: examples at a time.

        Raises:
          UserError: inputs, a head or a stem that do not fit.
        """
        stream = Stream("inputs", batch, tuple(transforms), stem)
        split = Split("inputs", Table(input=inputs, field="inputs"), stream, head, statistics)
        check_fit(self.network, self.variables, split)
        params, batch_stats = self.variables["params"], self.variables["batch_stats"]
        return outputs(self.network, params, batch_stats, split)

    def predict(self, inputs: Any, head: str = "label", **how: Any) -> np.ndarray:
        """The probability of every class, `[n, classes]`: the softmax of `outputs`."""
        return np.asarray(jax.nn.softmax(self.outputs(inputs, head, **how).logits))

    def features(self, inputs: Any, **how: Any) -> np.ndarray:
        """The trunk's features, `[n, features]`."""
        return self.outputs(inputs, "", **how).features


def load(workdir: str | os.PathLike, phase: str = "") -> Model:
    """The model that a run, or a member of a sweep, has left in its directory.

    Args:
      workdir: of a run that has ended.
      phase: whose end it is; "": the last one's.

    Raises:
      UserError: no run there, one that has not ended, or damaged variables.
    """
    workdir = Path(workdir)
    config = check(workdirs.recorded(workdir).config)
    result = workdirs.result(workdir)
    if result is None:
        raise wrong("workdir", str(workdir), "the directory of a run that has ended")
    finals = origins.finals(workdir, config.phases)
    if phase and phase not in finals:
        raise wrong("phase", phase, f"one of {list(finals)}")
    classes = workdirs.classes(workdir)
    for name, evaluation in result["evaluations"].items():
        if "classes" in evaluation:
            names = evaluation["classes"]  # how many, where they are mere numbers
            names = map(str, range(names)) if isinstance(names, int) else names
            classes.setdefault(config.fields.evaluate[name].head, tuple(names))
    network = network_of(config, max(map(len, classes.values()), default=0))
    final = finals[phase or list(finals)[-1]]
    return Model(network, {**final, "params": network.effective(final["params"])}, classes)


def evaluate(
    workdir: str | os.PathLike, data: str, split: str = "all", like: str = "", **fields: Any
) -> dict[str, Any]:
    """What a run that has ended is worth on other data; nothing is trained or written.

    Args:
      workdir: of the run.
      data: a source as in a config, `folder:NEW`. Classes meet those of the run by name.
      split: of the data, in TFDS's grammar.
      like: the evaluation of the run whose preprocessing, head and readout are taken; "": the
        first with labels, or else the first.
      **fields: others of the evaluation, as `labelled=False`.

    Returns:
      What an evaluation has in `result.json`.

    Raises:
      UserError: no run there, one that has not ended, data that do not fit.
    """
    workdir = Path(workdir)
    before = workdirs.recorded(workdir).config
    known = before["evaluate"]
    if like and like not in known:
        raise unknown("--like", like, known)
    like = like or next(
        (name for name in known if known[name].get("labelled", True)), next(iter(known))
    )
    changed = {
        **known[like],
        "data": data,
        "split": split,
        "calibrate": "",
        "per_class": None,
        "skip": 0,
    }
    changed |= fields
    config = check({**before, "evaluate": {like: changed}})
    model, reached = load(workdir, config.fields.evaluate[like].phase), workdirs.result(workdir)
    classes = workdirs.kept(workdir).get(f"evaluate.{like}", {}).get("classes", ())
    if isinstance(classes, int):
        classes = model.classes.get(config.fields.evaluate[like].head, ())
    judged = elsewhere(config, like, classes)
    results.check_splits(model.network, [judged], model.variables)
    params, batch_stats = model.variables["params"], model.variables["batch_stats"]
    found = outputs(model.network, params, batch_stats, judged)
    gamma = (reached or {})["evaluations"][like].get("gamma", 0.0)
    return results.evaluation(judged, found, score(found, judged, gamma))
