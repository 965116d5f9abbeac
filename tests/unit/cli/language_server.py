"""The real yaml-language-server, spoken to over stdio as an editor does."""

import json
import subprocess
from pathlib import Path
from typing import Any


class LanguageServer:
    """One server, one open document at a time."""

    def __init__(self, command: str, folder: Path) -> None:
        self._process = subprocess.Popen(
            [command, "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder
        )
        self._last_id = 0
        self._diagnostics: dict[str, list[dict[str, Any]]] = {}
        capabilities = {"textDocument": {"publishDiagnostics": {}, "completion": {}}}
        self._ask(
            "initialize",
            {"processId": None, "rootUri": folder.as_uri(), "capabilities": capabilities},
        )
        self._tell("initialized", {})
        settings = {
            "yaml": {"completion": True, "validate": True, "schemaStore": {"enable": False}}
        }
        self._tell("workspace/didChangeConfiguration", {"settings": settings})

    def open(self, path: Path, text: str) -> None:
        """Show a document, as an editor with unsaved text does."""
        document = {"uri": path.as_uri(), "languageId": "yaml", "version": 1, "text": text}
        self._tell("textDocument/didOpen", {"textDocument": document})

    def complete(self, path: Path, line: int, character: int) -> list[str]:
        """Labels offered at a place, both counted from 0."""
        place = {"line": line, "character": character}
        answer = self._ask(
            "textDocument/completion",
            {"textDocument": {"uri": path.as_uri()}, "position": place},
        )
        return [item["label"] for item in answer["items"]]

    def diagnostics(self, path: Path) -> list[tuple[int, str]]:
        """Line, counted from 0, and message of what is wrong."""
        while path.as_uri() not in self._diagnostics:
            self._receive()
        found = self._diagnostics.pop(path.as_uri())
        return [(item["range"]["start"]["line"], item["message"]) for item in found]

    def hover(self, path: Path, line: int, character: int) -> str:
        """What an editor shows above a key."""
        place = {"line": line, "character": character}
        answer = self._ask(
            "textDocument/hover", {"textDocument": {"uri": path.as_uri()}, "position": place}
        )
        return str(answer["contents"]["value"])

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _ask(self, method: str, params: dict[str, Any]) -> Any:
        self._last_id += 1
        self._send({"id": self._last_id, "method": method, "params": params})
        while True:
            message = self._receive()
            if message.get("id") == self._last_id and "method" not in message:
                return message["result"]

    def _tell(self, method: str, params: dict[str, Any]) -> None:
        self._send({"method": method, "params": params})

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._process.stdin is not None
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self._process.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        """The next message; a request of the server's own is answered with nothing."""
        stream = self._process.stdout
        assert stream is not None
        length = 0
        while (line := stream.readline().strip()) != b"":
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        assert length, "yaml-language-server ended"
        message: dict[str, Any] = json.loads(stream.read(length))
        if message.get("method") == "textDocument/publishDiagnostics":
            self._diagnostics[message["params"]["uri"]] = message["params"]["diagnostics"]
        elif "id" in message and "method" in message:
            count = len(message["params"].get("items", ())) if "params" in message else 0
            self._send({"id": message["id"], "result": [None] * count})
        return message
