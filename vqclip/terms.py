"""Further terms of the objective: ``+loss/terms=[tv,palette]``, or ``'+loss.terms.tv={_target_: …, weight: .1}'``.

Each is a penalty: with a positive weight, it gives less total variation, or a saturation nearer to its target.
All are means over pixels or latent positions, so a weight means the same at every size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vqclip.checkpoints.cards import local_path
from vqclip.checkpoints.tensors import open_tensors
from vqclip.errors import UserError
from vqclip.io.pixels import rgb
from vqclip.io.regions import box_of, largest_first
from vqclip.models.denoiser import Denoiser
from vqclip.precision import full_precision
from vqclip.protocols import View
from vqclip.schedules import ever_nonzero, schedule

__all__ = [
    "CodebookDistance",
    "Contrast",
    "Denoised",
    "Edges",
    "LatentNorm",
    "LatentPrior",
    "Palette",
    "PerceptualAnchor",
    "PixelAnchor",
    "Saturation",
    "Sharpness",
    "Symmetry",
    "Tiling",
    "TotalVariation",
]


def _mean(x: Tensor) -> Tensor:
    """[B,…] → [B]."""
    return x.flatten(1).mean(1)


class _Weighted:
    """A term whose only argument is its weight, a number or a schedule."""

    def __init__(self, weight: Any):
        self.weight = weight


class TotalVariation(_Weighted):
    """``mean |x − right neighbour| + mean |x − lower neighbour|``: penalises speckle."""

    def __call__(self, view: View) -> Tensor:
        return _mean(view.image.diff(dim=-1).abs()) + _mean(view.image.diff(dim=-2).abs())


class Saturation:
    """``(mean(max(r,g,b) − min(r,g,b)) − target)²``: how colourful the picture is, 0 for grey, 1 for pure colours."""

    def __init__(self, weight: Any, target: float = 0.5):
        self.weight, self.target = weight, target

    def __call__(self, view: View) -> Tensor:
        return (_mean(view.image.amax(1) - view.image.amin(1)) - self.target).square()


class Contrast:
    """``(std of the brightness − target)²``: 0 is flat, .5 is half black and half white."""

    def __init__(self, weight: Any, target: float = 0.25):
        self.weight, self.target = weight, target

    def __call__(self, view: View) -> Tensor:
        brightness = view.image.mean(1).flatten(1)
        return ((brightness.var(1, unbiased=False) + 1e-8).sqrt() - self.target).square()


class Palette:
    """``mean over pixels of min over colours ‖pixel − colour‖²``: restricts the picture to a few colours.

    Args:
        colours: CSS names or ``"#rrggbb"``.
    """

    def __init__(self, weight: Any, colours: Sequence[str]):
        self.weight = weight
        self.colours = torch.stack([rgb(name) for name in colours])  # [K,3]

    def __call__(self, view: View) -> Tensor:
        colours = self.colours.to(view.image).view(1, -1, 3, 1, 1)
        return _mean((view.image[:, None] - colours).square().sum(2).amin(1))


class Symmetry:
    """``mean((x − mirrored x)²)``.

    Args:
        axis: ``horizontal``: left equals right.  ``vertical``: top equals bottom.
    """

    def __init__(self, weight: Any, axis: str = "horizontal"):
        self.weight, self.dim = weight, {"horizontal": -1, "vertical": -2}[axis]

    def __call__(self, view: View) -> Tensor:
        return _mean((view.image - view.image.flip(self.dim)).square())


class Edges:
    """``mean((x − colour)²)`` over the border of the picture: a frame, or an object that does not touch the edge.

    Args:
        width: of the border, as a fraction of the shorter side.
        colour: a CSS name or ``"#rrggbb"``.
    """

    def __init__(self, weight: Any, width: float = 0.1, colour: str = "white"):
        self.weight, self.width = weight, width
        self.colour = rearrange(rgb(colour), "c -> 1 c 1 1")

    def __call__(self, view: View) -> Tensor:
        h, w = view.image.shape[-2:]
        rim = max(1, int(self.width * min(h, w)))
        inside = F.pad(view.image.new_zeros(h - 2 * rim, w - 2 * rim), (rim,) * 4, value=1.0)
        off = (view.image - self.colour.to(view.image)).square() * inside
        return off.sum((1, 2, 3)) / (3 * inside.sum())


class Tiling(_Weighted):
    """``mean((left − right edge)²) + mean((top − bottom edge)²)``: the picture repeats without a seam."""

    def __call__(self, view: View) -> Tensor:
        x = view.image
        return _mean((x[..., 0] - x[..., -1]).square()) + _mean((x[..., 0, :] - x[..., -1, :]).square())


class Sharpness(_Weighted):
    """``1 / (1 + 100 · mean(laplacian²))``: 1 for a blurred picture, falling as fine detail grows."""

    def __call__(self, view: View) -> Tensor:
        grey = view.image.mean(1, keepdim=True)
        kernel = grey.new_tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]]).view(1, 1, 3, 3)
        return 1 / (1 + 100 * _mean(F.conv2d(grey, kernel).square()))


class LatentNorm(_Weighted):
    """``mean(z²)``: keeps the latent small."""

    def __call__(self, view: View) -> Tensor:
        return _mean(view.latent.square())


class CodebookDistance(_Weighted):
    """``mean((z − nearest code)²)``: keeps the latent near what the decoder was trained on."""

    needs = ("quantise",)

    def __call__(self, view: View) -> Tensor:
        return _mean((view.latent - view.generator.quantise(view.latent)).square())


class LatentPrior(_Weighted):
    """``mean over positions of (z − m)ᵀ S⁻¹ (z − m) / C`` with the mean m and covariance S of the codebook."""

    needs = ("codebook",)

    @full_precision()
    def __call__(self, view: View) -> Tensor:
        codes = view.generator.codebook.detach().to(view.latent)
        mean, channels = codes.mean(0), codes.shape[1]
        spread = torch.cov(codes.T).view(channels, channels)
        inverse = torch.linalg.inv(spread + 1e-4 * spread.diagonal().mean() * torch.eye(channels).to(spread))
        off = rearrange(view.latent, "b c h w -> b h w c") - mean
        return _mean(torch.einsum("bhwc,cd,bhwd->bhw", off, inverse, off)) / channels


class PixelAnchor(_Weighted):
    """``mean((x − x0)²)``, x0 the initial picture: keeps the pixels, as ``loss.anchor`` keeps the latent."""

    def __call__(self, view: View) -> Tensor:
        return _mean((view.image - view.start_image).square())


class PerceptualAnchor:
    """``mean over layers and positions of ‖u(x) − u(x0)‖²``, x0 the initial picture: keeps what the picture looks like.

    u are the normalised features of one layer in each of VGG16's five blocks: LPIPS (Zhang et al. 2018, arXiv
    1801.03924) without its learned channel weights.

    Args:
        path: torchvision's ImageNet weights of VGG16, or of its features alone.
    """

    _LAYERS = (3, 8, 15, 22, 29)

    def __init__(self, weight: Any, path: str):
        from torchvision.models import vgg16

        self.weight = weight
        file = local_path(path)
        if not file.is_file():
            raise UserError(
                f"path={path}: there is no such file. Allowed: torchvision's weights of VGG16. "
                "Try: python -c \"import torchvision; torchvision.models.vgg16(weights='DEFAULT')\", which puts "
                "them where the preset looks"
            )
        with torch.device("meta"):  # skips the random initialisation
            self.features = vgg16().features.eval().requires_grad_(False)
        weights = open_tensors(file)
        names = {key: f"features.{key}" for key in self.features.state_dict()}
        if lacks := [name for name in names.values() if name not in weights.shapes]:
            raise UserError(f"path={path}: no VGG16, it lacks {lacks[0]}. Allowed: torchvision's")
        self.features.load_state_dict({key: weights.get(name).float() for key, name in names.items()}, assign=True)

    def __call__(self, view: View) -> Tensor:
        with torch.no_grad():
            start = list(self._seen(view.start_image))
        layers = zip(self._seen(view.image), start, strict=True)
        return torch.stack([_mean((now - begun).square().sum(1)) for now, begun in layers]).mean(0)

    def _seen(self, image: Tensor) -> Iterator[Tensor]:
        """[B,3,H,W] in [0,1] → unit features [B,C,h,w] of each layer."""
        mean, std = (
            image.new_tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        )
        x = (image - mean) / std
        for i, layer in enumerate(self.features.to(image.device).children()):
            x = layer(x)
            if i in self._LAYERS:
                yield F.normalize(x, dim=1)


class Denoised:
    """``mean((z − D(z, σ))²)``, with the denoiser D's estimate D(z, σ) of the latent without noise of σ held constant.

    The gradient points towards what drawings look like: regularisation by denoising (Romano et al. 2017,
    https://arxiv.org/abs/1611.02862).  A large σ affects shapes, a small one lines.  With a guidance scale it points
    towards drawings *of the prompts*: ``D = D() + scale · (D(include) − D())``, D() without text (classifier-free
    guidance, Ho & Salimans 2022, https://arxiv.org/abs/2207.12598).  Excluded prompts are left to ``loss.beta``.
    From normal noise of σ, with a falling σ and plain steps, this samples like a diffusion model that all the other
    terms guide.

    Args:
        path: a file that ``experiments/embedded/train_denoiser.py`` wrote.
        sigma: a number or a schedule, in standard deviations of the latents; at 1 there is as much noise as picture.
        guidance_scale: a number or a schedule; 0 for an unconditional denoiser.
    """

    def __init__(self, weight: Any, path: str, sigma: Any = 0.5, guidance_scale: Any = 0):
        self.weight, self.sigma, self.guidance_scale = weight, schedule(sigma), schedule(guidance_scale)
        self.denoiser = Denoiser.load(local_path(path))

    def require_of(self, networks: Any) -> None:
        """Refuse a generator with other latents, and perceptors without the one whose text vectors the denoiser takes.

        Raises:
            UserError: without the key, which the caller adds.
        """
        channels = networks.generator.latent_shape(8 * networks.generator.factor, 8 * networks.generator.factor)[0]
        if channels != self.denoiser.channels or not hasattr(networks.generator, "codebook"):
            kind = "" if hasattr(networks.generator, "codebook") else " without a codebook"
            raise UserError(
                f"its denoiser was trained on a VQGAN's latents of {self.denoiser.channels} channels, this generator's "
                f"have {channels}{kind}. Try: checkpoints=embedded"
            )
        readers = [getattr(guide.perceptor, "sha256", None) for guide in networks.guides.values()]
        if ever_nonzero(self.guidance_scale) and self.denoiser.reader not in readers:
            raise UserError(
                "guidance_scale: its denoiser knows texts by the vectors of another perceptor than "
                f"{', '.join(networks.guides)}. Try: 'checkpoints/perceptors=[robust]'"
            )

    def __call__(self, view: View) -> Tensor:
        denoiser = self.denoiser.to(view.latent.device)
        with torch.no_grad():
            x = denoiser.standard(view.latent.float())
            clean = denoiser.original(self._clean(denoiser, x, view))
        return _mean((view.latent.float() - clean).square())

    def _clean(self, denoiser: Denoiser, x: Tensor, view: View) -> Tensor:
        """Denoise latents [B,C,h,w] in standard units, with guidance if its scale is not 0."""
        sigma, scale = x.new_full((len(x),), self.sigma(view.progress)), self.guidance_scale(view.progress)
        if not scale:
            return denoiser(x, sigma)
        places = dict(next(own for reader, own in view.wanted if getattr(reader, "sha256", None) == denoiser.reader))
        clean = denoiser.guided(x, sigma, places.pop(None).include, scale) if None in places else denoiser(x, sigma)
        for place, own in largest_first(places):  # a region is denoised as a picture of its own, over the larger ones
            box, white = box_of(x, place)
            asked = own.include.any(1).to(x).view(-1, 1, 1, 1) * (1 if white is None else white)
            clean[box] = clean[box].lerp(denoiser.guided(x[box], sigma, own.include, scale), asked)
        return clean
