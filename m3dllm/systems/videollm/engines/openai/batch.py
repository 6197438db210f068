"""Requests as a file for a provider's batch interface, or `vllm run-batch`; answers from the file that it returns.

One request per line: https://platform.openai.com/docs/guides/batch . Its id is the hash of its body, so that
the same command finds its answer, whatever the order of the file. A request that failed temporarily, such as one of a
batch that expired, is written again.
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
from m3dllm.systems.videollm.engines.openai.refusals import RefusalError, code_of, refusal
from m3dllm.wire import WireError, encode, read_json


class BatchClient:
    """Replaces a server: existing answers, and a file for requests without one."""

    def __init__(self, requests: Path, answers: Sequence[Path]) -> None:
        """Raises UserError for answers that cannot be read, and for a file that cannot be written or holds something
        other than requests."""
        self.url, self._path = str(requests), requests
        self._answers = [Stream(path, _read_line) for path in answers]
        self._places = {
            name: (i, j)
            for i, rows in enumerate(self._answers)
            for j, (name, row) in enumerate(rows)
            if (failure := self._failure(row)) is None or failure.kind not in ("down", "busy")
        }
        self._written: set[str] = set()
        self._fits = not any(self._answers)
        """Whether some answer was to a request of this command, or there are none."""
        self._lock = threading.Lock()
        if not _may_be_overwritten(requests):
            raise UserError.at(requests, "exists and does not hold requests: choose another --batch-file")
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
                self._fits = True
                return self._read(self._answers[place[0]][place[1]][1])
            if name not in self._written:
                self._written.add(name)
                line = {"custom_id": name, "method": "POST", "url": f"/v1/{path}", "body": body}
                with self._path.open("ab") as file:
                    file.write(encode(line) + b"\n")
        send = "submit it as a batch, and pass the answers by --batch-answers to the same command"
        other = "" if self._fits else "; the answers given are to other requests: were options or documents others?"
        raise RefusalError(f"{self._path} has the request: {send}{other}", "later")

    def _read(self, row: dict[str, Any]) -> dict[str, Any]:
        if (failure := self._failure(row)) is not None:
            raise failure
        body: dict[str, Any] = row["response"]["body"]
        return body

    def _failure(self, row: dict[str, Any]) -> RefusalError | None:
        """Why a line of a batch's output has no answer; None if it has one."""
        found = row.get("response")
        response: dict[str, Any] = found if isinstance(found, dict) else {}
        body, error, status = response.get("body"), row.get("error"), response.get("status_code")
        if isinstance(body, dict) and not error and status in (200, None):
            return None
        said = body if isinstance(body, dict) and not error else {"error": error}
        code = status if isinstance(status, int) and 400 <= status < 600 else code_of(error)
        return refusal(self.url, code, json.dumps(said, ensure_ascii=False), {}, key="the batch")


def _may_be_overwritten(path: Path) -> bool:
    """Whether there is no file, or one of requests."""
    try:
        with path.open("rb") as file:
            first = file.readline()
    except OSError:  # there is no file
        return True
    try:
        row = read_json(first) if first.strip() else {"custom_id": "", "body": {}}
    except ValueError:
        return False
    return isinstance(row, dict) and {"custom_id", "body"} <= row.keys()


def _read_line(line: bytes) -> tuple[str, dict[str, Any]]:
    try:
        found = read_json(line)
    except ValueError as error:
        raise WireError(f"is not valid JSON ({error})") from error
    if not isinstance(found, dict) or not isinstance(found.get("custom_id"), str):
        raise WireError("expected a line of a batch's output, with 'custom_id' and 'response'")
    return found["custom_id"], found
