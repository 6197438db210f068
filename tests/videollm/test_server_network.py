"""What lies between a server and us: addresses, certificates, proxies, and how the bytes of a body come."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from m3dllm.errors import UserError
from m3dllm.systems.videollm.address import Address
from tests.videollm.test_openai_engine import ANSWER, MODELS, completion, serve, system  # noqa: F401
from tests.videollm.test_servers import error, one

GOOD = json.dumps(completion(ANSWER)).encode()
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def sends(*pieces: bytes):
    """A server that sends these bytes, and hangs up."""

    def go(handler) -> None:
        handler.close_connection = True
        for piece in pieces:
            handler.wfile.write(piece)
            handler.wfile.flush()

    return lambda n: go


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ["%25eth0", "%eth0"])
def test_the_zone_of_an_ipv6_address_is_a_name_however_it_is_written(zone):
    address = Address.parse(f"http://[fe80::1{zone}]:8000/v1")
    assert (address.host, address.shown) == ("fe80::1%eth0", "http://[fe80::1%eth0]:8000/v1")


def test_a_server_with_an_ipv6_address_is_reached(serve):  # noqa: F811
    class Six(ThreadingHTTPServer):
        address_family = socket.AF_INET6

    server = serve()
    try:
        other = Six(("::1", 0), server.server.RequestHandlerClass)
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    with other:
        thread = threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            assert one(f"http://[::1]:{other.server_port}/v1").failure is None
        finally:
            other.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "text", ["http://256.256.256.256/v1", "http://\ud800/v1", "http://h/\ud800", "http://h/\x00v1"]
)
def test_an_address_that_no_client_takes_is_one_line(text):
    with pytest.raises(UserError, match=r"--base-url .*; expected"):
        system(text)


def test_no_server_has_port_0():
    with pytest.raises(UserError, match="port 0 is not valid"):
        Address.parse("http://127.0.0.1:0/v1")


@pytest.mark.parametrize("model", ["org/Model Name 7B", "models/小模型", "%2F", "a\nb"])
def test_a_model_is_requested_by_its_name_as_it_is_listed(serve, model):  # noqa: F811
    server = serve(models={"data": [{"id": model}]})
    assert one(server, family="qwen3-vl").failure is None
    assert server.asked[-1]["model"] == model


# --- certificates -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """(certificate, key) of 127.0.0.1, signed by itself."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "own.pem", folder / "own.key"
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    words += ["-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1", "-out", files[0], "-keyout", files[1]]
    subprocess.run(["openssl", *words], check=True, capture_output=True)
    return files


@pytest.fixture
def secure(serve, certificate):  # noqa: F811
    server = serve()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server.server.socket = context.wrap_socket(server.server.socket, server_side=True)
    server.url = server.url.replace("http:", "https:")
    return server


def test_a_certificate_that_is_not_trusted_is_one_line_with_the_remedy(secure, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with pytest.raises(UserError, match=r"certificate is refused .*self-signed certificate.*SSL_CERT_FILE$"):
        one(secure)


def test_a_certificate_of_one_s_own_is_named_by_the_environment(secure, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    assert one(secure).failure is None


@pytest.mark.parametrize("file", ["own.key", "nowhere.pem"])
def test_a_file_of_certificates_that_holds_none_is_one_line(certificate, monkeypatch, file):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0].parent / file))
    with pytest.raises(UserError, match=f"SSL_CERT_FILE names .*{file}: it contains no readable certificates"):
        system("https://127.0.0.1:9/v1")


def test_no_certificate_is_requested_from_a_server_without_tls(serve):  # noqa: F811
    with pytest.raises(UserError, match="does it speak http:// alone"):
        one(serve().url.replace("http:", "https:"), retries=0)


