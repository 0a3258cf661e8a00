"""Self-taught clustering: SimCLR on source and target, then k-means of the target's features.

    tljax --config cluster_kmeans --workdir runs/cluster_kmeans

No label is read, of neither domain; clusters are matched to classes only to be judged. About 30 s
on two cores.
Expected: clustering accuracy 0.75 to 0.95, against about 0.79 of k-means on pixels; RESULTS.md has
the intervals.
"""

from tljax.configs import tasks
from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "SimCLR + k-means"
    config.family = "self-taught clustering"
    tasks.clusters(config, batch=128)
    config.network.heads.cluster = dict(name="prototypes", outputs=10)
    config.phases = ("represent", "cluster")
    kmeans = dict(stream="target", head="cluster", restarts=10)
    config.cluster = dict(flow=("target",), terms={}, steps=0, prepare=dict(kmeans=kmeans))
    return config
