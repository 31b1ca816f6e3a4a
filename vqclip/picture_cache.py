"""Cache of the pictures decoded for a snapshot, so that the next step need not decode them again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vqclip.precision import autocast_on

__all__ = ["PictureCache"]


class PictureCache:
    """Keeps a snapshot's pictures with their autograd graph until the next step takes them."""

    def __init__(self) -> None:
        #: version and copy of the latents, whether autocast was on, their pictures
        self._kept: tuple[int, Tensor, bool, Tensor] | None = None

    def __deepcopy__(self, memo: dict) -> PictureCache:
        return PictureCache()  # a graph cannot be copied; the copied module decodes anew

    def take(self, latent: Tensor) -> Tensor | None:
        """Remove and return the pictures [B,3,H,W] of ``latent`` [B,C,h,w] if it has not changed, else None.

        Snapshots are decoded in full precision, so a step in mixed precision decodes anew, as it would after a resume.
        """
        kept, self._kept = self._kept, None
        if kept and kept[0] == latent._version and kept[2] == _is_mixed(latent) and torch.equal(kept[1], latent):
            return kept[3]
        return None

    def picture(self, module: Any, shown: Tensor, pictures: slice) -> Tensor:
        """Decode ``pictures`` of the ``shown`` latents, [n,3,H,W]; keep them if the next step would decode the same."""
        self._kept = None  # left by a snapshot that ran out of memory and is repeated in smaller chunks
        ends = module.global_step >= module.steps
        # On a GPU the step itself decodes, so that its out-of-memory handling covers the decoder's graph.
        apart = module.device.type != "cpu" or module.generator.strip or len(module.chunks.pictures()) > 1
        if ends or apart or module.search.stages or module.search.average:
            return module.picture(shown[pictures])
        with torch.enable_grad():
            images = module.picture(module.latent[pictures])
        self._kept = module.latent._version, module.latent.detach().clone(), _is_mixed(module.latent), images
        return images.detach()


def _is_mixed(latent: Tensor) -> bool:
    return autocast_on(latent.device.type)
