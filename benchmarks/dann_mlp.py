"""configs/dann.py with dense layers for its convolutions: little arithmetic a step."""

from configs import dann


def get_config():
    config = dann.get_config()
    config.network.trunk = dict(name="mlp", features=(256, 256))
    return config
