"""Local stand-ins that speak the real protocols of the outside services."""

from eai_sandbox.calls import Call, Target
from eai_sandbox.faults import Fault, FaultKind
from eai_sandbox.options import SandboxOptions
from eai_sandbox.server import Sandbox, run_sandbox

__all__ = ["Call", "Fault", "FaultKind", "Sandbox", "SandboxOptions", "Target", "run_sandbox"]
