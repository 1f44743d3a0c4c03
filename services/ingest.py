"""Ingest service: raw messages to paired diffraction batches.

python services/ingest.py --config configs/demo.yaml --out FOLDER
"""

import sys

from streamptycho.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["service", "ingest"]
    main()
