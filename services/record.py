"""Record service: instruments to stream log, stream log to the pipeline.

python services/record.py --config configs/demo.yaml --out FOLDER
"""

import sys

from streamptycho.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["service", "record"]
    main()
