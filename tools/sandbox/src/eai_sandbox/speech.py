"""Google Speech v2: which requests are refused and how the others are answered; `grpc_services` is its transport."""

from __future__ import annotations

import re
from datetime import timedelta
from uuid import uuid4

import structlog

from eai_sandbox import wire
from eai_sandbox.calls import Call, Target
from eai_sandbox.faults import Gate
from eai_sandbox.recognizer import AudioTooLong, Recognizer, Transcript, Undecodable
from eai_sandbox.refusal import Refused

__all__ = ["MAX_DURATION", "MAX_SIZE_BYTES", "Speech"]

log = structlog.get_logger(__name__)

# The limits of synchronous recognition (source: Speech-to-Text, "Quotas and limits", content limits).
MAX_SIZE_BYTES = 10 * 1024 * 1024
MAX_DURATION = timedelta(seconds=60)
_RECOGNIZER = re.compile(r"projects/[^/]+/locations/[^/]+/recognizers/(?P<id>[^/]+)")
_ENGLISH = "en-US"


class Speech:
    """Recognises English, whatever language is requested: the recogniser knows no other.

    Error texts are those of Google's service, because clients match on them.
    """

    def __init__(self, gate: Gate, recognizer: Recognizer) -> None:
        self._gate = gate
        self._recognizer = recognizer
        self._foreign: set[str] = set()  # languages already warned about

    async def recognize(self, request: wire.RecognizeRequest) -> wire.Result:
        """The transcript; silence gives no results. Raises Refused."""
        _check(request)
        call = Call(Target.SPEECH, "grpc", "Speech/Recognize", " ".join((request.recognizer, *request.language_codes)))
        async with self._gate.admit(call) as admitted:
            transcript = await self._transcript_of(request)
            return wire.Result(
                segments=transcript.segments,
                language_code=self._language_of(request.language_codes).lower(),  # Google answers "en-us"
                billed=timedelta(seconds=-(-transcript.duration // timedelta(seconds=1))),
                request_id=uuid4().hex,
                is_malformed=admitted.is_malformed,
            )

    async def _transcript_of(self, request: wire.RecognizeRequest) -> Transcript:
        try:
            return await self._recognizer.recognize(request.content, limit=MAX_DURATION, linear16=request.linear16)
        except AudioTooLong as error:
            raise Refused("Audio can be of a maximum of 60 seconds.") from error
        except Undecodable as error:
            log.info("audio_refused", reason=str(error), size_bytes=len(request.content))
            raise Refused(
                "Audio data does not appear to be in a supported encoding. If you believe this to be incorrect, "
                "explicitly specify the decoding parameters."
            ) from error

    def _language_of(self, codes: tuple[str, ...]) -> str:
        if _ENGLISH in codes or codes == ("auto",):
            return _ENGLISH
        if codes[0] not in self._foreign and len(self._foreign) < 100:
            self._foreign.add(codes[0])
            log.warning("language_not_known", language=codes[0], hint="the sandbox recognises English only")
        return codes[0]


def _check(request: wire.RecognizeRequest) -> None:
    """Raises Refused for what Google refuses before it recognises."""
    named = _RECOGNIZER.fullmatch(request.recognizer)
    if named is None:
        raise Refused(f"Invalid resource field value in the request: recognizer {request.recognizer!r}.")
    if named["id"] != "_":
        raise Refused(f"Unable to find Recognizer {request.recognizer}.", status=404)
    if request.uri:
        raise Refused("The sandbox has no Cloud Storage: only `content` is supported, not `uri`.")
    if not request.content:
        raise Refused("Provided file is empty.")
    if len(request.content) > MAX_SIZE_BYTES:
        raise Refused(f"Request payload size exceeds the limit: {MAX_SIZE_BYTES} bytes.")
    if not request.language_codes:
        raise Refused("Invalid recognition config: `language_codes` must be set.")
    if not request.has_decoding_config:
        raise Refused("Invalid recognition config: `decoding_config` must be set.")
    _check_linear16(request)


def _check_linear16(request: wire.RecognizeRequest) -> None:
    if request.linear16 is None:
        return
    if not 8000 <= request.linear16.rate <= 48_000:
        raise Refused(f"Invalid sample rate hertz value: {request.linear16.rate}")
    if request.linear16.channels not in (1, 2):
        raise Refused(f"Invalid audio channel count: {request.linear16.channels}; the sandbox takes 1 or 2.")
