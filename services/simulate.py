"""Simulated instrument: DECTRIS stream and PandABox over real sockets.

python services/simulate.py --config configs/demo.yaml --out FOLDER
"""

import sys

from streamptycho.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["service", "simulate"]
    main()
