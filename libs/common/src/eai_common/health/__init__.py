"""What a process reports on itself: its dependencies, its readiness, and the health of the whole deployment.

`dependencies` holds what is checked and how long a finding is kept, `checks` the checks themselves, `reports` the
per-process reports in Redis, `gateway` what one process makes of all reports, `probes` the HTTP routes.
"""

from eai_common.health.checks import (
    make_broker_dependency,
    make_provider_dependencies,
    make_redis_dependency,
    select_dependencies,
)
from eai_common.health.dependencies import Check, Dependencies, Dependency, Finding, Status, worst
from eai_common.health.gateway import GATEWAY, HealthReporter, make_gateway_dependency
from eai_common.health.gauges import bind_pool_gauges, record_broker_gauges
from eai_common.health.probes import Health, ReadinessCheck, make_probe_routes
from eai_common.health.process_health import (
    HealthResources,
    Need,
    build_health,
    build_health_reporter,
    make_readiness_checks,
)
from eai_common.health.reports import HealthReport, HealthReports
from eai_common.health.settings import HealthSettings

__all__ = [
    "GATEWAY",
    "Check",
    "Dependencies",
    "Dependency",
    "Finding",
    "Health",
    "HealthReport",
    "HealthReporter",
    "HealthReports",
    "HealthResources",
    "HealthSettings",
    "Need",
    "ReadinessCheck",
    "Status",
    "bind_pool_gauges",
    "make_broker_dependency",
    "make_gateway_dependency",
    "build_health",
    "build_health_reporter",
    "make_probe_routes",
    "make_provider_dependencies",
    "make_readiness_checks",
    "record_broker_gauges",
    "make_redis_dependency",
    "select_dependencies",
    "worst",
]
