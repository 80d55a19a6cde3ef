"""The HTTP side of every service: authentication, roles, limits, errors as JSON, the API description, the server.

A route names the role that it requires with `require(request, Role.…)`. `security` has what runs before each route.
"""

from eai_common.credentials import Role
from eai_common.http.api_docs import make_api_docs_routes
from eai_common.http.app import HttpResources, build_app
from eai_common.http.callers import Access, Identity, caller, require
from eai_common.http.errors import ErrorBody, HttpError, json_response
from eai_common.http.limits import PendingLimit, SelfLimitedRoute, get_pending_limit
from eai_common.http.security_policy import SecurityPolicy, open_security_policy
from eai_common.http.server import bind_socket, serve

__all__ = [
    "Access",
    "ErrorBody",
    "HttpError",
    "HttpResources",
    "Identity",
    "PendingLimit",
    "SecurityPolicy",
    "Role",
    "SelfLimitedRoute",
    "make_api_docs_routes",
    "bind_socket",
    "build_app",
    "caller",
    "json_response",
    "open_security_policy",
    "get_pending_limit",
    "require",
    "serve",
]
