"""Tiled super-resolution with the user's own weights (ESRGAN, Real-ESRGAN, SwinIR, …), read by spandrel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from vqclip.checkpoints.cards import local_path
from vqclip.checkpoints.tensors import open_tensors
from vqclip.errors import UserError

__all__ = ["Upscaler"]

CONTEXT = 32  #: pixels around a tile that the network also sees


class Upscaler:
    """A network that enlarges pictures by the factor ``scale``.

    Args:
        path: its weights, ``.pth`` or ``.safetensors``; spandrel infers the architecture from their names and shapes.
        tile: side of a tile in pixels; memory grows with its square, not with the picture.

    Raises:
        UserError: spandrel is not installed, there is no such file, or it is not super-resolution in RGB.
    """

    def __init__(self, path: str | Path, tile: int):
        try:
            import spandrel
        except ModuleNotFoundError:
            raise UserError("callbacks.upscale: needs spandrel. Try: pip install 'vqclip[upscale]'") from None
        file = open_tensors(local_path(str(path)))
        try:
            network = spandrel.ModelLoader().load_from_state_dict({name: file.get(name) for name in file.shapes})
        except Exception as error:  # architectures raise anything for weights that do not fit
            reason = str(error) or "spandrel knows no network with such weights"
            raise UserError(
                f"{path}: {' '.join(reason.split())}. Allowed: super-resolution by spandrel's list"
            ) from None
        if not isinstance(network, spandrel.ImageModelDescriptor) or network.scale == 1 or network.output_channels != 3:
            raise UserError(f"{path}: {network.architecture.name}, which makes no RGB picture larger")
        self.network, self.tile, self.scale = network, tile, network.scale

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Tensor:
        """Picture [3,H,W] in [0,1] → [3,scale·H,scale·W] in [0,1], on the CPU."""
        large = image.new_empty(3, *(side * self.scale for side in image.shape[1:]), device="cpu")
        for top, bottom, above in _tiles(image.shape[1], self.tile):
            for left, right, before in _tiles(image.shape[2], self.tile):
                seen = image[None, :, above : bottom + CONTEXT, before : right + CONTEXT]
                made = self.network(seen.to(self.network.device, self.network.dtype))[0]
                y, x = ((near - far) * self.scale for near, far in ((top, above), (left, before)))
                rows, columns = (
                    slice(near * self.scale, far * self.scale) for near, far in ((top, bottom), (left, right))
                )
                h, w = (part.stop - part.start for part in (rows, columns))
                large[:, rows, columns] = made[:, y : y + h, x : x + w].to(large)
        return large


def _tiles(side: int, tile: int) -> Iterator[tuple[int, int, int]]:
    """The start and end of each tile along a side, and the start of its context."""
    for start in range(0, side, tile):
        yield start, min(side, start + tile), max(0, start - CONTEXT)
