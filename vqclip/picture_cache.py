"""A cache for the picture that a snapshot decodes, so that the next step need not decode it again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vqclip.precision import autocast_on

__all__ = ["PictureCache"]


class PictureCache:
    """Keeps a snapshot's pictures with their graph, until the next step asks for them."""

    def __init__(self) -> None:
        #: version and copy of the latents, whether in mixed precision, their pictures
        self._kept: tuple[int, Tensor, bool, Tensor] | None = None

    def __deepcopy__(self, memo: dict) -> PictureCache:
        return PictureCache()  # no graph can be copied: a copied module decodes for itself

    def take(self, latent: Tensor) -> Tensor | None:
        """The pictures of the parameter ``latent`` [B,C,h,w] as it is now, [B,3,H,W]; once, and None where not kept.

        A snapshot is made in full precision: a step in mixed precision decodes anew, as it would after a resume.
        """
        kept, self._kept = self._kept, None
        if kept and kept[0] == latent._version and kept[2] == _is_mixed(latent) and torch.equal(kept[1], latent):
            return kept[3]
        return None

    def picture(self, module: Any, shown: Tensor, pictures: slice) -> Tensor:
        """Some of the pictures that a run shows, [n,3,H,W]; kept where its next step will decode the very same."""
        self._kept = None  # of a snapshot whose memory ended, which goes on with fewer pictures
        ends = module.global_step >= module.steps
        # A GPU may be too small for a step, which then goes on with smaller parts: there it decodes within that.
        apart = module.device.type != "cpu" or module.generator.strip or len(module.chunks.pictures()) > 1
        if ends or apart or module.search.stages or module.search.average:
            return module.picture(shown[pictures])
        with torch.enable_grad():
            images = module.picture(module.latent[pictures])
        self._kept = module.latent._version, module.latent.detach().clone(), _is_mixed(module.latent), images
        return images.detach()


def _is_mixed(latent: Tensor) -> bool:
    return autocast_on(latent.device.type)
