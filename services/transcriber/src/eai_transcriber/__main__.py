"""Runs the transcriber: `python -m eai_transcriber`."""

import sys

from eai_common.service import main
from eai_transcriber.service import TRANSCRIBER

if __name__ == "__main__":
    sys.exit(main(TRANSCRIBER))
