"""Starts: the initial latent."""

from __future__ import annotations

from dataclasses import replace

import torch
from einops import rearrange
from torch import Tensor

from vqclip.errors import UserError
from vqclip.io.latents import SavedLatent, saved_latents
from vqclip.io.masks import MaskComposite, feather, subject_mask
from vqclip.io.pixels import fit, read_image, rgb
from vqclip.precision import one_by_one
from vqclip.protocols import Init, InitContext
from vqclip.rng import StepRandom

__all__ = [
    "Blank",
    "Codebook",
    "Gradient",
    "Image",
    "Noise",
    "PixelNoise",
    "Prior",
    "Run",
    "Sine",
    "best_of",
]


class Sine:
    """``sin(std · randn)`` (algorithm.md, row "latent init")."""

    def __init__(self, std: float):
        self.std = std

    def __call__(self, start: InitContext) -> Tensor:
        return torch.sin(self.std * start.rng.normal("init", *start.shape))


class Noise:
    """Normal noise with the mean and standard deviation of the codebook, channel by channel.

    Args:
        std: of the noise, in standard deviations of the codes; a denoiser (``vqclip.terms.Denoised``) needs several.
    """

    needs = ("codebook",)

    def __init__(self, std: float):
        self.std = std

    def __call__(self, start: InitContext) -> Tensor:
        codes = start.generator.codebook
        mean, deviation = (value.view(-1, 1, 1) for value in (codes.mean(0), codes.std(0)))
        return mean + self.std * deviation * start.rng.normal("init", *start.shape).to(codes)


class Blank:
    """The latent of an empty sheet with a spot of normal noise in its middle, for a robust guide to draw from.

    A robust guide's gradient almost vanishes on an empty sheet; the noise gives it something to start from.

    Args:
        colour: of the sheet, by name or as ``"#rrggbb"``.
        noise: standard deviation of the noise at the centre, in units of the codebook's.
        spot: radius at which the noise has fallen to e⁻¹, as a fraction of half a side.
    """

    needs = ("encode", "codebook")

    def __init__(self, colour: str, noise: float, spot: float):
        self.colour, self.noise, self.spot = colour, noise, spot

    @torch.no_grad()
    def __call__(self, start: InitContext) -> Tensor:
        codes = start.generator.codebook
        sheet = rearrange(rgb(self.colour), "c -> 1 c 1 1")
        z = start.generator.encode(sheet.expand(-1, -1, *_pixels(start)).to(codes))
        y, x = (torch.linspace(-1, 1, side) for side in start.shape[1:])
        hill = torch.exp(-(y[:, None].square() + x.square()) / self.spot**2)
        return z + self.noise * codes.std() * (hill * start.rng.normal("init", *start.shape)).to(z)


class Gradient:
    """The latent of a colour gradient.

    Args:
        colours: two or more, evenly spaced, by name or as ``"#rrggbb"``; None: two random ones per picture.
        angle: direction in degrees: 0 is from top to bottom, 90 from left to right.
    """

    needs = ("encode",)

    def __init__(self, colours: list[str] | None, angle: float):
        self.colours, self.angle = colours, angle

    def __call__(self, start: InitContext) -> Tensor:
        if self.colours is None:
            stops = start.rng.uniform("init", 2, 3)  # [B,2,3]
        else:
            stops = torch.stack([rgb(name) for name in self.colours]).expand(len(start.texts), -1, -1)
        return start.of_picture(_encoded(start, self._picture(stops, *_pixels(start))))

    def _picture(self, stops: Tensor, height: int, width: int) -> Tensor:
        """Colours [B,n,3] in [0,1] → gradients [B,3,H,W]."""
        angle = torch.deg2rad(torch.tensor(float(self.angle)))
        y, x = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)
        along = y * angle.cos() + x * angle.sin()
        along = (along - along.min()) / (along.max() - along.min()).clamp(min=1e-9) * (stops.shape[1] - 1)  # 0 to n - 1
        stop = along.floor().clamp(max=stops.shape[1] - 2).long()
        colours = torch.lerp(stops[:, stop], stops[:, stop + 1], (along - stop)[..., None])
        return rearrange(colours, "b h w rgb -> b rgb h w")


