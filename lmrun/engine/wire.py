"""Messages on a stream: one MessagePack document behind its length, four bytes, little-endian."""

import asyncio
import socket
import struct

import msgspec

from lmrun.engine.messages import Event, Request, Score
from lmrun.errors import EngineError

_LENGTH = struct.Struct("<I")
MAX_FRAME_BYTES = 64 * 2**20
"""A longer frame is a peer that speaks something else."""

_ALTERNATIVE_BYTES = 14
"""At most, of one of `Scored.top_ids` and its log-probability."""

_encoder = msgspec.msgpack.Encoder()
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_events: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)


def pack(message: Request | Event) -> bytes:
    """The frame of one message."""
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


def too_large(score: Score) -> str | None:
    """Why the answer to a score would not fit a frame, or None where it does."""
    limit = MAX_FRAME_BYTES // 2 // _ALTERNATIVE_BYTES
    asked = len(score.token_ids) * score.top
    if asked <= limit:
        return None
    return (
        f"top={score.top}: expected at most {limit // len(score.token_ids)} for"
        f" {len(score.token_ids)} tokens, so that the answer fits a message."
    )


def unpack_request(body: bytes) -> Request:
    """Raises `EngineError` when the body is no request."""
    try:
        return _requests.decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise EngineError(f"engine socket: expected a request: {error}") from error


def unpack_event(body: bytes) -> Event:
    """Raises `EngineError` when the body is no event."""
    try:
        return _events.decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise EngineError(f"engine socket: expected an event: {error}") from error


def read_frame(stream: socket.socket) -> bytes | None:
    """The next body; None when the peer closed between frames. Blocks.

    Raises `EngineError` when the stream ends inside a frame or the length is absurd.
    """
    head = _read_exactly(stream, _LENGTH.size)
    if not head:
        return None
    if len(head) == _LENGTH.size:
        size = _checked(head)
        body = _read_exactly(stream, size)
        if len(body) == size:
            return body
    raise EngineError("engine socket: the peer closed inside a message.")


async def read_frame_async(stream: asyncio.StreamReader) -> bytes | None:
    """`read_frame` for asyncio."""
    try:
        head = await stream.readexactly(_LENGTH.size)
        return await stream.readexactly(_checked(head))
    except asyncio.IncompleteReadError as error:
        if not error.partial and error.expected == _LENGTH.size:
            return None
        raise EngineError("engine socket: the peer closed inside a message.") from error


def _checked(head: bytes) -> int:
    size: int = _LENGTH.unpack(head)[0]
    if size > MAX_FRAME_BYTES:
        raise EngineError(
            f"engine socket: expected at most {MAX_FRAME_BYTES} bytes in a message, got {size}."
        )
    return size


def _read_exactly(stream: socket.socket, size: int) -> bytes:
    """Fewer bytes than asked for only at the end of the stream."""
    parts = bytearray()
    while len(parts) < size:
        part = stream.recv(min(size - len(parts), 2**20))
        if not part:
            break
        parts += part
    return bytes(parts)
