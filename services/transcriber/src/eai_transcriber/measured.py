"""A recogniser whose calls are counted, timed and named in the delivery's log line."""

from __future__ import annotations

from eai_common.clock import Deadline
from eai_common.telemetry import Metrics, add_to_line
from eai_transcriber.recognizer import Audio, Recognizer, Takes, Transcript

__all__ = ["MeasuredRecognizer"]


class MeasuredRecognizer:
    """Passes everything on."""

    def __init__(self, recognizer: Recognizer, service: str, metrics: Metrics) -> None:
        self._recognizer = recognizer
        self._service = service
        self._metrics = metrics

    @property
    def takes(self) -> Takes:
        return self._recognizer.takes

    async def transcribe(self, audio: Audio, *, deadline: Deadline) -> Transcript:
        self._metrics.transcriptions.labels(self._service).inc()
        add_to_line(ai_provider=self._service)
        with self._metrics.external_call(self._service):
            return await self._recognizer.transcribe(audio, deadline=deadline)
