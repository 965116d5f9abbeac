"""The engine process: `python -m lmrun.engine.worker --socket PATH [--parent-pid PID]`.

`EngineSettings` come as JSON on the first line of stdin. The socket appears after the workspace
is mapped and a first token was computed. The main thread steps the engine; a reader and a writer
thread serve each connection.
"""

import argparse
import contextlib
import itertools
import json
import os
import queue
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import cast

from lmrun import _engine, log
from lmrun.engine import wire
from lmrun.engine.messages import (
    Abort,
    Ask,
    EffectiveConfig,
    Event,
    Memory,
    Ready,
    Refused,
    Request,
    SamplingParams,
    Score,
    Scored,
    Setting,
    Submit,
    Tokens,
)
from lmrun.engine.native import (
    build_engine,
    scored_event,
    stats_event,
    submit_native,
    tokens_event,
)
from lmrun.engine.observing import build_name
from lmrun.engine.process import die_with_parent, rss
from lmrun.errors import EngineError, ExitStatus, LmrunError
from lmrun.plan.engine_settings import EngineSettings

logger = log.get("lmrun.engine.worker")  # __name__ is __main__ in the child

_MAX_UNREAD_BYTES = 64 * 2**20
_FLUSH_S = 2.0


class Connection:
    """One client: its socket, its open requests, and what waits to be written to it."""

    def __init__(self, stream: socket.socket) -> None:
        self.stream = stream
        self.open: dict[str, int] = {}
        """Request id → engine id; guarded by the worker's lock."""
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._unread = 0
        self._unread_lock = threading.Lock()
        self._writer = threading.Thread(target=self._write, name="engine-writer", daemon=True)
        self._writer.start()

    def send(self, frames: bytes) -> None:
        """Queue frames; a client that does not read is dropped, not waited for."""
        with self._unread_lock:
            self._unread += len(frames)
            unread = self._unread
        if unread > _MAX_UNREAD_BYTES:
            logger.error("a client left %d bytes unread; dropping it", unread)
            self.close()
            return
        self._outbox.put(frames)

    def finish(self) -> None:
        """Write what is queued, within a moment, then close."""
        self._outbox.put(None)
        self._writer.join(_FLUSH_S)
        self.close()

    def close(self) -> None:
        """Wakes the reader and the writer; safe to call twice."""
        with contextlib.suppress(OSError):
            self.stream.shutdown(socket.SHUT_RDWR)
        self._outbox.put(None)

    def _write(self) -> None:
        while (frames := self._outbox.get()) is not None:
            try:
                self.stream.sendall(frames)
            except OSError:
                return  # the reader sees the end too and aborts the requests
            with self._unread_lock:
                self._unread -= len(frames)


@dataclass(frozen=True)
class _Owner:
    connection: Connection
    request_id: str
    is_score: bool


