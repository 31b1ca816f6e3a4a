"""The schema of a step: the keys of augmentations, noise, objective, search and optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vqclip.config.kinds import Choice, Colour, Flag, Listing, Number, Scheduled, Size, Text, Whole
from vqclip.config.nodes import Group, Key, Named, Target

__all__ = ["OPTIMISER", "STEP_CLASSES"]

_TERM = {"weight": Key(Scheduled(-1e6, 1e6), "1", "weight in the sum")}

AUGMENTATIONS = Group(
    "The crops that the perceptor sees: the picture is padded, flipped and rotated once per step, then cut into crops.",
    {
        "pad": Key(Number(0, 4), "0.5", "padding on all four sides", "shares of each side"),
        "border": Key(Choice(("zeros", "reflect", "wrap")), "reflect", "what pad and affine fill with", needed=False),
        "flip": Key(Number(0, 1), "0.5", "probability of a horizontal flip"),
        "affine": Group(
            "Rotation and shift.",
            {
                "degrees": Key(Number(0, 180), "30", "rotation, uniform in ±", "degrees"),
                "translate": Key(Number(0, 1), "0.2", "shift, uniform in ±", "shares of each padded side"),
                "interpolation": Key(Choice(("nearest", "bilinear")), "bilinear", "between pixels"),
            },
            null="neither",
        ),
        "crops": Group(
            "A crop's side is clip(N(mean, std), min, max) of the picture's shorter side, its position uniform.",
            {
                "count": Key(Whole(1), "32", "crops per step; more are slower and smoother"),
                "mean": Key(Number(-100, 100), "1.2", "mean side", "shorter sides"),
                "std": Key(Number(0, 100), "0.3", "standard deviation of the side", "shorter sides"),
                "min": Key(Number(0, 100), "0.43", "smallest side", "shorter sides"),
                "max": Key(Number(0, 100), "1.9", "largest side, at most 1 + 2 * pad", "shorter sides"),
                "antialias": Key(Flag(), "true", "average over pixels where a crop is downscaled"),
                "stratified": Key(Flag(), "true", "positions spread evenly over the picture", needed=False),
                "whole": Key(
                    Number(0, 1),
                    "0.25",
                    "share of crops that show the whole picture, of a long one its middle",
                    needed=False,
                ),
                "whole_weight": Key(Number(0, 1e3), "3", "weight of those crops in the loss", needed=False),
                "by_size": Key(Number(-8, 8), "1", "weight of a crop is its side to this power", needed=False),
            },
        ),
        "effects": Group(
            "Random effects on each crop; 0 is off.",
            {
                "perspective": Key(
                    Number(0, 0.9), "0.2", "how far corners move inwards, up to", "shares of half a side", needed=False
                ),
                "jitter": Key(
                    Number(0, 1), "0.1", "change of brightness, contrast, saturation and hue, up to ±", needed=False
                ),
                "sharpness": Key(Number(0, 20), "0.3", "added sharpness, up to", needed=False),
                "blur": Key(
                    Number(0, 0.3),
                    "0.02",
                    "Gaussian blur, standard deviation up to",
                    "shares of the side",
                    needed=False,
                ),
                "erase": Key(
                    Number(0, 1), "0.3", "size of a black rectangle, up to", "shares of the area", needed=False
                ),
            },
            null="none",
            needed=False,
        ),
    },
)


@dataclass(frozen=True)
class Stages:
    """Coarse sizes with their shares of the steps (:class:`vqclip.search.Search`)."""

    allowed: str = "a list of {size: [height, width], share: NUMBER}, the shares together below 1"

    def check(self, value: Any) -> None:
        if not isinstance(value, list) or not value or not all(isinstance(stage, Mapping) for stage in value):
            raise ValueError
        for stage in value:
            if set(stage) != {"size", "share"}:
                raise ValueError
            Size().check(stage["size"])
            Number(1e-6, 0.999).check(stage["share"])
        if sum(stage["share"] for stage in value) >= 1:
            raise ValueError


SEARCH = Group(
    "What happens to the latent between the optimizer's steps.",
    {
        "clamp": Key(Flag(), "true", "clamp the latent to the range of the generator's codes", needed=False),
        "average": Key(
            Number(0, 0.9999),
            "0.9",
            "decay per step of a running mean of the latent, from which pictures are made",
            needed=False,
        ),
        "stages": Key(
            Stages(),
            "[{size: [64,64], share: .4}]",
            "coarse sizes before the full one",
            null="the full size alone",
            needed=False,
        ),
        "restarts": Group(
            "Try several starts and continue from the best.",
            {
                "count": Key(Whole(2, 1000), "4", "starts"),
                "steps": Key(Whole(1, 1_000_000), "10", "of each start, before they are compared", "steps"),
            },
            null="one start",
            needed=False,
        ),
        "overlay": Group(
            "Blend the start's picture into the picture at regular steps.",
            {
                "every": Key(Whole(1, 1_000_000), "10", "steps between two blends", "steps"),
                "strength": Key(Number(0, 1), "0.2", "share of the start's picture in the blend"),
                "until": Key(Number(0, 1), "0.8", "last blend, as a share of the run", needed=False),
            },
            null="none",
            needed=False,
        ),
    },
)


def _term(title: str, doc: str, keys: Mapping[str, Key] | None = None) -> Group:
    return Group(doc, {**_TERM, **(keys or {})}, title=f"loss.terms.{title}")


_TERMS = {
    "TotalVariation": _term("tv", "Mean absolute difference of neighbouring pixels: against speckle."),
    "Saturation": _term(
        "saturation",
        "How far the mean of max(r,g,b) - min(r,g,b) is from the target, squared.",
        {"target": Key(Number(0, 1), "0.5", "0 grey, 1 pure colours", needed=False)},
    ),
    "Contrast": _term(
        "contrast",
        "How far the deviation of the brightness is from the target, squared.",
        {"target": Key(Number(0, 0.5), "0.25", "0 flat, .5 half black and half white", needed=False)},
    ),
    "Palette": _term(
        "palette",
        "Mean squared distance of each pixel to its nearest colour.",
        {"colours": Key(Listing(Colour(), least=1), "[black,white,red]", "by name or #rrggbb")},
    ),
    "Symmetry": _term(
        "symmetry",
        "Mean squared difference from the mirrored picture.",
        {
            "axis": Key(
                Choice(("horizontal", "vertical")),
                "horizontal",
                "horizontal: left mirrors right; vertical: top mirrors bottom",
                needed=False,
            )
        },
    ),
    "Edges": _term(
        "edges",
        "Mean squared difference of the picture's border from a colour.",
        {
            "width": Key(Number(0, 0.5), "0.1", "of the border", "shares of the shorter side", needed=False),
            "colour": Key(Colour(), "white", "of the border", needed=False),
        },
    ),
    "Tiling": _term("tiling", "Mean squared difference of opposite edges: the picture repeats without a seam."),
    "Sharpness": _term("sharpness", "1 / (1 + 100 * mean squared Laplacian): favours fine detail."),
    "LatentNorm": _term("latent_norm", "Mean square of the latent."),
    "CodebookDistance": _term("codebook", "Mean squared distance of the latent from the nearest code."),
    "LatentPrior": _term("latent_prior", "Mahalanobis distance of the latent from the generator's codes."),
    "Denoised": _term(
        "denoised",
        "Mean squared distance of the latent from its denoised version: keeps it near the latents of drawings.",
        {
            "path": Key(Text("a file of train_denoiser.py's"), "pkg://vqclip/embedded/denoiser.safetensors", "weights"),
            "sigma": Key(Scheduled(1e-3, 100), "0.5", "noise level; 1 is as much noise as picture", needed=False),
            "guidance_scale": Key(
                Scheduled(0, 100),
                "0",
                "strength of classifier-free guidance by the prompt; 0: unconditional",
                needed=False,
            ),
        },
    ),
    "PixelAnchor": _term("pixels", "Mean squared difference from the picture of the start."),
    "PerceptualAnchor": _term(
        "perceptual",
        "Mean squared difference of VGG16's unit features from those of the picture of the start.",
        {"path": Key(Text("a file of torchvision's"), "vgg16-397923af.pth", "weights of VGG16")},
    ),
}

#: Keys of every optimizer, torch's and our own.
OPTIMISER = {
    "lr": Key(Scheduled(0, 1e6), "0.1", "learning rate, over the run"),
    "clip": Key(Number(1e-12, 1e6), "1", "maximum norm of the gradient, per picture", null="not clipped", needed=False),
}
_ADAM = {
    "lr": OPTIMISER["lr"],
    "betas": Key(
        Listing(Number(0, 0.9999999999), 2, 2), "[0.9,0.999]", "decay rates of the running means", needed=False
    ),
    "eps": Key(Number(0, 1e6), "1e-8", "added to the denominator", needed=False),
    "weight_decay": Key(Number(0, 1e6), "0.1", "decay of the latent per step, times lr", needed=False),
    "amsgrad": Key(Flag(), "true", "the AMSGrad variant", needed=False),
}
_OPTIMISERS = {
    "torch.optim.Adam": Group("Adam, torch's own.", _ADAM, others="torch.optim.Adam", title="optimizer=default"),
    "torch.optim.AdamW": Group("AdamW, torch's own.", _ADAM, others="torch.optim.AdamW", title="optimizer=reference"),
    "vqclip.optimizer.OneScaleAdam": Group(
        "Adam with a single second moment for the whole latent: empty regions stay empty.",
        {
            **OPTIMISER,
            "betas": _ADAM["betas"],
            "eps": _ADAM["eps"],
        },
        title="optimizer=one_scale",
    ),
    "vqclip.optimizer.PlainSteps": Group(
        "SGD whose steps do not shrink as pictures grow.",
        {**OPTIMISER, "momentum": Key(Number(0, 0.999), "0", "as in torch.optim.SGD", needed=False)},
        title="optimizer=plain",
    ),
}

STEP_CLASSES: dict[str, Group] = {
    "vqclip.search.Search": SEARCH,
    "vqclip.augmentations.Augmentations": AUGMENTATIONS,
    "vqclip.noise.Noise": Group(
        "Noise on the crops: crop + factor * r * randn, with r one uniform(0,1) per crop.",
        {
            "factor": Key(Scheduled(0, 1e3), "0.22", "standard deviation at r = 1; 0 for none"),
            "num_rands": Key(Whole(0, 64), "0", "r is multiplied by this many further uniforms"),
        },
    ),
    "vqclip.loss.Objective": Group(
        "loss = -alpha * cos(include) + beta * cos(exclude) + anchor * (z - z0)^2 + terms.",
        {
            "alpha": Key(Scheduled(-1e6, 1e6), "1", "weight of the similarity to include and extras"),
            "beta": Key(Scheduled(-1e6, 1e6), "0.5", "weight of the similarity to exclude"),
            "anchor": Key(Scheduled(0, 1e6), "0", "holds the latent near its start"),
            "distance": Key(
                Choice(("cosine", "spherical")), "spherical", "measure for include and exclude", needed=False
            ),
            "terms": Named(
                Target("A term of the objective.", "terms", null="off", also=_TERM),
                "Further terms, by name.",
                null="none",
            ),
        },
    ),
    # The class's older name, in older records.
    "vqclip.loss.TotalVariation": Group("Total variation, by its older name.", _TERM, title="loss.terms.tv"),
    **{f"vqclip.terms.{name}": group for name, group in _TERMS.items()},
    **_OPTIMISERS,
}
