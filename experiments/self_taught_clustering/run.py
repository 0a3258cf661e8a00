"""Do features learned without labels cluster better than pixels, and does SCAN better than k-means?

python -m experiments.self_taught_clustering.run [--tune] [--seeds 10] [--workdir runs/…]
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import cluster, decomposition, manifold, mixture, neighbors

from experiments import frame, report
from experiments.frame import Collect, Experiment, Plain, Row, Run
from experiments.report import Comparison, Results
from tljax import metrics
from tljax.configs import tasks
from tljax.data import sources

HERE = Path(__file__).parent
TARGET, SOURCE = "train[900:]", "train[:900]"
PIXELS, ALONE, BOTH = "k-means of pixels", "SimCLR of the target, k-means", "SimCLR, k-means"
DEC, FIRST, SCAN = "SimCLR, DEC", "SimCLR, SCAN without self-labels", "SimCLR, SCAN"
SIMPLE = {  # of pixels, and the values of the one number that is tuned
    "spectral clustering": (5, 10, 20, 40),  # neighbours
    "Ward": (3, 5, 10, 20),  # neighbours that may be merged
    "Gaussian mixture": (10, 20, 40),  # principal components
    "t-SNE, k-means": (5, 10, 30, 50),  # perplexity
}
METHODS = (PIXELS, *SIMPLE, ALONE, BOTH, DEC, FIRST, SCAN)
STRONG = (dict(name="affine", degrees=20.0, scale=0.25, shear=0.3, shift=0.125),)
FEATURES = {
    f"{name} views, temperature {temperature}": (views, temperature)
    for name, views in (("weak", tasks.VIEWS), ("strong", STRONG))
    for temperature in (0.5, 0.2)
}


def reads(evaluation: str) -> dict[str, str]:
    return {metric: f"{evaluation}/{metric}" for metric in ("accuracy", "nmi", "ari")}


def clustered(config: Any, target: str, *phases: str) -> None:
    """A shipped config that clusters `target`, judged at its end alone; with some phases alone."""
    frame.judge_at_the_end(config, 10_000)
    if phases:
        config.phases = phases
        del config.represent
    config.streams.target.split = config.evaluate.target.split = target


def pixels(target: str = TARGET, size: int = 16) -> Row:
    """k-means of the images themselves, enlarged to `size`."""

    def edit(config: Any, run: Run) -> None:
        clustered(config, target, "cluster")
        config.network.trunk = dict(name="mlp", features=())  # no layer: it flattens
        config.streams.target["size"] = config.evaluate.target["size"] = size

    return Row("cluster_kmeans", edit=edit, columns=dict(method=PIXELS))


def assigned(method: str, images: np.ndarray, value: int, seed: int) -> np.ndarray:
    """The cluster of each image, by one of SIMPLE."""
    if method == "spectral clustering":
        how = dict(affinity="nearest_neighbors", n_neighbors=value, random_state=seed)
        return cluster.SpectralClustering(10, **how).fit_predict(images)
    if method == "Ward":
        near = neighbors.kneighbors_graph(images, value)
        return cluster.AgglomerativeClustering(10, connectivity=near + near.T).fit_predict(images)
    if method == "Gaussian mixture":
        shown = decomposition.PCA(value, random_state=seed).fit_transform(images)
        how = dict(n_init=5, reg_covar=1e-3 * shown.var(), random_state=seed)
        return mixture.GaussianMixture(10, **how).fit_predict(shown)
    shown = manifold.TSNE(perplexity=value, random_state=seed).fit_transform(images)
    return cluster.KMeans(10, n_init=10, random_state=seed).fit_predict(shown)


def simple(method: str, value: int, target: str = TARGET) -> Plain:
    """A row of SIMPLE, with the number that is tuned."""
    table = sources.load("digits", target, size=8)
    images = np.asarray(table.input, np.float64).reshape(len(table), -1)

    def fit(seed: int) -> dict[str, float]:
        return metrics.clustering(assigned(method, images, value, seed), np.asarray(table.label))

    return Plain(fit, dict(method=method))


def simclr(target: str = TARGET, alone: bool = False) -> Row:
    """k-means of features of source and target; or, learned on the target alone."""

    def edit(config: Any, run: Run) -> None:
        clustered(config, target)
        if alone:
            config.streams.both.split = target

    return Row("cluster_kmeans", edit=edit, columns=dict(method=ALONE if alone else BOTH))


def scan(origin: str, target: str = TARGET) -> Row:
    """SCAN from features that a row has learned; judged before the self-labels, too."""

    def edit(config: Any, run: Run) -> None:
        clustered(config, target, "scan", "label")
        config.scan.start = (("trunk/**", run.origin(origin)), ("**", "fresh"))
        config.evaluate.first = dict(config.evaluate.target, phase="scan")

    lines = [(dict(method=FIRST), reads("first")), (dict(method=SCAN), reads("target"))]
    return Row("cluster_scan", edit=edit, reads=lines, after=origin)


def dec(origin: str, target: str = TARGET) -> Row:
    """DEC: k-means of features that a row has learned, then both sharpen each other."""

    def edit(config: Any, run: Run) -> None:
        clustered(config, target, "cluster")
        config.cluster.start = (("trunk/**", run.origin(origin)), ("**", "fresh"))
        config.cluster.terms = dict(sharpen=dict(term="embedded_clustering", stream="target"))
        config.cluster.optimizer = dict(name="adam", learning_rate=1e-4)
        config.cluster.steps = 200

    return Row("cluster_kmeans", edit=edit, columns=dict(method=DEC), after=origin)


def rows() -> dict[str, Row | Plain]:
    tuned = TUNING.read()
    best = {name: tuned.where(stage=name).best("accuracy", "candidate") for name in SIMPLE}
    plain = {name: simple(name, *value) for name, value in best.items()}
    learned = {"alone": simclr(alone=True), "both": simclr()}
    return {"pixels": pixels(), **plain, **learned, "dec": dec("both"), "scan": scan("both")}


def stages(collect: Collect) -> Results:
    """Stage by stage; of several best candidates the first."""
    results, learned = Results(), "k-means of features"

    def stage(name: str, candidates: Iterable[Any], row: Any, judged: str | None = None) -> Any:
        """The best of candidates, by the column `judged` of what is read of `row(candidate)`."""
        reads = [(dict(judged=None), {"accuracy": "target/accuracy"})]
        if judged:
            reads.append((dict(judged=judged), {"accuracy": "first/accuracy"}))
        lines, labels = Results(), {str(candidate): candidate for candidate in candidates}
        for label, candidate in labels.items():
            tried, overrides = row(candidate)
            if isinstance(tried, Row):
                tried = tried._replace(overrides=overrides, reads=reads)
            columns = dict(stage=name, candidate=label)
            lines += collect({f"{name} {label}": tried._replace(columns=columns)})
        results.extend(lines)
        lines = lines or TUNING.read().where(stage=name)  # a stage that `--only` leaves out
        [best] = lines.where(judged=judged).best("accuracy", "candidate")
        return labels[str(best)]

    def features(name: str) -> tuple[Row, dict[str, Any]]:
        views, temperature = FEATURES[name]
        fields = {f"streams.{stream}.transforms": views for stream in ("both", "view")}
        return simclr(SOURCE), {**fields, "represent.terms.agree.temperature": temperature}

    def scanned(name: str, k: int, threshold: float) -> tuple[Row, dict[str, Any]]:
        return scan(f"{learned} {name}", SOURCE), {
            "streams.augmented.transforms": FEATURES[name][0],
            "scan.prepare.neighbours.k": k,
            "label.terms.label.threshold": threshold,
        }

    def sharpened(rate: float) -> tuple[Row, dict[str, Any]]:
        return dec(f"{learned} {name}", SOURCE), {"cluster.optimizer.learning_rate": rate}

    for method, values in SIMPLE.items():
        stage(method, values, lambda value, method=method: (simple(method, value, SOURCE), {}))
    sizes = {f"size {size}": pixels(SOURCE, size) for size in (8, 16, 12, 24)}
    stage("k-means of pixels", sizes, lambda name: (sizes[name], {}))
    stage(learned, FEATURES, features)
    name = stage("SCAN: features", FEATURES, lambda n: scanned(n, 10, 0.9), "before self-labels")
    k = stage("SCAN: k", (10, 20, 5), lambda k: scanned(name, k, 0.8))
    stage("SCAN: threshold", (0.8, 0.6, 0.9, 0.99), lambda least: scanned(name, k, least))
    stage("DEC: learning rate", (1e-5, 1e-4, 1e-3), sharpened)
    return results


def strongest(tuned: Results) -> str:
    """The simple method that does best on the source's digits."""
    return report.strongest(tuned.at("stage", (PIXELS, *SIMPLE)), "accuracy", "candidate")