@dataclass
class _Shared:
    """What reader threads and the step loop share; `lock` guards all of it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    owners: dict[int, _Owner] = field(default_factory=dict)
    connections: set[Connection] = field(default_factory=set)


class Worker:
    """Steps one engine and carries messages between it and its clients."""

    def __init__(self, settings: EngineSettings) -> None:
        """Maps the workspace; `EngineError` when the engine refuses it."""
        self._settings = settings
        self._started = time.perf_counter()
        self._engine = build_engine(settings)
        self._ids = itertools.count(1)
        self._shared = _Shared()
        self._inbox: queue.SimpleQueue[tuple[Connection, Ask] | None] = queue.SimpleQueue()
        self._is_stopping = False
        self._busy_seconds = 0.0
        self._seconds_to_ready = 0.0

    def warm_up(self) -> None:
        """Compute one real token."""
        params = SamplingParams(temperature=0.0, max_tokens=1)
        submit_native(self._engine, 0, (0,), params, seed=0)
        tokens: list[int] = []
        begin = time.perf_counter()
        while self._engine.has_work():
            for output in self._engine.step():
                if output.error is not None:
                    raise EngineError(f"{self._settings.workspace}: {output.error}")
                tokens += output.token_ids
        if len(tokens) != 1:
            raise EngineError(f"engine: expected one token of the first request, got {tokens}.")
        self._busy_seconds += time.perf_counter() - begin
        self._seconds_to_ready = time.perf_counter() - self._started

    @property
    def why_mapped(self) -> str:
        """Why the weights did not get huge pages; empty where they did, or were not to."""
        return self._engine.why_mapped()

    def stop(self) -> None:
        """Leave `run` after the current step; may be called from a signal handler."""
        self._is_stopping = True
        self._inbox.put(None)

    def serve(self, listener: socket.socket) -> None:
        """Accept clients on a thread of their own."""
        threading.Thread(
            target=self._accept, args=(listener,), name="engine-accept", daemon=True
        ).start()

    def run(self) -> int:
        """The step loop; returns the exit status."""
        try:
            while not self._is_stopping:
                self._answer(block=True)
                begin = time.perf_counter()
                while self._engine.has_work() and not self._is_stopping:
                    self._dispatch(self._engine.step())
                    self._answer(block=False)
                    end = time.perf_counter()
                    self._busy_seconds += end - begin
                    begin = end
        except (RuntimeError, MemoryError) as error:
            logger.exception("the engine failed")
            self._end_all(f"engine: {error}")
            return 1
        self._end_all("engine: stopped.")
        return 0

    def _answer(self, block: bool) -> None:
        """Answer what was asked; with nothing to compute, wait for something."""
        try:
            item = self._inbox.get(block=block)
            while True:
                if item is not None:
                    connection, ask = item
                    connection.send(wire.pack(self._reply(ask)))
                item = self._inbox.get(block=False)
        except queue.Empty:
            return

    def _reply(self, ask: Ask) -> Event:
        if ask.what == "effective_config":
            build = build_name(_engine.build_info())
            settings = cast(dict[str, Setting], self._engine.effective_config())
            return EffectiveConfig(settings=settings, engine_build=build)
        memory = rss()
        if ask.what == "memory":
            pages = self._engine.residency()
            return Memory(
                rss_bytes=memory.now,
                peak_rss_bytes=memory.peak,
                weights_bytes=pages["weights_bytes"],
                weights_huge_bytes=pages["weights_huge_bytes"],
                kv_bytes=pages["kv_bytes"],
                seconds_to_ready=self._seconds_to_ready,
            )
        return stats_event(self._engine, busy_seconds=self._busy_seconds, rss_bytes=memory.now)

    def _dispatch(self, outputs: Sequence[_engine.StepOutput]) -> None:
        frames: dict[Connection, list[bytes]] = {}
        with self._shared.lock:
            for output in outputs:
                owner = self._shared.owners.get(output.id)
                if owner is None:
                    continue  # its connection is gone
                event: Event
                if owner.is_score:
                    event = scored_event(owner.request_id, output)
                else:
                    event = tokens_event(owner.request_id, output)
                if output.finish_reason is not None:
                    del self._shared.owners[output.id]
                    owner.connection.open.pop(owner.request_id, None)
                frames.setdefault(owner.connection, []).append(wire.pack(event))
        for connection, parts in frames.items():
            connection.send(b"".join(parts))

    def _end_all(self, error: str) -> None:
        with self._shared.lock:
            owners = list(self._shared.owners.values())
            self._shared.owners.clear()
            connections = list(self._shared.connections)
        for owner in owners:
            event: Event = (
                Scored(request_id=owner.request_id, error=error)
                if owner.is_score
                else Tokens(request_id=owner.request_id, finish_reason="error", error=error)
            )
            owner.connection.send(wire.pack(event))
        for connection in connections:
            connection.finish()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            stream, _ = listener.accept()
            connection = Connection(stream)
            with self._shared.lock:
                self._shared.connections.add(connection)
            connection.send(
                wire.pack(
                    Ready(
                        vocab_size=self._engine.vocab_size,
                        context_length=self._settings.context_length,
                    )
                )
            )
            threading.Thread(
                target=self._read, args=(connection,), name="engine-reader", daemon=True
            ).start()

    def _read(self, connection: Connection) -> None:
        try:
            while (body := wire.read_frame(connection.stream)) is not None:
                self._handle(connection, wire.unpack_request(body))
        except (EngineError, OSError) as error:
            logger.warning("dropping a client: %s", error)
        finally:
            self._drop(connection)

    def _handle(self, connection: Connection, request: Request) -> None:
        match request:
            case Submit() | Score():
                if (error := self._start(connection, request)) is not None:
                    connection.send(wire.pack(Refused(request_id=request.request_id, error=error)))
            case Abort():
                with self._shared.lock:
                    engine_id = connection.open.get(request.request_id)
                if engine_id is not None:
                    self._engine.abort(engine_id)
            case Ask():
                self._inbox.put((connection, request))
                return
        self._inbox.put(None)

    def _start(self, connection: Connection, request: Submit | Score) -> str | None:
        """Hand a request to the engine; the reason when it cannot run."""
        if isinstance(request, Submit) and request.sampling.mask_slot is not None:
            return "sampling.mask_slot: not built yet."
        if isinstance(request, Score) and (error := wire.too_large(request)) is not None:
            return error
        engine_id = next(self._ids)
        is_score = isinstance(request, Score)
        with self._shared.lock:
            if request.request_id in connection.open:
                return f"request_id: {request.request_id!r} is in use on this connection."
            connection.open[request.request_id] = engine_id
            self._shared.owners[engine_id] = _Owner(connection, request.request_id, is_score)
        try:
            if isinstance(request, Score):
                self._engine.score(engine_id, list(request.token_ids), top=request.top)
            else:
                seed = request.sampling.seed
                submit_native(
                    self._engine,
                    engine_id,
                    request.prompt_token_ids,
                    request.sampling,
                    secrets.randbits(63) if seed is None else seed,
                )
        except (ValueError, TypeError, OverflowError) as error:
            with self._shared.lock:
                del connection.open[request.request_id]
                del self._shared.owners[engine_id]
            return str(error)
        return None

    def _drop(self, connection: Connection) -> None:
        with self._shared.lock:
            self._shared.connections.discard(connection)
            engine_ids = list(connection.open.values())
            connection.open.clear()
            for engine_id in engine_ids:
                self._shared.owners.pop(engine_id, None)
        for engine_id in engine_ids:
            self._engine.abort(engine_id)
        self._inbox.put(None)
        connection.close()
        connection.stream.close()


def listen(path: Path) -> socket.socket:
    """A listening unix socket that this user alone may open; replaces a stale one."""
    if len(os.fsencode(path)) > 107:
        raise EngineError(f"{path}: a unix socket's path has at most 107 bytes.")
    if path.is_socket():
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError as error:
        raise EngineError(f"{path}: cannot listen: {error.strerror}.") from error
    finally:
        os.umask(before)
    listener.listen()
    return listener


def read_settings(line: str) -> EngineSettings:
    """`EngineError` when the line is not the JSON of `EngineSettings`."""
    try:
        fields = json.loads(line)
        if isinstance(fields.get("kv_bits"), list):
            fields["kv_bits"] = tuple(fields["kv_bits"])
        return EngineSettings(**fields)
    except (ValueError, TypeError, AttributeError) as error:
        raise EngineError(f"engine settings: expected one JSON line: {error}") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lmrun.engine.worker")
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--parent-pid", type=int)
    arguments = parser.parse_args(argv)
    die_with_parent(arguments.parent_pid)
    try:
        log.setup()
        worker = Worker(read_settings(sys.stdin.readline()))

        def stop(number: int, frame: FrameType | None) -> None:
            worker.stop()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the
        # supervisor drains first and then sends SIGTERM
        worker.warm_up()
        listener = listen(arguments.socket)
        worker.serve(listener)
        if reason := worker.why_mapped:
            logger.warning("weights stay mapped, decoding is slower: %s", reason)
        logger.info("engine ready on %s", arguments.socket)
        status = worker.run()
    except LmrunError as error:
        logger.error("%s", error)
        return int(ExitStatus.STAGE_FAILED)
    arguments.socket.unlink(missing_ok=True)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
