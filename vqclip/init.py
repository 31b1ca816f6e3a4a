"""Starts: where the latent begins."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vqclip.errors import UserError, closest
from vqclip.io.pixels import fit, read_image
from vqclip.protocols import InitContext

__all__ = ["Blank", "Codebook", "Image", "InitContext", "MaskComposite", "Prior", "Sine"]


class Sine:
    """``sin(std · randn)`` (algorithm.md, row "latent init")."""

    def __init__(self, std: float):
        self.std = std

    def __call__(self, start: InitContext) -> Tensor:
        return torch.sin(self.std * start.rng.normal("init", *start.shape))


class Blank:
    """The latent of an empty sheet, with normal noise in its middle, from which a guide that draws shapes draws one.

    A robust guide's gradient is nearly nothing on an empty sheet; the noise is what it begins at.

    Args:
        colour: of the sheet, by name or as ``"#rrggbb"``.
        noise: standard deviation of the noise in the very middle, in units of the codebook's own.
        spot: how far out the noise reaches, where it has fallen to e⁻¹, as a share of half a side.
    """

    def __init__(self, colour: str, noise: float, spot: float):
        self.colour, self.noise, self.spot = colour, noise, spot

    @torch.no_grad()
    def __call__(self, start: InitContext) -> Tensor:
        codes, f = start.generator.codebook, start.generator.factor
        sheet = torch.tensor(_rgb(self.colour)).view(1, 3, 1, 1) / 255
        z = start.generator.encode(sheet.expand(-1, -1, start.shape[1] * f, start.shape[2] * f).to(codes))
        y, x = (torch.linspace(-1, 1, side) for side in start.shape[1:])
        hill = torch.exp(-(y[:, None].square() + x.square()) / self.spot**2)
        return z + self.noise * codes.std() * (hill * start.rng.normal("init", *start.shape)).to(z)


def _rgb(colour: str) -> tuple[int, ...]:
    """A colour's red, green and blue, 0 to 255."""
    from PIL import ImageColor

    try:
        return ImageColor.getcolor(colour, "RGB")
    except ValueError:
        names = list(ImageColor.colormap)
        raise UserError(
            f"init.colour={colour}: no colour of this name.{closest(colour, names)} "
            f'Allowed: the {len(names)} names of CSS, or "#rrggbb". Try: init.colour=white'
        ) from None


class Codebook:
    """A random code at every place."""

    def __call__(self, start: InitContext) -> Tensor:
        codes = start.generator.codebook
        index = start.rng.integers("init", len(codes), *start.shape[1:])
        return codes[index].movedim(-1, 1).clone()


class Prior:
    """The latent that the pair's prior predicts from the text; other sizes by way of the picture it decodes to.

    A generator that the prior was not made for starts from noise, and the run says so.

    Args:
        jitter: standard deviation of normal noise on it, in units of the latent's own; what makes seeds differ.
    """

    def __init__(self, jitter: float):
        self.jitter = jitter

    @torch.no_grad()
    def __call__(self, start: InitContext) -> Tensor:
        from vqclip.checkpoints.load import load_prior

        prior = load_prior(start.prior) if start.prior else None
        if prior is None or prior.channels != start.shape[0]:
            print(
                "init=prior: this generator has no prior, so the picture starts from noise (init=sine). "
                "experiment=reference has the other settings that suit such a start."
            )
            return Sine(std=0.5)(start)
        z = torch.cat([prior(prior.tokenize([text])) for text in start.texts])  # one by one: see encode_text
        if tuple(z.shape[1:]) != start.shape:
            f = start.generator.factor
            image = start.generator.decode(z.to(start.generator.codebook))
            z = start.generator.encode(fit(image, start.shape[1] * f, start.shape[2] * f, "pad"))
        z = z.to(start.generator.codebook)
        return z + self.jitter * z.std() * start.rng.normal("init", *start.shape).to(z)


class Image:
    """The latent of a picture of the user's own.

    Args:
        path: any format that Pillow opens.
        fit: how it comes to the run's size, see :func:`fit`.
        mask: a picture of the same proportions, white where the result may differ; None for everywhere.
        feather: pixels over which the mask comes to its full strength, inwards from its edge.
    """

    def __init__(self, path: str, fit: str, mask: str | None, feather: int):
        self.path, self.fit, self.mask, self.feather = path, fit, mask, feather

    @torch.no_grad()
    def __call__(self, start: InitContext) -> Tensor:
        z = start.generator.encode(self._read(self.path, start))
        return z.expand(len(start.texts), -1, -1, -1).clone()

    def keep(self, start: InitContext) -> MaskComposite | None:
        """What the result keeps of the picture; None without a mask."""
        if self.mask is None:
            return None
        # Its nearest pixels: what is between black and white would reach out over the edge.
        white = self._read(self.mask, start, ground="black", nearest=True).mean(1, keepdim=True)
        return MaskComposite(self._read(self.path, start), feather(white, self.feather))

    def _read(self, path: str, start: InitContext, ground: str = "white", nearest: bool = False) -> Tensor:
        f = start.generator.factor
        image = fit(read_image(path, ground), start.shape[1] * f, start.shape[2] * f, self.fit, nearest)
        return image.to(start.generator.codebook)


class MaskComposite(torch.nn.Module):
    """Holds a picture where its mask is black: ``mask · made + (1 − mask) · picture``.

    Args:
        picture: [1,3,H,W] in [0,1].
        mask: [1,1,H,W] in [0,1], 0 where the picture stays to the last bit.
    """

    def __init__(self, picture: Tensor, mask: Tensor):
        super().__init__()
        self.register_buffer("picture", picture, persistent=False)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, made: Tensor) -> Tensor:
        """[B,3,H,W] in [0,1] → the same."""
        return self.mask * made + (1 - self.mask) * self.picture


def feather(mask: Tensor, pixels: int) -> Tensor:
    """A mask [1,1,H,W] that comes to its strength over ``pixels`` inwards from its edge; the rim is no edge."""
    layers = [mask]
    for _ in range(pixels - 1):
        layers.append(-F.max_pool2d(-layers[-1], 3, stride=1, padding=1))  # one pixel less on every side
    return torch.stack(layers).mean(0)
