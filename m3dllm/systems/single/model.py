"""The backbone of one modality: the output of its encoder."""

from __future__ import annotations

from m3dllm.systems.supervised.backbone import Backbone, States
from m3dllm.systems.supervised.data import Batch
from m3dllm.systems.supervised.system import Supervised


class SingleBackbone(Backbone):
    """No fusion."""

    def forward(self, batch: Batch) -> States:
        encoded = words, patches = self.features(batch)
        return self.states(batch, words.last, patches.last, encoded=encoded)


class Single(Supervised):
    """`text-only` and `vision-only`."""

    backbone = SingleBackbone
