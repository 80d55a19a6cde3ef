"""What every service's HTTP side shares: who may call, limits, errors as JSON, probes, metrics, and the server itself.

A route says whom it is for with `require(request, Role.…)`. What comes before that is in `front`.
"""

from eai_common.credentials import Role
from eai_common.http.api_docs import api_docs_routes
from eai_common.http.app import HttpParts, build_app
from eai_common.http.callers import Access, Identity, caller, require
from eai_common.http.errors import ErrorBody, HttpError, json_response
from eai_common.http.front import Protection
from eai_common.http.limits import PendingLimit, SelfLimitedRoute, pending_limit
from eai_common.http.opening import open_protection
from eai_common.http.server import bound_socket, serve

__all__ = [
    "Access",
    "ErrorBody",
    "HttpError",
    "HttpParts",
    "Identity",
    "PendingLimit",
    "Protection",
    "Role",
    "SelfLimitedRoute",
    "api_docs_routes",
    "bound_socket",
    "build_app",
    "caller",
    "json_response",
    "open_protection",
    "pending_limit",
    "require",
    "serve",
]