# --- proxies ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def proxy():
    """The address of a proxy that answers for every http:// server, and what it was asked for."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            data = json.dumps(MODELS if self.command == "GET" else completion(ANSWER)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_POST(self):
            self.do_GET()

        def log_message(self, *_):
            pass

    asked: list[str] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_the_proxy_of_the_environment_is_used(serve, proxy, monkeypatch):  # noqa: F811
    monkeypatch.setenv("HTTP_PROXY", proxy[0])  # without http://, as curl takes it
    assert one("http://model.invalid/v1").failure is None
    assert proxy[1] == ["http://model.invalid/v1/models", "http://model.invalid/v1/chat/completions"]


@pytest.mark.parametrize("name", ["model.invalid", ".invalid", "model.invalid:81", "*"])
def test_what_needs_no_proxy_goes_without(serve, proxy, monkeypatch, name):  # noqa: F811
    monkeypatch.setenv("HTTP_PROXY", proxy[0])
    monkeypatch.setenv("NO_PROXY", name)
    with pytest.raises(UserError, match=r"model\.invalid:81/v1/models does not respond"):
        system("http://model.invalid:81/v1", retries=0)
    assert proxy[1] == []


@pytest.mark.parametrize(
    ("address", "names"),
    [
        ("http://10.3.0.7:8000/v1", "10.0.0.0/8"),
        ("http://192.168.5.9/v1", "example.org, 192.168.5.1/24"),
        ("http://[fd12::7]:8000/v1", "fd00::/8"),
        ("http://10.3.0.7/v1", "10.3.0.7"),
    ],
)
def test_a_network_in_no_proxy_needs_no_proxy(monkeypatch, address, names):
    monkeypatch.setenv("NO_PROXY", names)
    assert Address.parse(address).has_no_proxy()


@pytest.mark.parametrize("names", ["", "10.0.0.0/16", "10.0.0.0/x", "fd00::/8", "/8"])
def test_another_network_in_no_proxy_changes_nothing(monkeypatch, names):
    monkeypatch.setenv("NO_PROXY", names)
    assert not Address.parse("http://10.3.0.7:8000/v1").has_no_proxy()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_dead_is_named_without_its_password(serve, monkeypatch, scheme):  # noqa: F811
    monkeypatch.setenv(f"{scheme.upper()}_PROXY", "http://joe:pr0xy-pass@127.0.0.1:9")
    with pytest.raises(UserError, match=r"through the proxy http://127\.0\.0\.1:9 does not respond") as found:
        system(f"{scheme}://model.invalid/v1", retries=0)
    assert "pr0xy" not in str(found.value)


@pytest.mark.parametrize("address", ["ftp://joe:pr0xy@h:1", "socks4://h:1", "http://joe:pr0xy@h:port", "http://[::1"])
def test_what_is_no_address_of_a_proxy_is_one_line(monkeypatch, address):
    monkeypatch.setenv("ALL_PROXY", address)
    with pytest.raises(UserError, match=r"the environment names the proxy .*: expected an address") as found:
        system("http://model.invalid/v1")
    assert "pr0xy" not in str(found.value)


def test_this_machine_is_reached_without_a_proxy(serve, monkeypatch):  # noqa: F811
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert one(serve()).failure is None
    assert Address.parse("http://127.5.0.1/v1").is_local


# --- bodies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pieces",
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"%x\r\n%s\r\n" % (len(GOOD), GOOD)),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"ff\r\n{"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(GOOD) + 1), GOOD),
    ],
)
def test_a_body_that_ends_early_is_no_answer(serve, pieces):  # noqa: F811
    failure = one(serve(says=sends(*pieces)), retries=0).failure
    assert failure.retryable
    assert "without sending complete message body" in failure.message


@pytest.mark.parametrize("first", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"])
def test_what_a_server_says_before_its_answer_is_passed_over(serve, first):  # noqa: F811
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(GOOD)
    assert one(serve(says=sends(first, head, GOOD)), retries=0).failure is None


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_is_a_failure(serve, status):  # noqa: F811
    failure = one(serve(says=sends(b"HTTP/1.1 %d X\r\n\r\n" % status)), retries=0).failure
    assert failure.retryable
    assert "elsewhere" not in failure.message


@pytest.mark.parametrize("charset", ["hex", "zlib", "idna", "iso-8859-1", "nowhere"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_json_is_unicode_whatever_its_header_says(serve, charset, encoding):  # noqa: F811
    body = json.dumps(completion(ANSWER.replace("Ada", "阿达")), ensure_ascii=False).encode(encoding)
    raw = one(serve(says=lambda n: (200, body, {"Content-Type": f"application/json; charset={charset}"})), retries=0)
    assert "阿达" in raw.payload


def test_bytes_that_are_no_unicode_are_read_as_the_header_says(serve):  # noqa: F811
    body = json.dumps(completion(ANSWER.replace("Ada", "阿达")), ensure_ascii=False).encode("gbk")
    raw = one(serve(says=lambda n: (200, body, {"Content-Type": "application/json; charset=GBK"})), retries=0)
    assert "阿达" in raw.payload


@pytest.mark.parametrize("encoding", ["", "utf-8", "Identity"])
def test_only_what_is_compressed_is_refused_as_such(serve, encoding):  # noqa: F811
    assert one(serve(says=lambda n: (200, GOOD, {"Content-Encoding": encoding})), retries=0).failure is None


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate, gzip"])
def test_what_is_compressed_is_refused_and_named(serve, encoding):  # noqa: F811
    failure = one(serve(says=lambda n: (200, b"\x1f\x8b", {"Content-Encoding": encoding})), retries=0).failure
    assert f"compressed ({encoding})" in failure.message


# --- pages for a browser ----------------------------------------------------------------------------------------------

PAGE = b"<!DOCTYPE html><html><head><title>%s</title><style>b{}</style></head><body><b>much</b> more" + b"x" * 9000


@pytest.mark.parametrize(
    ("status", "title", "said"),
    [
        (200, b"Log in", "returned something that is not valid JSON (a web page: Log in)"),
        (502, b"502 Bad\nGateway", "answers 502 (a web page: 502 Bad Gateway)"),
    ],
)
def test_a_page_for_a_browser_is_named_by_its_title(serve, status, title, said):  # noqa: F811
    assert one(serve(says=lambda n: (status, PAGE % title)), retries=0).failure.message.endswith(said)


def test_a_page_that_forbids_is_not_taken_for_a_wrong_key(serve):  # noqa: F811
    with pytest.raises(UserError, match=r"refuses access \(a web page: Just a moment\.\.\.\)") as found:
        one(serve(says=lambda n: (403, PAGE % b"Just a moment...")))
    assert "key" not in str(found.value)


def test_a_server_that_sends_elsewhere_is_said_where(serve):  # noqa: F811
    away = serve(says=lambda n: (308, b"", {"Location": "https://u:p@h.example/v2/chat/completions?k=v"}))
    with pytest.raises(UserError, match=r"redirects \(https://h\.example/v2/chat/completions\): give the final"):
        one(away)


# --- in time ----------------------------------------------------------------------------------------------------------


def test_a_date_that_is_past_is_waited_for_shortly(serve):  # noqa: F811
    past = {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}
    server = serve(says=lambda n: (429, error("slow"), past) if n < 2 else (200, completion(ANSWER)))
    assert one(server).failure is None
    assert len(server.asked) == 3
