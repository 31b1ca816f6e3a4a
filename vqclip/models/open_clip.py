"""Perceptors from open_clip, an extra: its ViTs, ConvNeXts, EVA and SigLIP models.

The weights are a card's, read like any checkpoint; open_clip downloads none.  The library provides the networks by
name, the tokenizers, and the normalisation of the weights published under that name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from vqclip.errors import UserError, closest
from vqclip.paths import offline
from vqclip.precision import one_by_one

try:
    import open_clip
except ModuleNotFoundError:
    raise ImportError("open_clip is not installed. Try: pip install 'vqclip[open_clip]'") from None

__all__ = ["OpenCLIP"]


class OpenCLIP(nn.Module):
    """One of open_clip's models.

    Args:
        model: open_clip's name of the architecture, ``ViT-B-32``; names for OpenAI's weights end in ``-quickgelu``.
        mean, std: per colour channel, three numbers each; None: those of the weights published for the model.

    Raises:
        UserError: no such model.
    """

    mean: Tensor
    std: Tensor
    model: Any  #: open_clip's models have no common base class

    def __init__(self, model: str, mean: list[float] | None = None, std: list[float] | None = None):
        super().__init__()
        known = open_clip.list_models()
        if model not in known:
            raise UserError(f"model={model}: not one of open_clip's {len(known)} models.{closest(model, known)}")
        self.name = model
        before = logging.root.manager.disable
        logging.disable(max(before, logging.WARNING))  # no warning about random weights: the card's are loaded next
        try:
            self.model = open_clip.create_model(model, precision="fp32", load_weights=False, pretrained_hf=False)
        finally:
            logging.disable(before)
        size = self.model.visual.image_size
        self.input_size: int = size if isinstance(size, int) else size[0]
        published = _normalisation(model)
        for name, given in (("mean", mean), ("std", std)):
            colours = torch.tensor(given or published[name], dtype=torch.float32)
            self.register_buffer(name, colours.view(1, 3, 1, 1), persistent=False)

    @staticmethod
    def tensor_names(names: Iterable[str]) -> dict[str, str]:
        """Strip the ``module.`` that open_clip's training checkpoints prepend to every name."""
        return {name: f"model.{name.removeprefix('module.')}" for name in names}

    @cached_property
    def tokenize(self) -> Callable[[list[str]], Tensor]:
        """Texts → token ids [len(texts), L]; SigLIP's tokenizer needs transformers and is downloaded once.

        Raises:
            UserError: the tokenizer is not available.
        """
        config = open_clip.get_model_config(self.name)
        name = config and config["text_cfg"].get("hf_tokenizer_name")
        if not name:
            return open_clip.get_tokenizer(self.name)
        try:
            return open_clip.get_tokenizer(self.name, local_files_only=offline())
        except ModuleNotFoundError as error:
            raise UserError(f"{self.name}: its tokenizer needs {error.name}. Try: pip install transformers") from None
        except OSError as error:
            raise UserError(
                f"{self.name}: its tokenizer {name} is not here and cannot be fetched ({str(error).splitlines()[0]}). "
                f"Try, where there is a network: hf download {name}"
            ) from None

    def encode_text(self, texts: list[str]) -> Tensor:
        """Texts → vectors [len(texts), D], not normalised; long texts are truncated."""
        tokens = self.tokenize(texts).to(self.mean.device)
        return one_by_one(lambda one: self.model.encode_text(one).float(), tokens)

    def encode_image(self, crops: Tensor) -> Tensor:
        """Crops [M,3,S,S], nominally in [0,1] → vectors [M,D]."""
        return self.model.encode_image((crops - self.mean) / self.std).float()


def _normalisation(model: str) -> dict[str, tuple[float, ...]]:
    """The mean and standard deviation per colour channel of the weights published for a model."""
    tags = open_clip.list_pretrained_tags_by_model(model)
    known = open_clip.get_pretrained_cfg(model, tags[0]) if tags else {}
    return {
        "mean": known.get("mean") or open_clip.OPENAI_DATASET_MEAN,
        "std": known.get("std") or open_clip.OPENAI_DATASET_STD,
    }
