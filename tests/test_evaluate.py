"""What outputs are worth: every readout on numbers worked by hand, classes that compete, γ."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import tljax
from tljax import experiment
from tljax.data import transforms
from tljax.errors import UserError
from tljax.experiment import results
from tljax.metrics import validators
from tljax.phase import evaluate, rehearsal, scoring
from tljax.phase.scoring import Outputs, Split, score

NAMES = ("ant", "bee", "cat", "dog")
# Three attributes of four classes; the rows have the lengths √2, 1, √3 and 2.
ROWS = np.array([[1, 1, 0], [0, 0, 1], [1, 1, 1], [0, 2, 0]], np.float32)
BITS = np.array([[1, 1, 0], [0, 0, 1], [1, 1, 1], [0, 1, 0]], np.float32)


def split(labels, readout="logits", semantics=None, **fields):
    labels = None if labels is None else np.asarray(labels, np.int32)
    length = 4 if labels is None else len(labels)
    images = np.zeros((length, 1, 1, 1), np.uint8)
    table = tljax.Table(input=images, label=labels, classes=NAMES)
    stream = tljax.Stream("judged", 4)
    return Split("judged", table, stream, readout=readout, semantics=semantics, **fields)


def outputs_of(logits, labels):
    logits = np.asarray(logits, np.float32)
    labels = None if labels is None else np.asarray(labels, np.int32)
    return Outputs(logits, np.zeros((len(logits), 2), np.float32), labels)


def judged(logits, labels, *arguments, gamma=0.0, **fields):
    return score(outputs_of(logits, labels), split(labels, *arguments, **fields), gamma)


class TestReadouts:
    def test_logits_by_hand(self):
        """Predicted 0, 0, 1 of 0, 0, 0: two of three. Class 3 is right: per class (⅔ + 1)/2.

        The last example's loss is log(1 + 3e⁻²), the others' log(e + 3) − 1, twice, and log(e + 3).
        """
        logits = [[1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 2]]
        values = judged(logits, [0, 0, 0, 3])
        assert values["accuracy"] == 0.75
        assert values["per_class_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
        log = np.log(np.e + 3)
        wanted = (2 * (log - 1) + log + np.log1p(3 * np.exp(-2))) / 4
        assert values["loss"] == pytest.approx(wanted, rel=1e-6)
        assert list(values) == ["accuracy", "per_class_accuracy", "loss"]

    def test_compatibility_is_the_inner_product_and_cosine_forgets_lengths(self):
        """[2, 1, 0]: products 3, 0, 3, 2; cosines (× √5) 2.12, 0, 1.73, 1.

        [1, 2, 0]: products 3, 0, 3, 4; cosines 2.12, 0, 1.73, 2.
        """
        z = [[2, 1, 0], [1, 2, 0]]
        scores = scoring.class_scores(outputs_of(z, [0, 0]), split([0, 0], "compatibility", ROWS))
        np.testing.assert_array_equal(scores, [[3, 0, 3, 2], [3, 0, 3, 4]])
        scores = scoring.class_scores(outputs_of(z, [0, 0]), split([0, 0], "cosine", ROWS))
        wanted = np.array([[3 / 2**0.5, 0, 3 / 3**0.5, 1], [3 / 2**0.5, 0, 3 / 3**0.5, 2]])
        np.testing.assert_allclose(scores, wanted / 5**0.5, rtol=1e-5)
        assert judged(z, [0, 3], "compatibility", ROWS)["accuracy"] == 1.0
        assert judged(z, [0, 3], "cosine", ROWS)["accuracy"] == 0.5  # the second is an ant

    def test_attributes_in_doubt_are_read_as_classes_by_dap(self):
        """Seen are 0 and 1, of which one has each attribute: priors of ½, which change nothing.

        Each attribute of a class that log-odds of ±3 speak against costs 3. [3, −3, −3] says 100:
        110 differs in one place, 001, 111 and 010 in two.
        """
        fields = dict(unseen=(2, 3))
        logits = [[3, -3, -3], [-3, 3, -3], [-3, -1, 3]]
        scores = scoring.class_scores(
            outputs_of(logits, [0, 3, 1]), split([0, 3, 1], "dap", BITS, **fields)
        )
        np.testing.assert_allclose(scores[0] - scores[0, 0], [0, -3, -3, -3], rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(scores.argmax(-1), [0, 3, 1])

    def test_dap_takes_its_prior_from_seen_classes_alone(self):
        """Attribute 0 is of all seen classes (0 and 2): it says nothing, and counts as ½."""
        fields = dict(unseen=(1, 3))
        one = scoring.class_scores(outputs_of([[1, 1, 1]], [0]), split([0], "dap", BITS, **fields))
        other = BITS.copy()
        other[[1, 3]] = 1 - other[[1, 3]]
        two = scoring.class_scores(outputs_of([[1, 1, 1]], [0]), split([0], "dap", other, **fields))
        np.testing.assert_allclose(one[:, [0, 2]], two[:, [0, 2]], rtol=1e-6)
        # Attribute 2 is of one of the two: its prior is ½. With 0, 1 and 2 seen it would be ⅔.
        three = scoring.class_scores(
            outputs_of([[1, 1, 1]], [0]), split([0], "dap", BITS, unseen=(3,))
        )
        assert np.abs(three - one).max() > 0.1

    def test_conse_by_hand(self):
        """Half ant, half cat: ½[1,1,0] + ½[1,1,1] = [1,1,½], nearest to ant by cosine 2/√(2·2.25).

        With `top=1` the first of equals alone counts: [1,1,0], which is ant. The logits of unseen
        classes have no say.
        """
        logits = [[1, -50, 1, 70]]
        fields = dict(unseen=(3,), classes=(0, 1, 2, 3))
        scores = scoring.class_scores(outputs_of(logits, [0]), split([0], "conse", ROWS, **fields))
        wanted = np.array([2, 0.5, 2.5, 2]) / (1.5 * np.array([2, 1, 3, 4]) ** 0.5)
        np.testing.assert_allclose(scores[0], wanted, rtol=1e-5)
        first = scoring.class_scores(
            outputs_of(logits, [0]), split([0], "conse", ROWS, top=1, **fields)
        )
        np.testing.assert_allclose(
            first[0], np.array([2, 0, 2, 2]) / (2 * np.array([2, 1, 3, 4])) ** 0.5, rtol=1e-5
        )

    def test_attributes_are_judged_themselves(self):
        """ant is 110: three right; bee is 001: one of three right (the first)."""
        values = judged([[1, 2, -1], [-1, 1, -1]], [0, 1], "attributes", BITS)
        assert values == {"accuracy": pytest.approx(4 / 6)}

    def test_clusters_are_matched_to_classes(self):
        """Clusters 2 2 0 0 1 1 of classes 0 0 1 1 1 3: five right by the best matching."""
        logits = np.eye(3)[[2, 2, 0, 0, 1, 1]]
        values = judged(logits, [0, 0, 1, 1, 1, 3], "clusters")
        assert values["accuracy"] == pytest.approx(5 / 6)
        assert set(values) == {"accuracy", "nmi", "ari"}
        renamed = judged(logits[:, [1, 2, 0]], [0, 0, 1, 1, 1, 3], "clusters")
        assert renamed == pytest.approx(values)


class TestCompeting:
    LOGITS = np.array([[5, 4, 3, 2], [1, 2, 3, 9], [0, 9, 1, 2], [3, 0, 2, 1]])

    def test_classes_that_are_left_out_do_not_compete(self):
        """Among all, 0 wins the first example; without it, 1 does."""
        assert judged(self.LOGITS[:1], [1])["accuracy"] == 0.0
        assert judged(self.LOGITS[:1], [1], classes=(1, 2, 3))["accuracy"] == 1.0
        loss = judged(self.LOGITS[:1], [1], classes=(3, 1, 2))["loss"]
        assert loss == pytest.approx(np.log1p(np.exp(-1) + np.exp(-2)), rel=1e-6)

    def test_among_unseen_ones_alone(self):
        """Of 2 and 3: the first example is 2 (3 > 2), the second 3, the last 2 (2 > 1)."""
        values = judged(self.LOGITS[[0, 1, 3]], [2, 3, 3], unseen=(3, 2), among="unseen")
        assert values["accuracy"] == pytest.approx(2 / 3)
        assert values["per_class_accuracy"] == pytest.approx((1 + 0.5) / 2)
        assert "harmonic" not in values

    def test_seen_unseen_and_harmonic_by_hand(self):
        """Predicted 0, 3, 1, 0 of 0, 3, 1, 2: S = 1, U = ½, H = ⅔.

        At γ = 2 the last example (3 against 2) goes over to the unseen classes and is right; the
        first (5 against 3) ties, and the seen class stands first: 1.9 is clear. H = 1.
        """
        values = judged(self.LOGITS, [0, 3, 1, 2], unseen=(2, 3), gamma=1.9)
        assert (values["seen"], values["unseen"]) == (1.0, 0.5)
        assert values["harmonic"] == pytest.approx(2 / 3)
        assert values["calibrated_seen"] == values["calibrated_unseen"] == 1.0
        assert values["calibrated_harmonic"] == 1.0 and values["gamma"] == 1.9
        assert 1 < values["best_gamma"] < 2  # between the margins 1 and 2
        assert values["ausuc"] == pytest.approx(1.0)
        plain = judged(self.LOGITS, [0, 3, 1, 2], unseen=(2, 3))
        assert plain["calibrated_harmonic"] == plain["harmonic"] == values["harmonic"]
        assert plain["accuracy"] == values["accuracy"] == 0.75

    @pytest.mark.parametrize("among", ["all", "unseen"])
    @pytest.mark.parametrize("readout", ["logits", "compatibility", "cosine", "dap", "conse"])
    def test_the_order_of_the_classes_has_no_say(self, readout, among):
        """Classes renumbered: labels, rows of the table and class logits with them."""
        rng = np.random.default_rng(1)
        order = np.array([2, 0, 3, 1])  # the new number of each class
        labels = rng.integers(0, 4, 40)
        labels = labels[labels > 1] if among == "unseen" else labels
        of_classes = readout in ("logits", "conse")
        logits = rng.normal(size=(len(labels), 4 if of_classes else 3))
        semantics = None if readout == "logits" else (BITS if readout == "dap" else ROWS)
        one = judged(logits, labels, readout, semantics, unseen=(2, 3), among=among, gamma=0.3)
        moved, rows = logits.copy(), semantics
        if of_classes:
            moved[:, order] = logits
        if semantics is not None:
            rows = semantics.copy()
            rows[order] = semantics
        unseen = tuple(order[[2, 3]].tolist())
        other = judged(moved, order[labels], readout, rows, unseen=unseen, among=among, gamma=0.3)
        assert one == pytest.approx(other, rel=1e-5, abs=1e-6)
        assert 0 < one["accuracy"] < 1


class TestCalibration:
    """Through `results.judge`, with outputs that are given instead of a network's."""

    def judge(self, monkeypatch, setting):
        """name -> (split, logits): what each is worth."""
        splits = {n: split._replace(name=n, phase="only") for n, (split, _) in setting.items()}

        def outputs(network, params, batch_stats, split):
            return outputs_of(setting[split.name][1], split.table.label)

        monkeypatch.setattr(results, "outputs", outputs)
        finals = {"only": {"params": {}, "batch_stats": {}}}
        worth = results.judge(None, finals, splits.values())
        return {name: values for name, (_, values) in worth.items()}

    def setting(self, labels):
        rng = np.random.default_rng(0)
        validation = split([0, 1, 0, 1, 0, 1, 0, 1], unseen=(1,), classes=(0, 1))
        test = split(labels, unseen=(2, 3), calibrate="validation")
        shift = np.array([[1.0, 0, 0, 0]])
        return {
            "test": (test, rng.normal(size=(8, 4)) + shift),
            "validation": (validation, rng.normal(size=(8, 4)) + 2 * shift),
        }

    def test_gamma_is_that_of_the_named_evaluation(self, monkeypatch):
        values = self.judge(monkeypatch, self.setting([0, 1, 2, 3, 0, 1, 2, 3]))
        assert values["test"]["gamma"] == values["validation"]["best_gamma"] != 0
        assert values["validation"]["gamma"] == 0
        assert values["test"]["gamma"] != values["test"]["best_gamma"]
        # Whatever the labels of the test are.
        other = self.judge(monkeypatch, self.setting([3, 2, 1, 0, 2, 2, 0, 0]))
        assert other["test"]["gamma"] == values["test"]["gamma"]
        assert other["test"]["best_gamma"] != values["test"]["best_gamma"]
        assert other["validation"] == values["validation"]

    def test_what_is_calibrated_is_the_evaluation_that_asks(self, monkeypatch):
        values = self.judge(monkeypatch, self.setting([0, 1, 2, 3, 0, 1, 2, 3]))
        test, logits = self.setting([0, 1, 2, 3, 0, 1, 2, 3])["test"]
        alone = score(outputs_of(logits, test.table.label), test, values["test"]["gamma"])
        assert values["test"] == alone
        assert alone["calibrated_seen"] < alone["seen"]

    @pytest.mark.parametrize(
        ("other", "needle"),
        [
            (dict(labels=[0, 1]), "an evaluation with labels and unseen"),
            (dict(labels=None, unseen=(1,)), "an evaluation with labels and unseen"),
            (dict(labels=[1, 1], unseen=(1,), among="unseen"), "an evaluation with labels and"),
            (dict(labels=[0, 2], unseen=(2,)), r"without the unseen classes \['cat'\]"),
            (dict(labels=[0, 1, 3], unseen=(1,)), r"without the unseen classes \['dog'\]"),
        ],
    )
    def test_gamma_is_not_chosen_by_the_unseen_classes_themselves(self, other, needle):
        other = split(other.pop("labels"), **other)
        with pytest.raises(UserError, match=f"^evaluate.x.calibrate: got 'judged'; .*{needle}"):
            rehearsal.check_calibration(split([0, 2, 3], unseen=(2, 3)), other, "evaluate.x")


