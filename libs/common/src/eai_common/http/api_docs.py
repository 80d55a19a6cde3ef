"""`/openapi.json`, and `/docs`: the same for people, as one page without scripts or anything from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from html import escape

import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from eai_common.http.errors import json_response
from eai_common.http.openapi import Operation, Schema, describe_api, format_status
from eai_common.version import gateway_version

__all__ = ["make_api_docs_routes", "render_page"]

_DESCRIPTION = (
    "Send a user's message with the webhook, then fetch the answer: by polling, by waiting (`wait`), as a stream of "
    "Server-Sent Events, or have it delivered to a `callback_url`. Errors are JSON, always with `error` and `message`."
)
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b;"
    "background:#fff}code,pre{font:14px/1.4 ui-monospace,monospace;background:#f3f3f3;border-radius:4px}"
    "code{padding:.1em .3em}pre{padding:.8rem;overflow:auto}table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;vertical-align:top;padding:.3rem .6rem;border-bottom:1px solid #ddd}"
    "h2{margin-top:3rem}.method{color:#0a6640}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_PAGE_HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'none'"
}


def make_api_docs_routes(operations: Sequence[Operation], *, title: str, has_auth: bool) -> list[Route]:
    """Both routes, open to all; none for a service that serves no clients."""
    if not operations:
        return []
    described = describe_api(
        operations, title=title, version=gateway_version(), description=_DESCRIPTION, has_auth=has_auth
    )
    as_json, as_page = orjson.dumps(described), "".join(render_page(described))

    async def openapi(_: Request) -> Response:
        return json_response(as_json)

    async def docs(_: Request) -> Response:
        return HTMLResponse(as_page, headers=_PAGE_HEADERS)

    return [Route("/openapi.json", openapi), Route("/docs", docs)]


def render_page(described: Schema) -> Iterator[str]:
    """The document as HTML, piece by piece."""
    info = described["info"]
    yield f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(info["title"])}</title>'
    yield f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
    yield f"<h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>"
    yield _render_words(info["description"])
    yield '<p>For programs: <a href="openapi.json">openapi.json</a> (OpenAPI 3.1).</p>'
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield from _render_operation(path, method, operation)
    yield "<h2>Bodies</h2>"
    for name, schema in described["components"]["schemas"].items():
        yield f'<h3 id="{escape(name)}">{escape(name)}</h3><pre>{escape(_format_json(schema))}</pre>'
    yield "</body></html>"


def _render_operation(path: str, method: str, operation: Schema) -> Iterator[str]:
    yield f'<h2><span class="method">{method.upper()}</span> <code>{escape(path)}</code></h2>'
    yield f"<p><strong>{escape(operation['summary'])}</strong></p>{_render_words(operation['description'])}"
    if operation["parameters"]:
        yield "<table><tr><th>Parameter</th><th>In</th><th>Takes</th><th></th></tr>"
        for parameter in operation["parameters"]:
            needed = "required" if parameter["required"] else ""
            cells = (
                f"<code>{escape(parameter['name'])}</code>",
                parameter["in"],
                _render_schema(parameter["schema"]),
                needed,
            )
            yield f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}<td>{escape(parameter['description'])}</td></tr>"
        yield "</table>"
    if body := operation.get("requestBody"):
        yield from _render_content("Body", body["content"])
    yield "<table><tr><th>Answer</th><th></th></tr>"
    for code, response in operation["responses"].items():
        yield f"<tr><td>{format_status(int(code))}</td><td>{_render_words(response['description'])}"
        yield from _render_content("", response.get("content", {}))
        yield "</td></tr>"
    yield "</table>"


def _render_content(title: str, content: Schema) -> Iterator[str]:
    for media_type, described in content.items():
        yield f"<p>{title} <code>{escape(media_type)}</code>: {_render_schema(described['schema'])}</p>"
        for name, example in described.get("examples", {}).items():
            yield f"<p>{escape(name)}</p><pre>{escape(_format_json(example['value']))}</pre>"


def _render_schema(schema: Schema) -> str:
    if reference := schema.get("$ref"):
        name = escape(reference.rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    told = {key: value for key, value in schema.items() if key not in ("description", "title")}
    return f"<code>{escape(json.dumps(told, ensure_ascii=False))}</code>"


def _render_words(text: str) -> str:
    """Paragraphs, with `code` in backticks."""
    return "".join(f"<p>{_mark_code(paragraph)}</p>" for paragraph in text.split("\n\n"))


def _mark_code(text: str) -> str:
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))


def _format_json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
