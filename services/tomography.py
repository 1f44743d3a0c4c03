"""Tomography service: complex projections to a volume.

python services/tomography.py --config configs/demo.yaml --out FOLDER
"""

import sys

from streamptycho.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["service", "tomography"]
    main()
