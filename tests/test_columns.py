"""Data that is no picture of one class: several labels, values, feature vectors, tokens."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tljax
from tljax import experiment
from tljax.errors import UserError
from tljax.models import MLP, Linear

WIDTH = 4
# Which of three labels each example has, and the logits of it: decisions 4 and 9 are wrong.
WANTED = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 0]])
LOGITS = np.array([[2, -1, 1], [3, -2, -4], [-1, 2, 0.5], [1, 1, -1]], np.float32)


def judged(logits, head="label", **columns):
    """What `tljax.evaluate` says of a network whose outputs are known.

    The features are ReLU(x) and the outputs are those minus 5, so that x = outputs + 5.
    """
    size = logits.shape[-1]
    table = tljax.Table(input=logits + 5, **columns)
    term = {"label": "binary_cross_entropy", "value": "squared_error"}[head]
    phase = tljax.Phase(
        network=tljax.Network(trunk=MLP(features=(size,)), heads={head: Linear()}),
        streams=[tljax.Stream("source", batch=2)],
        terms={"only": tljax.term(term, head=head)},
    )
    state = tljax.start(phase, {"source": table}, jax.random.key(0))
    assert state.params["heads"][head]["output"]["kernel"].shape == (size, size)
    dense = {"kernel": jnp.eye(size), "bias": jnp.zeros(size)}
    output = {"kernel": jnp.eye(size), "bias": jnp.full(size, -5.0)}
    params = {"trunk": {"dense_0": dense}, "heads": {head: {"output": output}}}
    return tljax.evaluate(phase, state._replace(params=params), table, head=head, batch=3)


class TestEvaluate:
    def test_several_labels_by_hand(self):
        """Ten of twelve decisions are right, with five true ones found, none missed, two invented.

        Label 0: scores 2 3 −1 1 of 1 0 0 1; ranks of the true ones 2 and 3: (½ + ⅔)/2.
        Label 1: −1 −2 2 1 of 0 0 1 1, ranks 1 and 2: 1. Label 2: 1 first: 1.
        F1 of each: 2·2/(2·2 + 1), 1, and 2·1/(2·1 + 1); of all, 2·5/(2·5 + 2).
        """
        values = judged(LOGITS, labels=WANTED)
        assert values == {
            "mean_average_precision": pytest.approx((7 / 12 + 1 + 1) / 3),
            "f1_macro": pytest.approx((4 / 5 + 1 + 2 / 3) / 3),
            "f1_micro": pytest.approx(10 / 12),
            "accuracy": pytest.approx(10 / 12),
        }

    def test_values_by_hand(self):
        """Errors 1 0 −1 2 and 0 0 0 4, of values 0 2 4 2 (squares about 2: 8) and 0 0 4 4 (16)."""
        value = np.array([[0, 0], [2, 0], [4, 4], [2, 4]], np.float32)
        predicted = value + np.array([[1, 0], [0, 0], [-1, 0], [2, 4]], np.float32)
        assert judged(predicted, head="value", value=value) == {
            "mae": pytest.approx((4 / 4 + 4 / 4) / 2),
            "rmse": pytest.approx((np.sqrt(6 / 4) + np.sqrt(16 / 4)) / 2, rel=1e-5),
            "r2": pytest.approx(((1 - 6 / 8) + (1 - 16 / 16)) / 2, abs=1e-5),
        }

    def test_one_value_an_example_is_a_vector(self):
        """Errors 1, 1, 1 and 1 of 0 2 4 2."""
        value = np.array([0, 2, 4, 2], np.float32)
        values = judged(value[:, None] + 1, head="value", value=value)
        assert values == {
            "mae": pytest.approx(1, rel=1e-5),
            "rmse": pytest.approx(1, rel=1e-5),
            "r2": pytest.approx(1 - 4 / 8, rel=1e-4),
        }


class Tokens(nn.Module, kw_only=True):
    """A user's own trunk: the mean of embedded tokens."""

    vocabulary: int = 12
    width: int = 8

    @nn.compact
    def __call__(self, x, *, train, stream=None):
        assert jnp.issubdtype(x.dtype, jnp.integer), "tokens that have become numbers"
        return nn.Embed(self.vocabulary, self.width, name="embed")(x).mean(1)


