"""Sources of the kernels."""