class PixelNoise:
    """The latent of a noise picture whose amplitude falls with the frequency f as ``f^-slope``.

    Args:
        slope: 0 is white noise; 1 pink or fractal noise, the same at every scale; 2 large clouds only.
        contrast: standard deviation of the pixels around middle grey, for pixels in [0,1].
        grey: use the same noise for all three colours.
    """

    needs = ("encode",)

    def __init__(self, slope: float, contrast: float, grey: bool):
        self.slope, self.contrast, self.grey = slope, contrast, grey

    def __call__(self, start: InitContext) -> Tensor:
        height, width = _pixels(start)
        noise = start.rng.normal("init", 1 if self.grey else 3, height, width)
        y, x = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
        frequency = (y.square() + x.square()).sqrt()
        frequency[0, 0] = torch.inf if self.slope > 0 else 1  # the mean is middle grey
        noise = torch.fft.irfft2(torch.fft.rfft2(noise) * frequency.pow(-self.slope), s=(height, width))
        noise = noise / noise.std(dim=(1, 2, 3), keepdim=True)
        return _encoded(start, (0.5 + self.contrast * noise).clamp(0, 1).expand(-1, 3, -1, -1))


def _pixels(start: InitContext) -> tuple[int, int]:
    """Height and width of the run's pictures in pixels."""
    return start.shape[1] * start.generator.factor, start.shape[2] * start.generator.factor


@torch.no_grad()
def _encoded(start: InitContext, pictures: Tensor) -> Tensor:
    """Encode pictures [B,3,H,W] in [0,1] one by one."""
    return one_by_one(lambda one: start.generator.encode(start.place(one)), pictures)


class Codebook:
    """A random code of the codebook at every position."""

    needs = ("codebook",)

    def __call__(self, start: InitContext) -> Tensor:
        codes = start.generator.codebook
        index = start.rng.integers("init", len(codes), *start.shape[1:])
        return rearrange(codes[index], "b h w c -> b c h w").clone()


class Prior:
    """The latent that the pair's prior predicts from the text; for other sizes, its picture is resized and encoded.

    With a generator that the prior was not made for, the run starts from noise and prints a note.

    Args:
        jitter: standard deviation of added normal noise, in units of the latent's; it makes seeds differ.
    """

    def __init__(self, jitter: float):
        self.jitter = jitter

    @torch.no_grad()
    def __call__(self, start: InitContext) -> Tensor:
        from vqclip.checkpoints.load import load_prior

        prior = load_prior(start.prior) if start.prior else None
        # Channels alone do not tell: another kind of autoencoder may have as many, but has no codebook.
        vqgan = all(hasattr(start.generator, name) for name in ("codebook", "encode"))
        if prior is None or prior.channels != start.shape[0] or not vqgan:
            print(
                "init=prior: this generator has no prior, so the picture starts from noise (init=sine). "
                "experiment=reference has the other settings that suit such a start."
            )
            return Sine(std=0.5)(start)
        z = torch.cat([prior(prior.tokenize([text])) for text in start.texts])  # one text at a time, see one_by_one
        if tuple(z.shape[1:]) != start.shape:
            images = one_by_one(lambda one: start.generator.decode(start.place(one)), z)
            z = _encoded(start, fit(images, *_pixels(start), "pad"))
        z = start.place(z)
        z = z + self.jitter * z.std((1, 2, 3), keepdim=True) * start.rng.normal("init", *start.shape).to(z)
        return start.of_picture(z)