def config_of(path, term, head, trunk=None, **fields):
    """A config of one term on `train`, judged on `test`, of an npz file."""
    config = experiment.blank()
    config.streams.source = dict(data=f"npz:{path}", split="train", batch=20)
    config.evaluate.source = dict(data=f"npz:{path}", split="test", head=head, batch=16)
    config.network.trunk = trunk or dict(name="mlp", features=(32,))
    config.network.heads = {head: dict(name="linear")}
    config.terms = dict(only=dict(term=term, stream="source", head=head, **fields))
    config.optimizer = dict(name="adam", learning_rate=0.02)
    config.update(steps=150, log_every=50, evaluate_every=150, checkpoint_every=150)
    return config


def halves(columns, count=120):
    """Arrays as `np.savez` names those of two splits."""
    train = {f"train_{name}": array[:count] for name, array in columns.items()}
    return {**train, **{f"test_{name}": array[count:] for name, array in columns.items()}}


def vectors(count=160):
    return np.random.default_rng(0).normal(size=(count, WIDTH)).astype(np.float32)


class TestRun:
    """Files through `experiment.run`, from end to end."""

    def test_several_labels_of_feature_vectors(self, tmp_path):
        """Each label is the sign of a number."""
        x = vectors()
        labels = (x[:, :3] > 0).astype(np.uint8)
        names = np.array(["red", "round", "heavy"])
        np.savez(tmp_path / "a.npz", **halves({"x": x, "labels": labels}), classes=names)
        config = config_of(tmp_path / "a.npz", "binary_cross_entropy", "label")
        values = experiment.run(config, tmp_path / "run")["evaluations"]["source"]
        outputs = experiment.outputs(config, tmp_path / "run")["source"]
        np.testing.assert_array_equal(outputs.several, labels[120:])
        assert outputs.logits.shape == (40, 3) and outputs.labels is None
        assert values["accuracy"] == np.mean((outputs.logits > 0) == labels[120:]) > 0.9
        assert values["mean_average_precision"] > 0.95 and values["f1_macro"] > 0.9
        assert values["examples"] == 40 and "confusion" not in values

    @pytest.mark.parametrize("term", ["squared_error", "huber"])
    @pytest.mark.parametrize("size", [1, 2])
    def test_values_of_feature_vectors(self, tmp_path, term, size):
        """Sums and differences, which the mean misses by a root mean square of √2."""
        x = vectors()
        value = np.stack([x[:, 0] + x[:, 1], x[:, 2] - x[:, 3]], 1)
        value = value[:, 0] if size == 1 else value
        np.savez(tmp_path / "a.npz", **halves({"input": x, "value": value}))
        config = config_of(tmp_path / "a.npz", term, "value")
        values = experiment.run(config, tmp_path / "run")["evaluations"]["source"]
        outputs = experiment.outputs(config, tmp_path / "run")["source"]
        assert outputs.logits.shape == (40, size)
        errors = outputs.logits - value[120:].reshape(40, size)
        assert values["mae"] == pytest.approx(np.abs(errors).mean(), rel=1e-5)
        assert values["rmse"] == pytest.approx(np.sqrt((errors**2).mean(0)).mean(), rel=1e-5)
        assert values["rmse"] < 0.4 and values["r2"] > 0.9

    def test_huber_is_not_the_squared_error(self, tmp_path):
        """δ = 0.1 is reached: an outlier of 1000 does not drag the others along."""
        x = vectors()
        value = x[:, 0].copy()
        value[:12] = 1000
        np.savez(tmp_path / "a.npz", **halves({"input": x, "value": value}))
        errors = {}
        for term, fields in (("squared_error", {}), ("huber", dict(delta=0.1))):
            config = config_of(tmp_path / "a.npz", term, "value", **fields)
            result = experiment.run(config, tmp_path / term)
            errors[term] = result["evaluations"]["source"]["mae"]
        assert errors["huber"] < 1 < 10 < errors["squared_error"]

    def test_classes_of_token_matrices(self, tmp_path):
        """Which of two tokens occurs; the trunk gets integers, all of them as they were."""
        draw = np.random.default_rng(0)
        tokens, label = draw.integers(2, 12, (160, 5)), draw.integers(0, 2, 160)
        tokens[np.arange(160), draw.integers(0, 5, 160)] = label
        np.savez(tmp_path / "a.npz", **halves({"input": tokens, "label": label}))
        trunk = dict(name=f"{__name__}:Tokens", width=6)
        config = config_of(tmp_path / "a.npz", "cross_entropy", "label", trunk)
        result = experiment.run(config, tmp_path / "run")
        assert result["parameters"] == 12 * 6 + 6 * 2 + 2
        outputs = experiment.outputs(config, tmp_path / "run")["source"]
        right = np.mean(outputs.logits.argmax(-1) == label[120:])
        assert result["evaluations"]["source"]["accuracy"] == right > 0.95
        # What features are, from the saved table of embeddings.
        saved = tljax.experiment.start.final(tmp_path / "run", "train")[0]
        table = saved["params"]["trunk"]["embed"]["embedding"]
        np.testing.assert_allclose(
            outputs.features, table[tokens[120:]].mean(1), rtol=1e-4, atol=1e-5
        )

    def test_a_term_that_reads_another_column_than_there_is(self, tmp_path):
        np.savez(tmp_path / "a.npz", **halves({"input": vectors(), "value": vectors()[:, 0]}))
        for term, column in (("binary_cross_entropy", "labels"), ("cross_entropy", "label")):
            config = config_of(tmp_path / "a.npz", term, "value")
            with pytest.raises(UserError, match=rf"^terms\.only: .*{column}") as caught:
                experiment.run(config, tmp_path / "run")
            assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("term", "head", "columns", "what"),
        [
            ("squared_error", "value", dict(value=vectors()[:, 0]), "column of 'value'"),
            ("huber", "value", dict(value=vectors()[:, :1]), "column of 'value'"),
            (
                "binary_cross_entropy",
                "label",
                dict(labels=vectors()[:, :1] > 0),
                "column of 'labels'",
            ),
        ],
    )
    def test_a_head_of_another_width_is_refused(self, tmp_path, term, head, columns, what):
        """Where one number would be broadcast to three outputs."""
        np.savez(tmp_path / "a.npz", **halves({"input": vectors(), **columns}))
        config = config_of(tmp_path / "a.npz", term, head)
        config.network.heads[head].outputs = 3
        says = rf"^evaluate\.source\.head: head '{head}' has 3 outputs; expected 1, one .* {what}"
        with pytest.raises(UserError, match=says):
            experiment.run(config, tmp_path / "run")

    def test_an_evaluation_of_another_width_is_refused_before_the_first_step(self, tmp_path):
        x = vectors()
        for column, wide in (("labels", x > 0), ("value", x)):
            arrays = halves({"input": x, column: wide[:, :2]})
            np.savez(tmp_path / "a.npz", **{**arrays, f"test_{column}": wide[120:, :3]})
            term = dict(labels="binary_cross_entropy", value="squared_error")[column]
            config = config_of(tmp_path / "a.npz", term, "label")
            says = {
                "labels": r"^evaluate\.source: classes: got \['2'\]",
                "value": r"^evaluate\.source\.head: .* has 2 outputs; expected 3, .* of 'value'",
            }[column]
            with pytest.raises(UserError, match=says):
                experiment.run(config, tmp_path / column)
            assert not list((tmp_path / column).glob("checkpoints/*"))
