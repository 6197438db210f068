"""Auxiliary losses for every supervised system (`--aux-loss`), one file each.

A new one is its file, its class in `ALL` and its name in `config.AuxLoss`.
"""

from __future__ import annotations

from m3dllm.systems.supervised.auxiliary.attn_mixup import AttnMixup
from m3dllm.systems.supervised.auxiliary.base import Auxiliary
from m3dllm.systems.supervised.auxiliary.cag import CAG
from m3dllm.systems.supervised.auxiliary.camim import CAMIM
from m3dllm.systems.supervised.auxiliary.kl_prior import KLPrior
from m3dllm.systems.supervised.auxiliary.shap_ca import ShapCA

ALL: dict[str, type[Auxiliary]] = {kind.name: kind for kind in (AttnMixup, CAG, CAMIM, KLPrior, ShapCA)}
"""name -> class."""
