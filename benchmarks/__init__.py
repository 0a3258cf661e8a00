"""Times tljax beside plain PyTorch; see README.md."""
