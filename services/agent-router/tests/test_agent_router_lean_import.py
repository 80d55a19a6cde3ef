"""The import that leaves out what is not needed gives the very same classes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from eai_agent_router.lean_import import import_service

LEAN = """
import json, sys
import eai_agent_router.wiring
before_use = sorted({"grpc", "google.auth", "google.api_core"} & set(sys.modules))

from eai_agent_router.lean_import import import_service
package, types = "google.cloud.aiplatform_v1", "google.cloud.aiplatform_v1.types"
service = import_service(package, "reasoning_engine_execution_service")
facts = {
    "before use": before_use,
    "other services": [name for name in sys.modules if "aiplatform_v1.services.job_service" in name],
    "stand-ins left behind": sorted({package, types} & set(sys.modules)),
    "imported again": import_service(package, "reasoning_engine_execution_service") is service,
}
"""
WHOLE = """
from google.cloud import aiplatform_v1 as whole
request = sys.modules[f"{types}.reasoning_engine_execution_service"].QueryReasoningEngineRequest
client = service.ReasoningEngineExecutionServiceAsyncClient
facts = {
    "client": whole.ReasoningEngineExecutionServiceAsyncClient is client,
    "types": whole.QueryReasoningEngineRequest is request,
}
"""


def facts_of(program: str) -> dict[str, object]:
    """What a fresh interpreter finds out."""
    program += "print(json.dumps(facts))"
    run = subprocess.run([sys.executable, "-c", program], check=True, timeout=100, capture_output=True)
    found: dict[str, object] = json.loads(run.stdout)
    return found


def test_only_the_one_service_is_loaded_only_when_asked_for_and_nothing_else_is_left_behind() -> None:
    assert facts_of(LEAN) == {
        "before use": [],
        "other services": [],
        "stand-ins left behind": [],
        "imported again": True,
    }


def test_what_only_some_deployments_need_is_not_loaded_with_the_service() -> None:
    program = "import json, sys, eai_agent_router.service; facts = {'heavy': [name for name in sys.modules if name in "
    assert facts_of(program + "('grpc', 'google.protobuf', 'google.auth', 'jwt', 'fakeredis')]};") == {"heavy": []}


@pytest.mark.slow()
def test_the_whole_package_can_be_imported_afterwards_and_has_the_same_classes() -> None:
    assert facts_of(LEAN + WHOLE) == {"client": True, "types": True}


@pytest.mark.parametrize("package", ["google.cloud.no_such_package", "no_such_parent.package"])
def test_a_package_that_is_not_there_is_an_import_error(package: str) -> None:
    with pytest.raises(ImportError):
        import_service(package, "service")
