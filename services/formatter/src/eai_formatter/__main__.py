"""Runs the formatter: `python -m eai_formatter`."""

import sys

from eai_common.process import main
from eai_formatter.service import FORMATTER

if __name__ == "__main__":
    sys.exit(main(FORMATTER))
