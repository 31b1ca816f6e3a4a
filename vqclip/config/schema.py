"""The schema: every key of the config with its type, bounds, unit, an example and a description.

The checker (:mod:`vqclip.config.check`), ``--help``, suggestions, the reference pages and the tests all use it.
Defaults are in ``conf/`` only.  To add a key, add a line here and one in the group's YAML.  Nothing here imports torch.
"""

from __future__ import annotations

from vqclip.config.kinds import (
    Anything,
    Choice,
    Flag,
    Listing,
    Number,
    Prompts,
    Size,
    SweepRecord,
    Templates,
    Text,
    Whole,
)
from vqclip.config.nodes import Group, Key, Named, Target
from vqclip.config.schema_init import EVERY_START, STARTS
from vqclip.config.schema_step import OPTIMISER, STEP_CLASSES
from vqclip.config.schema_trainer import TRAINER

__all__ = ["CLASSES", "ROOT"]

PROMPTS = Group(
    "What the pictures should show, and what they should not.",
    {
        "include": Key(Prompts(needed=True), '["a red apple"]', "one picture per entry, times batch_size"),
        "exclude": Key(Prompts(), "blurry", "an entry, or a list of them, to stay away from", null="nothing"),
        "extras": Key(Prompts(), '"watercolor paper"', "entries added to every picture", null="nothing"),
        "include_weight": Key(Number(-1e6, 1e6), "1", "w1 of target = w1 * include + w2 * extras"),
        "extras_weight": Key(Number(-1e6, 1e6), "1", "w2 of target = w1 * include + w2 * extras"),
        "templates": Key(
            Templates(),
            '["a photo of {}"]',
            "sentences that every text is put into",
            null="the text alone",
            needed=False,
        ),
    },
)

_FILE = {
    "path": Key(Text("a path"), "my.ckpt", "a file of your own", null="the official one", needed=False),
    "file": Key(Text("a file name"), "my.ckpt", "its name in the cache", null="the card's name", needed=False),
    "bytes": Key(Whole(1, 10**12), "980092370", "size of the file", "bytes", null="not known", needed=False),
    "sha256": Key(Text("64 hex digits", "[0-9a-f]{64}"), "0" * 64, "of the file", null="not known", needed=False),
    "urls": Key(Listing(Text("a link")), "[https://example.org/my.ckpt]", "tried in this order", needed=False),
    "licence": Key(Text(), "MIT", "of the weights", null="not known", needed=False),
    "about": Key(Text(), '"icons"', "what it draws", null="not said", needed=False),
    "architecture": Key(Anything(), "null", "constructor arguments", null="read from the file", needed=False),
}

GENERATOR = Group(
    "A generator's card: the network that turns latents into pictures.",
    {"name": Key(Text(), "mine", "of the card", needed=False), **_FILE},
    others="*",
)

PERCEPTOR = Group(
    "A perceptor's card: the network that compares pictures with texts.",
    {"weight": Key(Number(0, 1e6), "1", "against the other perceptors", needed=False), **_FILE},
    others="*",
    null="left out",
)

CHECKPOINTS = Group(
    "The pair of generator and perceptors; each half is a group of its own.",
    {
        "name": Key(Text(), "embedded", "of the pair", null="no name", needed=False),
        "prior": Group(
            "The network that predicts a start from the prompt.",
            {"path": Key(Text("a path"), "my_prior.safetensors", "its file")},
            null="none: start with init=sine, codebook or image",
            needed=False,
        ),
        "generator": GENERATOR,
        "perceptors": Named(PERCEPTOR, "Perceptors by name; several make an ensemble."),
    },
)

