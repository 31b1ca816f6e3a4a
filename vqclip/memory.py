"""Memory: device memory, out-of-memory errors, the allocator, and chunk sizes."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor

from vqclip import machine
from vqclip.errors import UserError

__all__ = ["Chunks", "bytes_kept", "check_devices", "device_memory", "is_out_of_memory", "keep_freed_memory", "move_to"]

Network = TypeVar("Network", bound=torch.nn.Module)
Made = TypeVar("Made")


def keep_freed_memory() -> None:
    """Make the allocator keep freed memory, so that the next step reuses it.

    By default, glibc returns large blocks to the system; allocating them again takes a tenth of a step's time.  Blocks
    above 64 MiB, which occur from 512² pixels on, are still returned: kept, they fragment the heap, and a step at 1024²
    takes twice the memory.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        for parameter, value in ((-3, 2**26), (-1, 2**30)):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
            mallopt(parameter, value)


def move_to(network: Network, device: torch.device | str) -> Network:
    """Move a network to a device with channels-last weights, which makes convolutions faster (experiments/benchmarks).

    Only four-dimensional tensors can be channels-last; ``Module.to(memory_format=...)`` raises for others (Conv3d).
    """
    for tensor in chain(network.parameters(), network.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)
    return network.to(device)


def device_memory(device: torch.device) -> int:
    """Total memory of a GPU, or of this machine, in bytes."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else machine.memory()


def check_devices(devices: Sequence[str] | None) -> list[str]:
    """The devices of ``memory.devices``; empty if it is None.

    Raises:
        UserError: a device is not on this machine.
    """
    for device in devices or ():
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:  # torch built without CUDA raises AssertionError
            raise UserError(
                f"memory.devices={device}: not here ({str(error).splitlines()[0]}). Allowed: cpu, and cuda:0 to "
                f"cuda:{torch.cuda.device_count() - 1} of this machine's GPUs. Try: memory.devices=null"
                if torch.cuda.device_count()
                else f"memory.devices={device}: no GPU is here. Allowed: cpu. Try: memory.devices=null"
            ) from None
    return list(devices or ())


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that memory ran out; except for CUDA, torch and oneDNN raise a plain RuntimeError."""
    said = (
        *("can't allocate memory", "not enough memory", "MPS backend out of memory"),
        *("could not create a primitive", "could not create a memory object"),
    )
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in said)


class Chunks:
    """Chunks of pictures, and of each picture's crops, that are processed at a time; halved when memory runs out.

    Args:
        pictures, crops: the number of pictures, and of crops per picture.
        picture_chunk: pictures at a time; None: as many as fit.
        crop_chunk: crops at a time, over all pictures of a chunk; None: all.
        pictures_that_fit: measures how many pictures fit; called once, when first needed.
    """

    def __init__(
        self,
        pictures: int,
        crops: int,
        picture_chunk: int | None,
        crop_chunk: int | None,
        pictures_that_fit: Callable[[], int],
    ):
        self._pictures, self._crops, self._pictures_that_fit = pictures, crops, pictures_that_fit
        self.picture_chunk, self.crop_chunk = 1 if pictures == 1 else picture_chunk, crop_chunk

    def pictures(self) -> list[slice]:
        if self.picture_chunk is None:
            self.picture_chunk = self._pictures_that_fit()
        return _slices(self._pictures, self.picture_chunk)

    def crops(self, pictures: int) -> list[slice]:
        """Slices of each picture's crops, if ``pictures`` pictures are processed together."""
        return _slices(self._crops, max(1, self.crop_chunk // pictures) if self.crop_chunk else self._crops)

    def over_pictures(self, work: Callable[[slice], Made], begin: Callable[[], Any] = lambda: None) -> list[Made]:
        """Run ``work`` on every chunk of pictures; when memory runs out, begin again with smaller ones."""
        while True:
            begin()
            try:
                return [work(pictures) for pictures in self.pictures()]
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            self.halve()  # outside the except clause: its traceback keeps the computed tensors alive

    def halve(self) -> None:
        """Halve the number of pictures at a time, or, if it is one, the number of crops.

        Raises:
            UserError: one crop of one picture is already too much.
        """
        crops = min(self.crop_chunk or self._crops, self._crops)  # per picture: only one is left by then
        if (self.picture_chunk or 1) > 1:
            what, before = "picture", min(self.picture_chunk or 1, self._pictures)
            self.picture_chunk = after = before // 2
        elif crops > 1:
            what, before = "crop", crops
            self.crop_chunk = after = crops // 2
        else:
            raise UserError(
                "out of memory with one crop of one picture at a time. Allowed: what fits into the device's memory. "
                "Try: a smaller size, or memory.checkpoint_decoder=true"
            )
        torch.cuda.empty_cache()
        if torch.backends.mps.is_available():
            torch.mps.empty_cache()
        print(f"out of memory with {before} {what}s at a time; going on with memory.{what}_chunk={after}")


def _slices(count: int, size: int) -> list[slice]:
    return [slice(i, min(i + size, count)) for i in range(0, count, size)]


@torch.enable_grad()
def bytes_kept(work: Callable[[], Any], networks: Sequence[torch.nn.Module]) -> int:
    """Bytes that autograd saves during ``work``, without the weights of ``networks``."""
    weights = {p.untyped_storage().data_ptr() for network in networks for p in network.parameters()}
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        work()
    return sum(kept.values())
