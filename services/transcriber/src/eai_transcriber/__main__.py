"""Runs the transcriber: `python -m eai_transcriber`."""

import sys

from eai_common.process import main
from eai_transcriber.service import TRANSCRIBER

if __name__ == "__main__":
    sys.exit(main(TRANSCRIBER))
