"""The denoiser of the pair's latents: what drawings look like, with or without words for it.

`python train_denoiser.py` needs the generator and the robust guide (as they ship) and `work/icons_robust.safetensors`;
it encodes `--pool` pictures and their captions once (`work/latents-*.pt`), trains on them with noise of every size, and
writes `work/denoiser-*.ckpt`; it goes on from there.  Both are named by that generator and guide: of others, they are
begun anew.  `export.py denoiser` writes the running average as `vqclip/embedded/denoiser.safetensors`.

Pictures are of a kind each (one thing, on a ground, in a colour, two things, in a style) and, but for every eighth,
drawn in their usual places. The matrices of the transformer's layers are trained by Muon (Liu et al. 2025,
https://arxiv.org/abs/2502.16982; torch 2.9 or newer), all else by AdamW.

`--without` leaves one of these out, for the ablation: the mean picture of a text (`mean`), Muon (`muon`: AdamW for
everything), the kinds (`kinds`: `data.random_scene` as the other stages draw it).

The noise's deviation is log-uniform from .6 (of every seventh picture from .1) to 24 standard deviations of the
latents; one caption in ten is left out, so that the network can do without (Ho & Salimans 2022,
https://arxiv.org/abs/2207.12598); the network's scaling and the loss's weight are those of Karras et al. 2022
(https://arxiv.org/abs/2206.00364).
"""

import hashlib
import math
import random

import torch
import torch.nn.functional as F
from common import Run, parser, require_pool, save
from data import FAMILIES, HERE, Painter, caption, load_icons, random_scene

from vqclip.checkpoints.load import load_generator, load_perceptor
from vqclip.models.denoiser import Denoiser

EMBEDDED = HERE.parents[1] / "vqclip" / "embedded"
GENERATOR, READER = EMBEDDED / "generator.safetensors", EMBEDDED / "robust.safetensors"
#: Names the files of work: another guide's vectors of the same captions are no words to a denoiser of this one's.
MADE_BY = hashlib.sha256(GENERATOR.read_bytes() + READER.read_bytes()).hexdigest()[:8]
CONFIG = {
    **{"channels": 16, "side": 16, "patch": 2, "width": 192, "depth": 6, "heads": 3, "words": 256},
    **{"hidden": 1024, "rank": 192},
    "reader": hashlib.sha256(READER.read_bytes()).hexdigest(),
}
RATE, BATCH = 1.2e-3, 128
CAPTIONS = 3  # a picture's
SHARES = {"single": 30, "background": 19, "colour": 24, "two": 21, "style": 6}  # of the pictures, in hundredths


def adamw(parameters, rate):
    return torch.optim.AdamW(parameters, rate, betas=(0.9, 0.99), weight_decay=0.01)


class MuonWithAdamW:
    """Muon for the matrices of a model's blocks, AdamW for all else, under one schedule: an optimiser to a `Run`."""

    def __init__(self, model, rate):
        parameters = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
        matrices = [value for name, value in parameters if "blocks." in name and value.ndim == 2]
        chosen = set(map(id, matrices))
        others = [value for _, value in parameters if id(value) not in chosen]
        self.parts = (
            torch.optim.Muon(matrices, rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
            adamw(others, rate),
        )
        self.parts[0].param_groups[0]["scale"] = 2.5

    @property
    def param_groups(self):
        return [group for part in self.parts for group in part.param_groups]

    def zero_grad(self, set_to_none):
        for part in self.parts:
            part.zero_grad(set_to_none)

    def step(self):
        for part in self.parts:
            part.step()

    def state_dict(self):
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states):
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


