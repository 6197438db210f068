"""One call to a server, by the official client: the response as an object, or a RefusalError with the reason.

The client's own retries are off: a rate limit must pause all requests, not one, and many retryable errors come with
status 200. An answer is limited in size and total time, headers and body together, and redirections are not followed:
the key is only for the server that the user named.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import threading
import time
from collections.abc import Mapping
from http import HTTPStatus
from ssl import SSLCertVerificationError, SSLError
from typing import Any
from urllib.request import getproxies

import httpcore2
import httpx2
import openai

from m3dllm.errors import UserError
from m3dllm.files import decoded_as
from m3dllm.systems.videollm.address import EXPECTED, Address, Secrets, without_secrets
from m3dllm.systems.videollm.engines.openai.events import is_stream, joined
from m3dllm.systems.videollm.engines.openai.refusals import LONGEST_PAGE, RefusalError, one_line, refusal, shown
from m3dllm.wire import read_json, whole_characters

logging.getLogger("httpx2").setLevel(logging.WARNING)  # it logs each request's full address, with secrets

MOST_BYTES = 64 << 20
"""The largest response that is read, in bytes."""


PACKED = frozenset(("gzip", "deflate", "br", "zstd"))
"""Encodings that the client unpacks itself, without a size limit."""


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
        """`timeout`: the maximum total time of an answer, in seconds.

        Raises UserError for an invalid address, and for invalid proxies or certificates in the environment.
        """
        self.url, self.key_name = address.shown, key_name
        query = {**address.query, **query}
        proxy = _proxy_to(address)
        self._through = f" through the proxy {without_secrets(str(proxy.url))}" if proxy else ""
        password = proxy.auth[1] if proxy and proxy.auth else ""
        self.secrets = Secrets.of((key, *headers.values(), *query.values(), address.password, password))
        try:
            httpx2.URL(address.shown)
        except (ValueError, httpx2.InvalidURL) as error:
            raise UserError(f"--base-url {address.shown}: {error}; {EXPECTED}") from error
        try:
            transport = _Limited(timeout, proxy=proxy)
        except ImportError as error:
            raise UserError("the environment names a SOCKS proxy: that needs 'pip install socksio'") from error
        except OSError as error:
            variable = "SSL_CERT_FILE" if os.environ.get("SSL_CERT_FILE") else "SSL_CERT_DIR"
            where = f"{variable} names {os.environ.get(variable, '')}"
            raise UserError(f"{where}: it contains no readable certificates ({error})") from error
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
        if not address.host.endswith("openai.com"):  # environment variables for OpenAI are not for other servers
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
        """GET `path`. Raises RefusalError."""
        return self._read(path, lambda options: self._client.get(f"/{path}", cast_to=httpx2.Response, options=options))

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """POST `body` to `path`; returns the response object. Raises RefusalError."""
        answer = self._read(
            path, lambda options: self._client.post(f"/{path}", body=body, cast_to=httpx2.Response, options=options)
        )
        if not isinstance(answer, dict):
            excerpt = one_line(json.dumps(answer))[:200]
            raise RefusalError(f"{self.url}/{path} returned JSON that is not an object ({excerpt})", "down")
        return answer

    def close(self) -> None:
        self._client.close()

    def _read(self, path: str, call: Any) -> Any:
        url = f"{self.url}/{path}{self._through}"
        try:
            response = call({"headers": self._auth})
            text = _text(response)
        except openai.APIStatusError as error:
            raise self._refusal(url, error.response) from error
        except (openai.OpenAIError, httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            raise self._unanswered(url, error) from error
        if response.status_code >= HTTPStatus.MULTIPLE_CHOICES:
            raise self._refusal(url, response)
        excerpt = shown(self.secrets.strike(text[:LONGEST_PAGE]))[:200] or "nothing"
        try:
            value = joined(text) if is_stream(text) else read_json(text.removeprefix("\ufeff"))
            return self._struck(whole_characters(value)[0])
        except ValueError as error:
            what = "JSON nested too deeply" if "nested" in str(error) else "not valid JSON"
            message = f"{url} returned something that is {what} ({excerpt})"
            raise RefusalError(message, "down", status=response.status_code) from error

    def _struck(self, value: Any) -> Any:
        """The answer without secrets; from the text of a completion only unmistakable ones are removed."""
        choices = value.get("choices") if isinstance(value, dict) else None
        if choices is None:
            return self.secrets.strike(value)
        rest = {name: part for name, part in value.items() if name != "choices"}
        return self.secrets.strike(rest) | {"choices": self.secrets.tokens.strike(choices)}

    def _refusal(self, url: str, response: httpx2.Response) -> RefusalError:
        body, headers = self.secrets.strike(_text(response)), self.secrets.strike(dict(response.headers))
        return refusal(url, response.status_code, body, headers, key=self.key_name)

    def _unanswered(self, url: str, error: BaseException) -> RefusalError:
        """The error for a missing answer: the innermost reason, in a few words."""
        while (inner := error.__cause__ or (None if error.__suppress_context__ else error.__context__)) is not None:
            error = inner
        why = one_line(self.secrets.strike(str(error)))[:200] or type(error).__name__
        hidden = error.__context__  # the connection has its own message
        if isinstance(hidden, SSLCertVerificationError):
            remedy = "if it is your own, name the file of its issuer by SSL_CERT_FILE"
            return RefusalError(f"{url}: its certificate is refused ({hidden.verify_message}): {remedy}", "fatal")
        hint = ": does it speak http:// alone?" if isinstance(hidden, SSLError) else ""
        return RefusalError(f"{url} does not respond ({why}{hint})", "down")


def _proxy_to(address: Address) -> httpx2.Proxy | None:
    """The proxy for this server in the environment, or None.

    Raises UserError, without secrets, if it is not a valid proxy address.
    """
    if address.has_no_proxy():
        return None
    proxies = getproxies()
    named = (proxies.get(address.shown.partition(":")[0]) or proxies.get("all") or "").strip()
    if not named:
        return None
    try:
        return httpx2.Proxy(named if "://" in named else f"http://{named}")
    except (ValueError, httpx2.InvalidURL) as error:
        expected = "expected an address such as http://127.0.0.1:3128 in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY"
        raise UserError(f"the environment names the proxy {without_secrets(named)}: {expected}") from error


def _text(response: httpx2.Response) -> str:
    """The body as text: UTF-8 (or 16, or 32), as all JSON is whatever the header says; else as the header says."""
    data = response.content
    for encoding in filter(None, (json.detect_encoding(data), response.charset_encoding)):
        if (text := decoded_as(data, encoding)) is not None:
            return text
    return data.decode("utf-8", "replace")


class _Limited(httpx2.HTTPTransport):
    """A transport with a limit on the bytes and the total time of a response."""

    def __init__(self, seconds: float, **options: Any) -> None:
        super().__init__(**options)
        self._limits = _Limits(seconds)
        # No option passes a backend to the pool; a test with a server that sends one byte per second covers this.
        self._pool._network_backend = _Backend(self._pool._network_backend, self._limits)  # type: ignore[attr-defined]

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self._limits.begin()
        response = super().handle_request(request)
        packed = response.headers.get("content-encoding", "").lower()
        if PACKED.intersection(packed.replace(",", " ").split()):
            response.close()
            message = f"its answer is compressed ({packed}), though an uncompressed one was requested"
            raise httpx2.ReadError(message, request=request)
        return response


class _Limits(threading.local):
    """The remaining limits of the current request of a thread."""

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
