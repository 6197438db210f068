"""Requests as a file for a provider's batch interface, or `vllm run-batch`; answers from the file that it returns.

One request per line: https://platform.openai.com/docs/guides/batch . Its id is the hash of its body, so that
the same command finds its answer, whatever the order of the file.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from m3dllm.errors import UserError
from m3dllm.files import sha256
from m3dllm.stream import Stream
from m3dllm.systems.videollm.engines.openai.refusals import RefusalError, refusal
from m3dllm.wire import WireError, encode, read_json


class BatchClient:
    """Replaces a server: existing answers, and a file for requests without one."""

    def __init__(self, requests: Path, answers: Sequence[Path]) -> None:
        """Raises UserError for answers that cannot be read, and for a file that cannot be written."""
        self.url, self._path = str(requests), requests
        self._answers = [Stream(path, _read_line) for path in answers]
        self._places = {name: (i, j) for i, rows in enumerate(self._answers) for j, (name, _) in enumerate(rows)}
        self._written: set[str] = set()
        self._lock = threading.Lock()
        try:
            requests.parent.mkdir(parents=True, exist_ok=True)
            requests.write_bytes(b"")
        except OSError as error:
            raise UserError.at(requests, f"cannot be written: {error.strerror}") from error

    def get(self, path: str) -> dict[str, Any]:
        """A batch has no list of models."""
        return {"data": []}

    def post(self, path: str, body: Any) -> dict[str, Any]:
        """The answer to a request. Raises RefusalError if it failed, or has none yet: then the request is written."""
        name = sha256(json.dumps(body, sort_keys=True, ensure_ascii=False).encode())[:32]
        with self._lock:
            if (place := self._places.get(name)) is not None:
                return self._read(self._answers[place[0]][place[1]][1])
            if name not in self._written:
                self._written.add(name)
                line = {"custom_id": name, "method": "POST", "url": f"/v1/{path}", "body": body}
                with self._path.open("ab") as file:
                    file.write(encode(line) + b"\n")
        send = "submit it as a batch, and pass the answers by --batch-answers to the same command"
        raise RefusalError(f"{self._path} has the request: {send}", "later")

    def _read(self, row: dict[str, Any]) -> dict[str, Any]:
        response = row.get("response")
        if isinstance(response, dict) and isinstance(body := response.get("body"), dict):
            status = response.get("status_code", 200)
            if status == 200:
                return body
            raise refusal(self.url, int(status), json.dumps(body, ensure_ascii=False), {}, key="the batch")
        why = json.dumps(row.get("error"), ensure_ascii=False)
        raise RefusalError(f"{self.url}: the batch failed on it ({why})", "down", why)


def _read_line(line: bytes) -> tuple[str, dict[str, Any]]:
    try:
        found = read_json(line)
    except ValueError as error:
        raise WireError(f"is not valid JSON ({error})") from error
    if not isinstance(found, dict) or not isinstance(found.get("custom_id"), str):
        raise WireError("expected a line of a batch's output, with 'custom_id' and 'response'")
    return found["custom_id"], found
