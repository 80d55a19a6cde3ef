"""An access token of Google's for HTTP, refreshed off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from eai_agent_router.errors import AgentUnauthorized, AgentUnavailable

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

__all__ = ["GoogleToken"]


class GoogleToken:
    """An access token that stays valid; the calls that find it expired wait for one refresh together."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._refreshing = asyncio.Lock()

    async def headers(self) -> Mapping[str, str]:
        """Return the header to send. Raises AgentUnauthorized if Google refuses us, AgentUnavailable if it is down."""
        async with self._refreshing:
            if not self._credentials.valid:
                await asyncio.to_thread(self._refresh)
        return {"authorization": f"Bearer {self._credentials.token}"}

    def _refresh(self) -> None:
        from google.auth.exceptions import RefreshError, TransportError
        from google.auth.transport.requests import Request

        try:
            self._credentials.refresh(Request())  # type: ignore[no-untyped-call]
        except TransportError as error:
            raise AgentUnavailable("Google's token service is out of reach") from error
        except RefreshError as error:
            raise AgentUnauthorized("Google gave no access token for GOOGLE_APPLICATION_CREDENTIALS") from error
