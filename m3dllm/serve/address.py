"""The names of this machine."""

LOCAL = frozenset(("localhost", "127.0.0.1", "::1"))
