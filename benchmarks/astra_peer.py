"""Reconstruct slices with the ASTRA toolbox. Run by the interpreter of an environment that has it.

``PYTHON astra_peer.py GIVEN.npz RESULT.npz METHOD ROUNDS REPEATS``: given are `sinograms` (S, K, X) and `angles_deg`
(K,); the result has `slices` (S, X, X) and `seconds` (REPEATS,) for all slices, without what is made only once.
"""

from __future__ import annotations

import sys
import time

import astra
import numpy as np


def main() -> None:
    given_file, result_file, method, rounds, repeats = sys.argv[1:6]
    given = np.load(given_file)
    sinograms = np.ascontiguousarray(given["sinograms"], np.float32)
    count, _, width = sinograms.shape
    # rows run downwards in our slices, y upwards in theirs
    rays = astra.create_proj_geom("parallel", 1.0, width, -np.radians(given["angles_deg"]))
    image = astra.create_vol_geom(width, width)
    projector = astra.create_projector("linear", rays, image)
    sinogram, found = astra.data2d.create("-sino", rays), astra.data2d.create("-vol", image)
    config = astra.astra_dict(method)
    config.update(ProjectorId=projector, ProjectionDataId=sinogram, ReconstructionDataId=found)
    if method == "FBP":
        config["FilterType"] = "hamming"
    else:
        config["option"] = {"MinConstraint": 0.0}
    algorithm = astra.algorithm.create(config)
    slices, seconds = np.empty((count, width, width), np.float32), []
    for _ in range(int(repeats)):
        began = time.perf_counter()
        for k in range(count):
            astra.data2d.store(sinogram, sinograms[k])
            astra.data2d.store(found, 0.0)
            astra.algorithm.run(algorithm, int(rounds))
            slices[k] = astra.data2d.get(found)
        seconds.append(time.perf_counter() - began)
    np.savez(result_file, slices=slices, seconds=np.array(seconds))


if __name__ == "__main__":
    main()
