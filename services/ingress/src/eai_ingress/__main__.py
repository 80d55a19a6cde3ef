"""Runs ingress: `python -m eai_ingress`."""

import sys

from eai_common.process import main
from eai_ingress.service import INGRESS

if __name__ == "__main__":
    sys.exit(main(INGRESS))