@torch.no_grad()
def latents_of(args):
    """Encoded pictures [N,16,16,16] and their captions' unit vectors [N,3,256], in half precision.

    From their file, or drawn.
    """
    path = args.work / f"latents-{MADE_BY}.pt"
    if path.exists():
        found = torch.load(path)
        require_pool(path, len(found[0]), args.pool)
        return found
    generator = load_generator({"path": str(GENERATOR)}).to(args.device)
    reader = load_perceptor("robust", {"path": str(READER)}).to(args.device)
    painter = Painter(load_icons("robust", args.work), args.device)
    rng, places, out = random.Random(args.seed), torch.Generator().manual_seed(args.seed), []
    for i in range(0, args.pool, 64):
        kinds = [None] * 64 if args.without == "kinds" else rng.choices(list(SHARES), SHARES.values(), k=64)
        scenes = [random_scene(rng, kind=kind, sets=len(FAMILIES["robust"])) for kind in kinds]
        pictures = painter.draw(scenes, places if i // 64 % 8 == 0 else None)
        tokens = reader.tokenize([caption(scene, rng) for scene in scenes for _ in range(CAPTIONS)]).to(args.device)
        words = F.normalize(reader.model.encode_text(tokens).float(), dim=1).unflatten(0, (-1, CAPTIONS))
        with torch.autocast(args.device, torch.bfloat16):
            out.append((generator.encode(pictures).half().cpu(), words.half().cpu()))
        if i % 1280 == 0:
            print(f"latents: {i} of {args.pool}", flush=True)
    both = tuple(torch.cat(parts)[: args.pool] for parts in zip(*out, strict=True))
    save(both, path)
    return both


@torch.no_grad()
def fit_sketch(model, latents, words):
    """Set the network of mean pictures by least squares: random features of the words, then as few numbers as carry it.

    The training goes on from there, with all the rest.
    """
    enter, _, narrow, leave, _ = model.sketch
    torch.nn.init.normal_(enter.weight, std=1 / 16)
    torch.nn.init.normal_(enter.bias, std=1 / 4)
    features = torch.relu(enter(model.centred(words)))
    target = model.standard(latents.float()).flatten(1)
    mean = target.mean(0)
    gram = features.T @ features + 20 * torch.eye(features.shape[1]).to(features)
    weights = torch.linalg.solve(gram, features.T @ (target - mean))
    fitted = features @ weights
    axes = torch.linalg.eigh(fitted.T @ fitted).eigenvectors[:, -narrow.out_features :]
    narrow.weight.copy_((weights @ axes).T)
    leave.weight.copy_(axes)
    leave.bias.copy_(mean)


def main():
    p = parser(__doc__, minutes=220)
    p.add_argument("--pool", type=int, default=126_144, help="pictures encoded before training begins")
    p.add_argument("--without", choices=("mean", "muon", "kinds"), help="what to leave out, for the ablation")
    p.add_argument("--compile", action="store_true", help="torch.compile: on a CPU half as fast again after a minute")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    model = Denoiser(**CONFIG).to(args.device)
    batch, name = args.batch or BATCH, f"denoiser-{MADE_BY}"
    if args.without == "mean":  # what is zero and not trained is not there
        for value in model.sketch.parameters():
            value.data.zero_().requires_grad_(False)
    optimiser = adamw(model.parameters(), RATE) if args.without == "muon" else MuonWithAdamW(model, RATE)
    latents, words = (part.to(args.device) for part in latents_of(args))
    if (
        args.fresh or not (args.work / f"denoiser-{MADE_BY}.ckpt").exists()
    ):  # before the run copies the model for its average
        some = latents[:4000].float()
        model.mean.copy_(some.mean((0, 2, 3)))
        model.std.copy_(some.std((0, 2, 3)))
        model.usual.copy_(words[:, 0].float().mean(0))
        if args.without != "mean":
            fit_sketch(model, latents, words[:, 0].float())
    denoise = torch.compile(model) if args.compile else model
    run = Run(name, args, model, optimiser, RATE)
    generator = torch.Generator(args.device).manual_seed(args.seed + run.step)
    draw = {"generator": generator, "device": args.device}
    for _ in run:
        which = torch.randint(len(latents), (batch,), **draw)
        x = model.standard(latents[which].float())
        said = words[which, torch.randint(CAPTIONS, (batch,), **draw)].float()
        said = said * (torch.rand(batch, 1, **draw) > 0.1)
        smallest = torch.where(torch.rand(batch, **draw) < 0.15, 0.1, 0.6).log()
        sigma = torch.exp(smallest + torch.rand(batch, **draw) * (math.log(24) - smallest))
        noise = torch.randn(x.shape, **draw) * sigma.view(-1, 1, 1, 1)
        with torch.autocast(args.device, torch.bfloat16):
            clean = denoise(x + noise, sigma, said)
        error = (clean.float() - x).square().mean((1, 2, 3))
        middle = error[(sigma > 0.8) & (sigma < 1.3)]
        stats = {"middle": middle.mean()} if len(middle) else {}
        run.update((error * (sigma.square() + 1) / sigma.square()).mean(), **stats)


if __name__ == "__main__":
    main()
