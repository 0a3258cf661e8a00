"""The experiments behind RESULTS.md: a folder a question, one frame for all."""