class TestChecks:
    @pytest.mark.parametrize(
        ("labels", "fields", "needle"),
        [
            (
                [2, 3],
                dict(among="unseen"),
                r"x.unseen: got \(\); expected the classes that compete",
            ),
            ([0, 2], dict(unseen=(2,), among="unseen"), r"x.classes: got \['ant'\]; .* unseen"),
            ([0, 1], dict(unseen=(2,)), r"x.unseen: got \['cat'\]; expected some of the classes"),
            ([2, 2], dict(unseen=(2,)), r"x.unseen: got \['cat'\]; expected some .* and not all"),
            ([0, 1], dict(readout="dap", semantics=ROWS), "x.readout: got 'dap'; .* 0 and 1 only"),
        ],
    )
    def test_what_cannot_be_judged_is_refused(self, labels, fields, needle):
        with pytest.raises(UserError, match=f"^evaluate.{needle}"):
            rehearsal.check(split(labels, **fields), "evaluate.x")

    def test_what_can_is_not(self):
        rehearsal.check(split([2, 3], unseen=(2, 3), among="unseen"), "x")
        rehearsal.check(split([2], unseen=(2, 3), among="unseen"), "x")
        rehearsal.check(split([0, 3], "dap", BITS, unseen=(2, 3)), "x")
        rehearsal.check(split(None, unseen=(2, 3)), "x")


