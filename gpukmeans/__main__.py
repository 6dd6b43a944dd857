"""Run the command line: ``python -m gpukmeans``."""

import sys

from .cli import main

sys.exit(main())
