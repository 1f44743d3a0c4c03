"""How fast streamptycho is on this machine: `python -m benchmarks` measures and prints one table."""
