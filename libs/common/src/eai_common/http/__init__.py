"""What every service's HTTP side shares: errors as JSON, probes, metrics, limits, tokens, and the server itself."""

from eai_common.http.app import HttpParts, build_app
from eai_common.http.errors import ErrorBody, HttpError, json_response
from eai_common.http.probes import Check, Health, probe_routes
from eai_common.http.server import bound_socket, serve
from eai_common.http.tokens import TokenGuard

__all__ = [
    "Check",
    "ErrorBody",
    "Health",
    "HttpError",
    "HttpParts",
    "TokenGuard",
    "bound_socket",
    "build_app",
    "json_response",
    "probe_routes",
    "serve",
]
