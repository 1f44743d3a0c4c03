"""Sources of the kernels that visit frames on a GPU, compiled where they run."""