class TestWithoutLabels:
    def test_validators_are_reported(self):
        logits = np.random.default_rng(0).normal(size=(4, 4))
        values = judged(logits, None, unseen=(2, 3))
        assert values == {
            "information_maximisation": pytest.approx(
                validators.information_maximisation(logits), rel=1e-5
            ),
            "entropy": pytest.approx(validators.entropy(logits), rel=1e-5),
            "soft_neighbourhood_density": pytest.approx(
                validators.soft_neighbourhood_density(
                    np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
                ),
                rel=1e-4,
            ),
        }
        by_hand = judged(np.zeros((4, 4)), None)  # in no doubt about being in doubt
        assert by_hand["entropy"] == pytest.approx(np.log(4))
        assert by_hand["information_maximisation"] == pytest.approx(0, abs=1e-6)

    def test_a_run_is_judged_without_any_label_and_drawn(self, small, tmp_path):
        """An image file without labels would do: they are never read."""
        rng = np.random.default_rng(0)
        np.savez(tmp_path / "bare.npz", images=rng.integers(0, 255, (30, 4, 4, 1), np.uint8))
        small.evaluate.bare = dict(
            data=f"npz:{tmp_path}/bare.npz", split="all", labelled=False, batch=30
        )
        small.figures = True
        result = experiment.run(small, tmp_path / "run")["evaluations"]
        assert set(result["bare"]) == {
            *("information_maximisation", "entropy", "soft_neighbourhood_density", "examples")
        }
        assert result["target"]["accuracy"] >= 0 and "entropy" not in result["target"]
        drawn = {path.name for path in (tmp_path / "run" / "figures").iterdir()}
        assert "confusion_target.png" in drawn and "confusion_bare.png" not in drawn


