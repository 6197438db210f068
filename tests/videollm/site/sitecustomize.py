"""What Python runs first in the processes that vLLM starts: see `tests.torchvision_on_cpu_torch`."""

from tests import torchvision_on_cpu_torch  # noqa: F401