MEMORY = Group(
    "Fits a run into memory; the picture does not change.",
    {
        "picture_chunk": Key(
            Whole(1), "1", "pictures processed at a time", null="as many as fit into half of the memory"
        ),
        "crop_chunk": Key(Whole(1), "4", "crops the perceptor encodes at a time", null="all"),
        "checkpoint_decoder": Key(Flag(), "true", "recompute the decoder in the backward: less memory, slower"),
        "strip": Key(
            Whole(1), "128", "rows of a snapshot decoded at a time", "pixels", null="all at once", needed=False
        ),
        "devices": Key(
            Listing(Text("a device of torch's")),
            "[cuda:1,cuda:2]",
            "devices that the perceptors are put on, in turn",
            null="the picture's",
            needed=False,
        ),
    },
)

HPARAMS_SEARCH = Group(
    "With -m, search for the best values instead of running all.",
    {
        "trials": Key(Whole(1, 1_000_000), "20", "number of runs"),
        "at_once": Key(Whole(1, 10_000), "1", "trials proposed together, for launchers that run jobs in parallel"),
        "seed": Key(Whole(0), "0", "of the sampler"),
        "score": Key(Choice(("judge", "score", "include")), "judge", "what is maximised"),
        "space": Key(Listing(Text("KEY=RANGE")), "['loss.beta=interval(0,1)']", "ranges, in Hydra's grammar"),
    },
    null="no search",
    needed=False,
)

ROOT = Group(
    "The whole config.",
    {
        "seed": Key(Whole(0, 2**53), "0", "of all random numbers; picture i of a batch has seed + i"),
        "steps": Key(Whole(1), "100", "optimizer steps", "steps"),
        "size": Key(Size(), "[128,128]", "[height, width], rounded down to whole codes", "pixels"),
        "batch_size": Key(Whole(1), "1", "pictures per prompt, each with a seed of its own"),
        "snapshot_every": Key(Whole(1), "10", "steps between snapshots of picture and latent", "steps"),
        "resume": Key(Text("a run folder"), "null", "a run to continue", null="a new run"),
        "overwrite": Key(Flag(), "true", "start over in a folder that already holds a run", needed=False),
        "tags": Key(Listing(Text()), "[first,try]", "tags of the run, on W&B and in run.json", null="none"),
        "trust": Key(
            Listing(Text("a package")),
            "[mine]",
            "packages whose classes records may name, in conf/local of a checkout; elsewhere VQCLIP_TRUST=mine",
            null="none",
            needed=False,
        ),
        "sweep": Key(SweepRecord(), "null", "a sweep fills it in", null="no sweep", needed=False),
        "prompts": PROMPTS,
        "checkpoints": CHECKPOINTS,
        "init": Target("Where the latent starts.", "init", EVERY_START),
        "latent": Target("How the latent reaches the decoder.", "latent"),
        "augmentations": Target("The crops that the perceptor sees.", "augmentations"),
        "noise": Target("Noise on the crops.", "noise"),
        "loss": Target("The objective: named, weighted terms.", "loss"),
        "optimizer": Target("Any optimizer of torch, by its class and arguments.", "optimizer", OPTIMISER),
        "search": Target("What happens to the latent between steps.", "search", null="nothing", needed=False),
        "callbacks": Named(Target("A Lightning callback.", "callbacks", null="off"), "Callbacks by name.", null="none"),
        "logger": Named(Target("A Lightning logger.", "logger", null="off"), "Loggers by name.", null="none"),
        "trainer": TRAINER,
        "paths": Group(
            "Where the run goes, for other keys to refer to; hydra.run.dir=outputs/mine says so.",
            {"output_dir": Key(Text("this value"), "${hydra:runtime.output_dir}", "the run folder")},
            others="*",
        ),
        "memory": MEMORY,
        "vars": Group(
            "Values of your own that other keys refer to: loss.alpha='${vars.mine}'.", others="*", needed=False
        ),
        "hparams_search": HPARAMS_SEARCH,
    },
)

