"""How fast a server is asked: so many requests and tokens a minute, and one pause for all when it asks for one."""

from __future__ import annotations

import threading
import time


class _Bucket:
    """So many a minute: a full minute's worth may go at once, then they come back evenly."""

    def __init__(self, per_minute: int, now: float) -> None:
        self.size = self.left = float(per_minute)
        self.filled = now

    def take(self, amount: float, now: float) -> float:
        """Take `amount` (at most the bucket's size); the seconds to wait before it may be used."""
        self.left = min(self.size, self.left + (now - self.filled) * self.size / 60)
        self.filled = now
        self.left -= min(amount, self.size)
        return max(0.0, -self.left) * 60 / self.size


class Pace:
    """When the next request may go. Shared by all threads that ask one server."""

    def __init__(self, *, rpm: int = 0, tpm: int = 0) -> None:
        """`rpm`: requests a minute, `tpm`: tokens a minute, prompt and answer; 0: as many as there are."""
        now = time.monotonic()
        self._lock = threading.Lock()
        self._requests = _Bucket(rpm, now) if rpm else None
        self._tokens = _Bucket(tpm, now) if tpm else None
        self._paused_until = now

    def wait(self, tokens: int) -> None:
        """Wait until a request of so many tokens may go."""
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
        """Let nobody ask for so many seconds from now."""
        with self._lock:
            self._paused_until = max(self._paused_until, time.monotonic() + seconds)
