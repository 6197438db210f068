from torch import nn

from m3dllm.systems.supervised.backbone import Backbone
from m3dllm.systems.supervised.system import Supervised


class MeanFramesBackbone(Backbone):
    def __init__(self, config, text, vision):
        super().__init__(config, text, vision)
        self.project = nn.Linear(self.hidden, self.hidden)

    def forward(self, batch):
        words, patches = self.features(batch)  # (batch, words, hidden), (batch, frames * patches, hidden)
        scene = self.config.frame_weight * self.project(patches.mean())
        return self.states(batch, words.last + scene[:, None], patches.last)


class MeanFrames(Supervised):
    backbone = MeanFramesBackbone
