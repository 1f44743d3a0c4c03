"""What stays on disk: the stream log, result files, imports of existing data, and pictures of results.

Import the module you need: `stream_log` needs no HDF5, `nexus`, `importers` and `cxi` do, `pictures` needs matplotlib.
"""
