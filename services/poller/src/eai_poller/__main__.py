"""Runs the poller: `python -m eai_poller`."""

import sys

from eai_common.process import main
from eai_poller.service import POLLER

if __name__ == "__main__":
    sys.exit(main(POLLER))
