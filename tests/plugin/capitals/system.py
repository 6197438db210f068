import re
import time
from dataclasses import dataclass

from m3dllm.config import NotNegative, Options
from m3dllm.system import System
from m3dllm.types import RawOutput


@dataclass(frozen=True)
class Config(Options):
    type: str = "PER"
    """The type that every mention gets."""
    pause_s: NotNegative = 0.0
    """Wait so long before each document, as a slow model would."""


class Capitals(System):
    def predict(self, documents):
        for document in documents:
            time.sleep(self.config.pause_s)
            found = re.finditer(r"[A-Z]\w+(?: [A-Z]\w+)*", document.text)
            mentions = [{"start": m.start(), "end": m.end(), "type": self.config.type} for m in found]
            yield RawOutput(document.id, payload={"chains": [{"mentions": [mention]} for mention in mentions]})
