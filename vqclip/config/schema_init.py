"""The schema of ``init``: the keys of every class of ``vqclip.init``."""

from __future__ import annotations

from vqclip.config.kinds import Choice, Colour, Flag, Listing, Number, Picture, Snapshot, Text, Whole
from vqclip.config.nodes import Group, Key

__all__ = ["EVERY_START", "STARTS"]

#: Keys of every init besides the class's own arguments.
EVERY_START = {
    "best_of": Key(
        Whole(1, 10_000), "16", "number of starts tried; the run begins at the one with the best score", needed=False
    )
}

STARTS: dict[str, Group] = {
    "vqclip.init.Sine": Group(
        "sin(std * randn): from noise, as in the original recipe.",
        {"std": Key(Number(0, 1e3), "0.5", "standard deviation under the sine")},
        title="init=sine",
    ),
    "vqclip.init.Codebook": Group("A random code of the codebook at every position.", title="init=codebook"),
    "vqclip.init.Prior": Group(
        "A network that belongs to the pair of checkpoints predicts the start from the prompt.",
        {"jitter": Key(Number(0, 100), "0", "noise added to the start", "standard deviations of the latent")},
        title="init=prior",
    ),
    "vqclip.init.Image": Group(
        "A picture of your own is the start.",
        {
            "path": Key(Picture(), "photo.jpg", "any format that Pillow opens"),
            "fit": Key(
                Choice(("crop", "pad", "stretch", "cut")),
                "crop",
                "how the picture is brought to the size; cut is an alias of crop",
            ),
            "mask": Key(Picture(), "mask.png", "a mask: white may change, black stays", null="all may change"),
            "ground": Key(
                Number(0, 1),
                "0.12",
                "mask by color: what is closer than this to the color of the picture's border stays",
                null="nothing",
                needed=False,
            ),
            "feather": Key(Whole(0, 512), "8", "width of the mask's soft edge, inwards", "pixels"),
        },
        title="init=image",
    ),
    "vqclip.init.Noise": Group(
        "Normal noise with the mean and the deviations of the generator's codes, channel by channel.",
        {"std": Key(Number(0, 1e3), "4", "standard deviation of the noise", "standard deviations of the codes")},
        title="init=noise",
    ),
    "vqclip.init.Blank": Group(
        "An empty sheet with a spot of noise in its middle, for a guide that draws.",
        {
            "colour": Key(Colour(), "white", "of the sheet"),
            "noise": Key(Number(0, 1e3), "0.5", "in the middle of the spot", "standard deviations of the codebook"),
            "spot": Key(Number(1e-6, 1e3), "0.5", "radius of the noise", "shares of half a side"),
        },
        title="init=blank",
    ),
    "vqclip.init.Gradient": Group(
        "A picture that goes from one colour to another.",
        {
            "colours": Key(
                Listing(Colour(), least=2),
                "[white,black]",
                "colours, evenly spaced",
                null="two that the seed draws",
            ),
            "angle": Key(Number(-360, 360), "90", "0 from top to bottom, 90 from left to right", "degrees"),
        },
        title="init=gradient",
    ),
    "vqclip.init.PixelNoise": Group(
        "A picture of noise.",
        {
            "slope": Key(Number(0, 4), "1", "amplitude falls as frequency^-slope: 0 white, 1 fractal, 2 clouds"),
            "contrast": Key(Number(0, 10), "0.2", "standard deviation around middle gray", "of a range of 1"),
            "grey": Key(Flag(), "true", "the same noise for all three channels"),
        },
        title="init=fractal and pixels",
    ),
    "vqclip.init.Run": Group(
        "The latent of another run, exactly.",
        {
            "run": Key(Text("a run folder"), "outputs/DATE/TIME", "its folder"),
            "picture": Key(
                Whole(0),
                "0",
                "which of its pictures",
                null="each picture from the one with its number, or all from the only one",
            ),
            "step": Key(Snapshot(), "best", "which of its snapshots", "steps"),
            "via": Key(Choice(("latent", "picture")), "picture", "latent: its exact latent; picture: its PNG, encoded"),
        },
        title="init=run",
    ),
}