class Image:
    """The latent of the user's own picture.

    Args:
        path: any format that Pillow opens.
        fit: how it is brought to the run's size, see :func:`fit`.
        mask: a picture of the same proportions, white where the result may differ; None: everywhere.
        ground: pixels this close, in [0,1], to the colour of the picture's border stay unchanged; None: no pixels.
            With a mask as well, a pixel may change only if both allow it.
        feather: width in pixels of the mask's soft edge, inwards.
    """

    needs = ("encode",)

    def __init__(self, path: str, fit: str, mask: str | None, feather: int, ground: float | None = None):
        self.path, self.fit, self.mask, self.feather, self.ground = path, fit, mask, feather, ground

    @torch.no_grad()
    def __call__(self, start: InitContext) -> Tensor:
        z = start.of_picture(start.generator.encode(self._read(self.path, start)))
        return z.expand(len(start.texts), -1, -1, -1).clone()

    def keep(self, start: InitContext) -> MaskComposite | None:
        """What keeps parts of the picture unchanged; None without a mask and a ground.

        Raises:
            UserError: no pixel may change.
        """
        if self.mask is None and self.ground is None:
            return None
        picture = self._read(self.path, start)
        white = torch.ones_like(picture[:, :1])
        if self.mask is not None:
            # Nearest neighbour: interpolated greys would reach beyond the mask's edge.
            white = self._read(self.mask, start, ground="black", nearest=True).mean(1, keepdim=True)
            if not white.any():
                raise UserError(
                    f"init.mask={self.mask!r}: nothing white is left of it at this size with init.fit={self.fit}, so "
                    "nothing would change. Allowed: white where the result may differ. Try: init.fit=pad"
                )
        if self.ground is not None:
            white = white * subject_mask(picture, self.ground, start.generator.factor // 2)
            if not white.any():
                raise UserError(
                    f"init.ground={self.ground}: every pixel that may change is closer than this to the colour of "
                    "the picture's border, so nothing would change. Allowed: less, or null. Try: init.ground=null"
                )
        return MaskComposite(picture, feather(white, self.feather))

    def _read(self, path: str, start: InitContext, ground: str = "white", nearest: bool = False) -> Tensor:
        return start.place(fit(read_image(path, ground), *_pixels(start), self.fit, nearest))


class Run:
    """The latent of another run, whatever its prompts were.

    Args:
        run: its folder.
        picture: number of one of its pictures; None: each from its counterpart, or all from the only one.
        step: ``best``, ``final``, or a snapshot's step.
        via: ``latent``: exactly; ``picture``: resize and encode the PNG, for another size or generator.
    """

    def __init__(self, run: str, picture: int | None, step: int | str, via: str):
        self.run, self.picture, self.step, self.via = run, picture, step, via

    def __call__(self, start: InitContext) -> Tensor:
        saved = saved_latents(self.run, self.picture, self.step, len(start.texts))
        if self.via == "picture":
            if not hasattr(start.generator, "encode"):
                raise UserError("init.via=picture: needs the generator's encode, which it lacks. Try: init.via=latent")
            pictures = torch.cat([fit(latent.picture.image(latent.png), *_pixels(start)) for latent in saved])
            return start.of_picture(_encoded(start, pictures))
        for latent in saved:
            self._check(latent, start)
        return start.of_picture(start.place(torch.stack([torch.from_numpy(latent.read()) for latent in saved])))

    def _check(self, latent: SavedLatent, start: InitContext) -> None:
        """Refuse a latent of another generator."""
        ours = getattr(start.generator, "sha256", None)
        if latent.shape == start.shape and (latent.generator in (None, ours)):
            return
        raise UserError(
            f"init.run={self.run}: its latents {list(latent.shape)} belong to another generator "
            f"({str(latent.generator)[:12]}) than this run's ({str(ours)[:12]}, {list(start.shape)}). Allowed: runs of "
            "the same checkpoints.generator, or by way of the picture. Try: init.via=picture"
        )


def best_of(init: Init, start: InitContext, count: int) -> Tensor:
    """The best-scoring of ``count`` initial latents, picture by picture; the first candidate is ``init``'s own."""
    if start.score is None:
        raise ValueError("the best of several starts is asked for, and nothing scores them")
    best, scores = init(start), torch.full((len(start.texts),), -torch.inf)
    for candidate in range(count):
        z = init(replace(start, rng=StepRandom(start.rng.seeds, candidate, start.rng.device))) if candidate else best
        score = start.score(z)
        better = score > scores.to(score)  # False for NaN
        best = torch.where(better[:, None, None, None], z, best)
        scores = torch.where(better, score, scores.to(score))
    return best
