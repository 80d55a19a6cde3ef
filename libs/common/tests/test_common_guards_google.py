"""What every client of Google shares: keys that cannot be read, and pauses that are bounded."""

from __future__ import annotations

import base64
from datetime import timedelta
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo

from eai_common.guards.google import read_google_credentials, retry_delay
from eai_common.settings import SettingsError


@pytest.mark.parametrize("key", ["[]", "1", "{}", '{"type": []}', '{"type": "gdch_service_account"}', "{s3cret", ""])
@pytest.mark.parametrize("form", ["a file", "base64"])
def test_a_key_of_another_shape_is_a_mistake_that_is_not_shown(key: str, form: str, tmp_path: Path) -> None:
    path = tmp_path / "s3cret.json"
    path.write_text(key, encoding="utf-8")
    source = str(path) if form == "a file" else base64.b64encode(f"{{{key}".encode()).decode()
    with pytest.raises(SettingsError, match="GOOGLE_APPLICATION_CREDENTIALS: got a value that is not shown") as caught:
        read_google_credentials(source)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("details", "pause"),
    [
        ([], None),
        ([ErrorInfo(reason="x")], None),
        ([ErrorInfo(), RetryInfo(retry_delay=Duration(seconds=7, nanos=500_000_000))], timedelta(seconds=7.5)),
        ([RetryInfo(retry_delay=Duration(seconds=10**11))], timedelta(hours=6)),
        ([RetryInfo(retry_delay=Duration(seconds=-5))], timedelta()),
    ],
)
def test_googles_retry_info_is_a_bounded_pause(details: list[object], pause: timedelta | None) -> None:
    assert retry_delay(details) == pause