def test_outputs_of_a_padded_last_batch_are_those_of_a_whole_one(small):
    """40 examples by 16 and by 40; features are ReLU(x W + b), outputs the head's of them."""
    small.phases = ()
    small.terms = dict(label=dict(term="cross_entropy"))
    del small.first, small.second
    built = experiment.build(experiment.check(small))
    kernel = np.random.default_rng(0).normal(size=(16, 6)).astype(np.float32)
    params = {
        "trunk": {"dense_0": {"kernel": jnp.asarray(kernel), "bias": jnp.full(6, 0.1)}},
        "heads": {"label": {"output": {"kernel": jnp.ones((6, 10)), "bias": jnp.arange(10.0)}}},
    }
    whole = built.splits["target"]
    one = evaluate.outputs(built.network, params, {}, whole)
    images = whole.table.input.reshape(40, -1) / np.float32(255)
    features = np.maximum(images @ kernel + 0.1, 0)
    np.testing.assert_allclose(one.features, features, rtol=1e-4, atol=1e-5)
    wanted = features.sum(-1, keepdims=True) + np.arange(10)
    np.testing.assert_allclose(one.logits, wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(one.labels, whole.table.label)
    pieces = whole._replace(stream=dataclasses.replace(whole.stream, batch=16))
    two = evaluate.outputs(built.network, params, {}, pieces)
    np.testing.assert_allclose(one.logits, two.logits, rtol=1e-5)
    assert len(two.features) == 40
    bare = evaluate.outputs(built.network, params, {}, whole._replace(head=""))
    np.testing.assert_array_equal(bare.logits, one.features)
    # What looks otherwise is said by the same program of the network.
    programs = evaluate._said._cache_size()
    looks = transforms.parse([dict(name="invert")], "transforms")
    shown = dataclasses.replace(whole.stream, name="shown", transforms=looks)
    other = evaluate.outputs(built.network, params, {}, whole._replace(stream=shown))
    assert evaluate._said._cache_size() == programs
    assert np.abs(other.logits - one.logits).max() > 0.1
