"""Runs the agent router: `python -m eai_agent_router`."""

import sys

from eai_agent_router.service import AGENT_ROUTER
from eai_common.process import main

if __name__ == "__main__":
    sys.exit(main(AGENT_ROUTER))
