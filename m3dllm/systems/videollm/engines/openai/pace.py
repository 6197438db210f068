"""The rate of requests: limits on requests and tokens per minute, and pauses for all when the server asks for one."""

from __future__ import annotations

import threading
import time


class _Bucket:
    """A token bucket: it holds one minute's amount, and refills evenly."""

    def __init__(self, per_minute: int, now: float) -> None:
        self.size = self.left = float(per_minute)
        self.filled = now

    def take(self, amount: float, now: float) -> float:
        """Take `amount` (at most the bucket's size); returns the seconds to wait before using it."""
        self.left = min(self.size, self.left + (now - self.filled) * self.size / 60)
        self.filled = now
        self.left -= min(amount, self.size)
        return max(0.0, -self.left) * 60 / self.size


class Pace:
    """When the next request may be sent. Shared by all threads of one server."""

    def __init__(self, *, rpm: int = 0, tpm: int = 0) -> None:
        """`rpm`: requests per minute, `tpm`: tokens per minute, prompt and answer; 0: no limit."""
        now = time.monotonic()
        self._lock = threading.Lock()
        self._requests = _Bucket(rpm, now) if rpm else None
        self._tokens = _Bucket(tpm, now) if tpm else None
        self._paused_until = now

    def wait(self, tokens: int) -> None:
        """Wait until a request with this many tokens may be sent."""
        with self._lock:
            now = time.monotonic()
            waits = [bucket.take(n, now) for bucket, n in ((self._requests, 1), (self._tokens, tokens)) if bucket]
            until = max([now + max(waits, default=0.0), self._paused_until])
        while (left := until - time.monotonic()) > 0:
            time.sleep(left)
            with self._lock:
                if self._paused_until <= until:
                    return
                until = self._paused_until

    def pause(self, seconds: float) -> None:
        """Pause all requests for this many seconds."""
        with self._lock:
            self._paused_until = max(self._paused_until, time.monotonic() + seconds)
