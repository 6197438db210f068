"""One call to a server, by the official client: what it answers as an object, or a RefusalError that says why not.

The client's own retries are off: a rate limit must pause all requests, not one, and much of what is worth asking again
for comes with status 200. An answer is limited in size and in whole time, headers and body together, and no redirection
is followed: the key is for the server that the user named.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.request import getproxies, proxy_bypass

import httpcore2
import httpx2
import openai

from m3dllm.systems.videollm.address import Address, Secrets
from m3dllm.systems.videollm.engines.openai.events import is_stream, joined
from m3dllm.systems.videollm.engines.openai.refusals import RefusalError, one_line, refusal
from m3dllm.wire import read_json, whole_characters

MOST_BYTES = 64 << 20
"""The largest answer that is read."""


class Client:
    """A connection to one server."""

    def __init__(
        self,
        address: Address,
        *,
        key: str,
        key_name: str,
        headers: Mapping[str, str],
        query: Mapping[str, str],
        timeout: float,
    ) -> None:
        """`timeout`: the seconds that an answer may take as a whole."""
        self.url, self.key_name = address.shown, key_name
        query = {**address.query, **query}
        self.secrets = Secrets.of((key, *headers.values(), *query.values(), address.password))
        proxies = {} if address.is_local or proxy_bypass(address.host) else getproxies()
        transport = _Limited(timeout, proxy=proxies.get(address.shown.partition(":")[0]) or proxies.get("all"))
        http = openai.DefaultHttpxClient(transport=transport, follow_redirects=False, trust_env=False)
        named = {name.lower() for name in headers}
        own = {"Accept-Encoding": "identity", **headers}
        if address.user and "authorization" not in named:
            login = base64.b64encode(f"{address.user}:{address.password}".encode()).decode("ascii")
            own["Authorization"] = f"Basic {login}"
            named.add("authorization")
        self._auth: dict[str, Any] = {}
        if "authorization" not in named:
            self._auth["Authorization"] = f"Bearer {key}" if key else openai.Omit()
        if not address.host.endswith("openai.com"):  # what the environment says of OpenAI's is not for others
            self._auth |= {name: openai.Omit() for name in ("OpenAI-Organization", "OpenAI-Project")}
        shared: dict[str, Any] = {
            "base_url": address.shown,
            "api_key": key or next((value for name, value in headers.items() if name.lower() == "api-key"), "none"),
            "default_headers": own,
            "timeout": timeout,
            "max_retries": 0,
            "http_client": http,
        }
        version = next((value for name, value in query.items() if name.lower() == "api-version"), None)
        rest = {name: value for name, value in query.items() if version is None or name.lower() != "api-version"}
        if version is not None:  # an Azure deployment: its client sends the key in a header of its own
            self._auth.pop("Authorization", None)
            self._client: openai.OpenAI = openai.AzureOpenAI(api_version=version, default_query=rest, **shared)
        else:
            self._client = openai.OpenAI(admin_api_key="", default_query=rest, **shared)

    def get(self, path: str) -> Any:
        """What the server has at `path`. Raises RefusalError."""
        return self._read(path, lambda options: self._client.get(f"/{path}", cast_to=httpx2.Response, options=options))

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The object that the server answers with. Raises RefusalError."""
        answer = self._read(
            path, lambda options: self._client.post(f"/{path}", body=body, cast_to=httpx2.Response, options=options)
        )
        if not isinstance(answer, dict):
            excerpt = one_line(json.dumps(answer))[:200]
            raise RefusalError(f"{self.url}/{path} answers with JSON that is no object ({excerpt})", "down")
        return answer

    def close(self) -> None:
        self._client.close()

    def _read(self, path: str, call: Any) -> Any:
        url = f"{self.url}/{path}"
        try:
            response = call({"headers": self._auth})
            text = response.text
        except openai.APIStatusError as error:
            body = self.secrets.strike(error.response.text)
            raise refusal(url, error.status_code, body, dict(error.response.headers), key=self.key_name) from error
        except (openai.OpenAIError, httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            raise RefusalError(f"{url} does not answer ({self._why(error)})", "down") from error
        if response.status_code >= HTTPStatus.MULTIPLE_CHOICES:
            raise refusal(
                url, response.status_code, self.secrets.strike(text), dict(response.headers), key=self.key_name
            )
        excerpt = one_line(self.secrets.strike(text[:400]))[:200] or "nothing"
        try:
            value = joined(text) if is_stream(text) else read_json(text.removeprefix("\ufeff"))
            return self.secrets.strike(whole_characters(value)[0])
        except ValueError as error:
            what = "JSON that is nested too deeply" if "nested" in str(error) else "no JSON"
            message = f"{url} answers with something that is {what} ({excerpt})"
            raise RefusalError(message, "down", status=response.status_code) from error

    def _why(self, error: BaseException) -> str:
        """The innermost reason, in a few words."""
        while (inner := error.__cause__ or (None if error.__suppress_context__ else error.__context__)) is not None:
            error = inner
        return one_line(self.secrets.strike(str(error)))[:200] or type(error).__name__


class _Limited(httpx2.HTTPTransport):
    """A transport over which an answer may have so many bytes and take so many seconds, whatever it sends meanwhile."""

    def __init__(self, seconds: float, **options: Any) -> None:
        super().__init__(**options)
        self._limits = _Limits(seconds)
        # No option hands a backend to the pool: a test holds a server that sends a byte a second against it.
        self._pool._network_backend = _Backend(self._pool._network_backend, self._limits)  # type: ignore[attr-defined]

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self._limits.begin()
        response = super().handle_request(request)
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            response.close()
            raise httpx2.ReadError("its answer is compressed, though it was asked for as it is", request=request)
        return response


class _Limits(threading.local):
    """What the request that a thread is making may still take."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.begin()

    def begin(self) -> None:
        self.until = time.monotonic() + self.seconds
        self.left = MOST_BYTES

    def remaining(self, timeout: float | None) -> float:
        """The seconds until the end, at most `timeout`."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise self.over()
        return left if timeout is None else min(left, timeout)

    def over(self) -> httpcore2.ReadTimeout:
        return httpcore2.ReadTimeout(f"no whole answer within {self.seconds:g} s: see --timeout")

    def count(self, data: bytes) -> bytes:
        self.left -= len(data)
        if self.left < 0:
            raise httpcore2.ReadError(f"its answer is larger than {MOST_BYTES >> 20} MB")
        return data


class _Backend(httpcore2.NetworkBackend):
    """Connections under limits."""

    def __init__(self, inner: Any, limits: _Limits) -> None:
        self._inner, self._limits = inner, limits

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *options: Any, **named: Any
    ) -> httpcore2.NetworkStream:
        seconds = self._limits.remaining(timeout)
        return _Stream(self._inner.connect_tcp(host, port, seconds, *options, **named), self._limits)

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


class _Stream(httpcore2.NetworkStream):
    """One connection under limits."""

    def __init__(self, inner: Any, limits: _Limits) -> None:
        self._inner, self._limits = inner, limits

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        seconds = self._limits.remaining(timeout)
        try:
            return self._limits.count(self._inner.read(max_bytes, timeout=seconds))
        except httpcore2.ReadTimeout:
            raise self._limits.over() from None

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, timeout=self._limits.remaining(timeout))

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> Any:
        seconds = self._limits.remaining(timeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, timeout=seconds), self._limits)

    def close(self) -> None:
        self._inner.close()

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