def tables(results: Results) -> dict[str, str]:
    at, best = results.at("method", METHODS), strongest(TUNING.read())
    at = {name: lines for name, lines in at.items() if lines}
    columns = [report.mean("accuracy", "accuracy"), report.lowest("accuracy")]
    columns += [report.mean("NMI", "nmi"), report.mean("ARI", "ari")]
    columns += [report.gained(f"− {best}", "accuracy", at[best], itself="")]
    return {
        "table": report.named("method", [*columns, report.seconds("{:.0f}")], at),
        "best": best,
        "scan": at[SCAN].gain("accuracy", at[BOTH]),
        "labels": at[SCAN].gain("accuracy", at[FIRST]),
        "source": at[BOTH].gain("accuracy", at[ALONE]),
    }


FIGURE = report.dots("{method}", "accuracy", "clustering accuracy of the target")
TUNING = Experiment(HERE, (100, 101), stages=stages, file="tuning.csv")
BEST = strongest(TUNING.read())
QUESTION = f"self-taught clustering: SCAN against {BEST}"
WHY = "of 8 × 8 pixels near ones are of a class already"
COMPARED = [Comparison(QUESTION, "accuracy", SCAN, BEST, {}, WHY)]
EXPERIMENT = Experiment(HERE, range(10), reads("target"), rows, tables, FIGURE, COMPARED)

if __name__ == "__main__":
    frame.main(__doc__, EXPERIMENT, tune=TUNING)
