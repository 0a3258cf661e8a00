"""GLUE by TFDS: a task of single sentences beside one of pairs, by a BERT from the hub.

    tljax --config glue --workdir runs/glue   # SST-2 and MNLI; or glue:sst2+rte+qnli

For whoever has GLUE: `tfds build glue/sst2 --file_format array_record` prepares a task, with
TensorFlow; weights and tokenizer come by the extra `hub`, or lie at hand. Meant for an accelerator;
here it is run on a tiny data set of the same columns. Expected: of bert-base, each task by itself,
SST-2 0.92 to 0.935, MNLI 0.84 (Devlin et al. 2019, table 1); MT-DNN's joint training raises the
small tasks most (RTE 0.66 to 0.76 and more; Liu et al. 2019, table 2).
"""

from tljax.configs import tasks
from tljax.experiment import blank

TESTS = {"mnli": "validation_matched"}


def get_config(way="sst2+mnli"):
    config = blank()
    config.method = "GLUE, several tasks at once"
    config.family = "multitask"
    reads = {name: dict(data=f"tfds:glue/{name}", length=128) for name in way.split("+")}
    tasks.texts(config, reads, 32, {name: TESTS.get(name, "validation") for name in reads})
    config.mixing = 2.0  # tasks count by the root of their examples
    config.tokenizer.file = "bert-base-uncased/tokenizer.json"
    config.network.trunk = dict(name="bert", pool="pooler", separator=102)
    config.start = (("trunk/**", "hf:google-bert/bert-base-uncased"), ("**", "fresh"))
    config.optimizer = tasks.adamw(5e-5)
    config.update(steps=20_000, evaluate_every=2000, checkpoint_every=2000)
    return config
