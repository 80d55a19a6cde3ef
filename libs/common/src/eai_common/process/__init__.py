"""A process: one or more services, the resources that they share, one HTTP server, signals and the drain.

A service is a `ServiceDefinition`: its settings, the resources that it needs, and a `build` that turns both into
stages and routes. `open_process` builds a process from definitions and resources. `python -m eai_<service>`,
`./eai up` and the tests all use it; they differ in the clients that `open_resources` opens.
"""

from eai_common.process.composition import Process, open_process
from eai_common.process.definition import (
    BrokerResources,
    ConfiguredService,
    MissingResource,
    Resources,
    Service,
    ServiceDefinition,
)
from eai_common.process.loading import load_all, load_services, load_settings
from eai_common.process.resources import REAL, Clients, open_resources
from eai_common.process.run import main, run_process, run_reporting_errors, serve_until_signal
from eai_common.process.settings import CommonSettings

__all__ = [
    "REAL",
    "BrokerResources",
    "Clients",
    "CommonSettings",
    "ConfiguredService",
    "MissingResource",
    "Process",
    "Resources",
    "Service",
    "ServiceDefinition",
    "load_all",
    "load_services",
    "load_settings",
    "main",
    "open_process",
    "open_resources",
    "run_process",
    "run_reporting_errors",
    "serve_until_signal",
]
