"""The options of a service, and the server."""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m3dllm.commands import say
from m3dllm.errors import UserError
from m3dllm.serve.address import LOCAL

NEEDS = ("starlette", "uvicorn", "multipart")


@dataclass(frozen=True, slots=True)
class Service:
    """A system with its options, as for `extract`; `words` are the options as written."""

    system: str
    checkpoint: Path | None = None
    preset: str | None = None
    labels: Path | None = None
    seed: int = 0
    options: Mapping[str, Any] | None = None
    words: tuple[str, ...] = ()

    def command(self) -> tuple[str, ...]:
        """The same options for `m3dllm extract`."""
        named = {"system": self.system, "checkpoint": self.checkpoint, "preset": self.preset, "labels": self.labels}
        own = [word for name, value in named.items() if value is not None for word in (f"--{name}", str(value))]
        return (*own, "--seed", str(self.seed), *self.words)


def start(service: Service, out: Path, host: str, port: int, *, token_env: str) -> None:
    """Serve until Ctrl-C. Raises UserError, before listening, for options that cannot be used."""
    if missing := [name for name in NEEDS if importlib.util.find_spec(name) is None]:
        raise UserError(f"serve needs {', '.join(missing)}: pip install 'm3dllm[serve]'")
    token = os.environ.get(token_env, "")
    if host not in LOCAL and not token:
        raise UserError(
            f"--host {host} can be reached from elsewhere: set a token in the environment variable {token_env}"
        )
    import uvicorn

    from m3dllm.serve.app import make_app
    from m3dllm.serve.jobs import Jobs

    predictor = make_predictor(service)
    app = make_app(Jobs(out, service.command()), predictor, token=token)
    name = f"[{host}]" if ":" in host else host
    with listening(host, port) as listener, suppress(KeyboardInterrupt):
        port = listener.getsockname()[1]
        say(f"form           http://{name}:{port}/")
        say(f"Label Studio   http://{name}:{port}  (Settings, Model, Connect Model)")
        say("Ctrl-C stops it")
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens on the address. Raises UserError if that cannot be."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        why = str(error.strerror).partition(" (while")[0]
        raise UserError(f"--host {host} --port {port}: {why}: choose another port or address") from error


def make_predictor(service: Service) -> Any:
    """The system for Label Studio, loaded on the first task. Raises UserError for invalid options."""
    from m3dllm.config import Options
    from m3dllm.experiment import fitting_checkpoint
    from m3dllm.extract.steps import labels_for
    from m3dllm.options import resolve_config
    from m3dllm.registry import find_system
    from m3dllm.serve.label_studio import Predictor

    spec = find_system(service.system)
    config = resolve_config(spec, service.options or {}, preset=service.preset, seed=service.seed)
    spec = spec.declared(config)
    spec.require(config)
    labels, guidelines = labels_for(service.labels, service.checkpoint, service.options or {}, spec.fitted_name)
    if spec.trainable and spec.fits_first and service.checkpoint is None:
        raise UserError(f"system '{spec.fitted_name}' must be fitted: give its run by --checkpoint")
    folder = None if service.checkpoint is None else fitting_checkpoint(service.checkpoint, spec, labels)[0]
    if isinstance(config, Options):
        config = config.settled(guidelines, folder)
    return Predictor(lambda: spec.load(config)(config, labels=labels, checkpoint=folder), labels, service.system)
