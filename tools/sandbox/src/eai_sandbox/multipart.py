"""The parts of a multipart/form-data body (source: RFC 7578), for the one route that takes a file."""

from __future__ import annotations

from collections.abc import Mapping
from email.message import Message
from email.parser import BytesHeaderParser

from eai_sandbox.refusal import Refused

__all__ = ["form_parts"]


def form_parts(content_type: str, body: bytes) -> Mapping[str, bytes]:
    """The content of each field by name, the last one of a name. Raises Refused if the body is not multipart."""
    header = Message()
    header["content-type"] = content_type
    boundary = header.get_param("boundary")
    if header.get_content_type() != "multipart/form-data" or not isinstance(boundary, str):
        raise Refused("expected multipart/form-data with a boundary", status=415)
    # The first delimiter may be at the very start; each other one follows a line break.
    _, *parts = (b"\r\n" + body).split(b"\r\n--" + boundary.encode("latin-1"))
    fields: dict[str, bytes] = {}
    for part in parts:
        if part.startswith(b"--"):  # the closing delimiter
            return fields
        head, blank, content = part.partition(b"\r\n\r\n")
        name = BytesHeaderParser().parsebytes(head.lstrip(b"\r\n")).get_param("name", header="content-disposition")
        if blank and isinstance(name, str):
            fields[name] = content
    raise Refused("the multipart body has no end")