#: Keys by ``_target_``, checked without importing the class.  Arguments of other classes are checked by signature.
CLASSES: dict[str, Group] = {
    **STARTS,
    **STEP_CLASSES,
    "vqclip.latent.Continuous": Group("The decoder sees the latent as it is.", title="latent=continuous"),
    "vqclip.latent.Quantised": Group("The decoder sees the nearest code at each place.", title="latent=quantised"),
    "vqclip.callbacks.Progress": Group("A bar with the loss and its terms."),
    "vqclip.callbacks.AutoStop": Group(
        "Ends a run whose loss has stopped falling.",
        {
            "window": Key(Whole(1, 100_000), "20", "in each of the two means that are compared", "steps"),
            "threshold": Key(Number(-1e6, 1e6), "0.001", "minimum fall of the mean loss from one window to the next"),
        },
        title="callbacks.auto_stop",
    ),
    "vqclip.callbacks.Timelapse": Group(
        "timelapse.mp4 of every picture's snapshots.",
        {"fps": Key(Whole(1, 240), "5", "snapshots per second", "frames per second")},
    ),
    "vqclip.callbacks.Interpolation": Group(
        "interpolation.mp4, from picture to picture, if a run makes several.",
        {
            "frames": Key(Whole(1, 10_000), "24", "from one picture to the next", "frames"),
            "fps": Key(Whole(1, 240), "24", "frames per second", "frames per second"),
            "mode": Key(Choice(("linear", "spherical")), "spherical", "between two latents"),
            "most": Key(Whole(2, 1000), "16", "largest number of pictures for which a video is made", "pictures"),
        },
    ),
    "vqclip.callbacks.Upscale": Group(
        "upscaled.png of every picture, by a super-resolution network of your own.",
        {
            "path": Key(Text("a file of weights, .pth or .safetensors"), "RealESRGAN_x4plus.pth", "the network"),
            "tile": Key(Whole(16, 8192), "256", "side of a tile; memory grows with its square", "pixels"),
        },
        title="callbacks.upscale",
    ),
    "vqclip.loggers.wandb_logger": Group(
        "Weights & Biases; without an API key runs are logged offline and no question is asked.",
        {
            "save_dir": Key(
                Text("a folder"), "outputs/mine", "for W&B's files", null="WANDB_DIR, else the run folder", needed=False
            ),
            "project": Key(Text(), "foxes", "W&B project", null="WANDB_PROJECT, else vqclip", needed=False),
            "entity": Key(Text(), "me", "user or team", null="your default one", needed=False),
            "name": Key(
                Text(), '"first try"', "of the run", null="the prompt; in a sweep the swept keys", needed=False
            ),
            "group": Key(Text(), "foxes", "of the run", null="in a sweep the sweep's folder", needed=False),
            "tags": Key(Listing(Text()), "[first]", "of the run", null="WANDB_TAGS", needed=False),
            "mode": Key(
                Choice(("online", "offline", "disabled")),
                "offline",
                "of W&B",
                null="online if an API key is known",
                needed=False,
            ),
        },
        others="wandb.init",
        title="logger=wandb",
    ),
    "vqclip.loggers.mlflow_logger": Group(
        "MLflow, on a server of your own or in a local database; no account.",
        {
            "tracking_uri": Key(
                Text("a link or a database"),
                "http://127.0.0.1:5000",
                "where the runs go",
                null="MLFLOW_TRACKING_URI, else sqlite:///mlflow.db",
                needed=False,
            ),
            "experiment": Key(Text(), "vqclip", "MLflow's experiment"),
            "tags": Key(Listing(Text()), "[first]", "of the run", null="none", needed=False),
        },
        title="logger=mlflow",
    ),
    "pytorch_lightning.loggers.TensorBoardLogger": Group(
        "TensorBoard, in the run folder.",
        {
            "save_dir": Key(Text("a folder"), "outputs/mine", "the run folder"),
            "name": Key(Text("a text", r"(?s).*"), "tensorboard", "folder in it", null="none", needed=False),
            "version": Key(Anything(), '""', "folder in that one", null="counted", needed=False),
        },
        others="pytorch_lightning.loggers.TensorBoardLogger",
        title="logger=tensorboard",
    ),
}
