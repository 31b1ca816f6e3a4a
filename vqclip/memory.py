"""Memory: how much a device has, out-of-memory errors, the allocator, and the size of chunks."""

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

__all__ = ["Chunks", "bytes_kept", "device_memory", "existing", "is_out_of_memory", "keep_freed_memory", "moved"]

Network = TypeVar("Network", bound=torch.nn.Module)
Made = TypeVar("Made")


def keep_freed_memory() -> None:
    """Have the allocator keep freed memory, so that the next step reuses it.

    By default, glibc gives large blocks back to the system, and asking for them again costs a step a tenth of its time.
    Blocks above 64 MiB, which only pictures of 512² and more have, still go back: kept, they lie between others in
    pieces that fit nothing, and a step at 1024² takes twice the memory.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        for parameter, value in ((-3, 2**26), (-1, 2**30)):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
            mallopt(parameter, value)


def moved(network: Network, device: torch.device | str) -> Network:
    """A network on a device, weights channels-last: convolutions are faster so (experiments/benchmarks).

    Only tensors of four dimensions have that order; torch's own ``to`` refuses a network with others, as Conv3d's.
    """
    for tensor in chain(network.parameters(), network.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)
    return network.to(device)


def device_memory(device: torch.device) -> int:
    """Bytes of a GPU, or of this machine."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else machine.memory()


def existing(devices: Sequence[str] | None) -> list[str]:
    """The devices of ``memory.devices``; none where it is None.

    Raises:
        UserError: one is not on this machine.
    """
    for device in devices or ():
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts that it had it
            raise UserError(
                f"memory.devices={device}: not here ({str(error).splitlines()[0]}). Allowed: cpu, and cuda:0 to "
                f"cuda:{torch.cuda.device_count() - 1} of this machine's GPUs. Try: memory.devices=null"
                if torch.cuda.device_count()
                else f"memory.devices={device}: no GPU is here. Allowed: cpu. Try: memory.devices=null"
            ) from None
    return list(devices or ())


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device or the CPU had no memory left; but for CUDA, torch and oneDNN raise a plain RuntimeError."""
    said = (
        *("can't allocate memory", "not enough memory", "MPS backend out of memory"),
        *("could not create a primitive", "could not create a memory object"),
    )
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in said)


class Chunks:
    """How much is worked on in one go: slices of the pictures, and of each picture's crops; halved where memory ends.

    Args:
        pictures, crops: how many pictures there are, and crops of each.
        picture_chunk: pictures in one go; None for as many as fit.
        crop_chunk: crops in one go, over all pictures; None for all.
        pictures_that_fit: tells how many pictures fit; asked once, when it is first needed.
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
        """Of the crops of every picture, where ``pictures`` are worked on together."""
        return _slices(self._crops, max(1, self.crop_chunk // pictures) if self.crop_chunk else self._crops)

    def over_pictures(self, work: Callable[[slice], Made], begin: Callable[[], Any] = lambda: None) -> list[Made]:
        """``work`` on every slice of the pictures; from ``begin`` again with smaller ones where memory ends."""
        while True:
            begin()
            try:
                return [work(pictures) for pictures in self.pictures()]
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            self.halve()  # after the except clause, whose error holds what was computed

    def halve(self) -> None:
        """Out of memory: half as many pictures in one go, then half as many crops.

        Raises:
            UserError: one crop of one picture is too much.
        """
        crops = min(self.crop_chunk or self._crops, self._crops)  # of the one picture that is left by then
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
    """Bytes that autograd keeps during ``work``, besides the weights of ``networks``."""
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
