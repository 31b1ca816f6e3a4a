"""How robust is a guide, and what does its gradient draw?

    python robustness.py recall [FILE …]    R@1 among 512 captions, clean and under a ten-step attack
    python robustness.py draw FILE          its gradient's pictures through the decoder, from an almost blank latent

FILE is a shipped perceptor (`*.safetensors`) or a stage's checkpoint (`work/guide.ckpt`, its running average). The
attack is independent of training: more steps, a step of its own size, the contrastive loss alone, two restarts.
Distances are L2 over the picture as the guide sees it, in units of a 32 px picture: twice as long at 64 px.
"""

import argparse
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from data import WORK, Painter, grid, load_icons
from evaluate import EMBEDDED, GENERATOR, distractors, prompts
from safetensors import safe_open
from safetensors.torch import load_file
from train_guide import config_of, unit
from train_perceptor import crops

from vqclip.checkpoints.load import load_generator
from vqclip.models.clip import CLIPPerceptor

PROMPTS = [
    "a red apple",
    "a fox",
    "a green frog",
    "a blue car",
    "a cat",
    "a house",
    "a mushroom",
    "a smiling sun",
    "an umbrella",
    "a pizza",
    "a tree",
    "a purple fish",
    "a banana",
    "a butterfly",
    "a panda on a green background",
    "a rocket in space",
]


def load_guide(path, device):
    """A perceptor from a shipped file or from a stage's running average."""
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            config = json.loads(file.metadata()["config"])
        weights = {k: v.float() if v.is_floating_point() else v for k, v in load_file(path).items()}
        ids = weights.pop("token_ids")
    else:
        from data import token_ids

        state = torch.load(path, map_location="cpu", weights_only=False)["average"]
        weights = {k.removeprefix("clip."): v for k, v in state.items() if k.startswith("clip.")}
        ids, config = token_ids(), config_of(weights)
    guide = CLIPPerceptor(config, ids)
    guide.model.load_state_dict(weights)
    return guide.to(device).eval().requires_grad_(False)


def attack(guide, images, text, own, eps, steps):
    """Gradient ascent on the cross-entropy of each picture's text among all, projected; the worst picture of all."""
    worst, least = images.clone(), torch.full((len(images),), float("inf"), device=images.device)
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        delta = eps * unit(torch.randn(images.shape, generator=generator).to(images.device))
        for _ in range(steps + 1):
            moved = (images + delta).clamp(0, 1).requires_grad_()
            logits = 30 * F.normalize(guide.encode_image(moved), dim=1) @ text.T
            rival = logits.scatter(1, own[:, None], -1e9).amax(1)
            margin = (logits.gather(1, own[:, None])[:, 0] - rival).detach()
            better = margin < least
            worst[better], least[better] = moved.detach()[better], margin[better]
            (gradient,) = torch.autograd.grad(F.cross_entropy(logits, own, reduction="sum"), moved)
            delta = moved.detach() - images + 0.25 * eps * unit(gradient)
            delta = delta * (eps / delta.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)).clamp(max=1)
    return worst


def recall(args):
    """R@1 of held-out combinations, their texts among 512."""
    drawn = prompts(args.seed, -(-args.count // 40))[: args.count]
    scenes, texts = [s for _, s, _ in drawn], [p for *_, p in drawn]
    painter = Painter(load_icons("guide", args.work), args.device)
    pictures = torch.cat([painter.draw(scenes[i : i + 64]) for i in range(0, len(scenes), 64)])
    words = list(dict.fromkeys(distractors(texts)))
    own = torch.tensor([words.index(t) for t in texts], device=args.device)
    print("| guide | pixels | clean | " + " | ".join(f"ε {e:g}" for e in args.eps) + " |")
    for path in args.files:
        guide = load_guide(path, args.device)
        text = F.normalize(guide.encode_text(words), dim=1).detach()
        images = F.adaptive_avg_pool2d(pictures, guide.input_size)
        row = []
        for eps in (0, *args.eps):
            moved = attack(guide, images, text, own, eps * guide.input_size / 32, args.attack) if eps else images
            score = F.normalize(guide.encode_image(moved), dim=1) @ text.T
            row.append((score.argmax(1) == own).float().mean().item())
        print(f"| {path.name} | {guide.input_size} | " + " | ".join(f"{r:.3f}" for r in row) + " |", flush=True)


def spot(generator, count, seed):
    """Latents [count,C,16,16] of a white picture with normal noise in its middle."""
    z = generator.encode(torch.ones(1, 3, 128, 128, device=generator.codebook.device))
    axis = torch.linspace(-1, 1, z.shape[-1])
    hill = torch.exp(-(axis[:, None] ** 2 + axis**2) / 0.6**2)
    noise = torch.randn(count, *z.shape[1:], generator=torch.Generator().manual_seed(seed))
    return z + (0.5 * noise * hill).to(z)


def draw(args):
    """What the gradient draws through the decoder: no regulariser, Adam on the latent, its rate falling."""
    generator = load_generator(GENERATOR).to(args.device)
    guides = [load_guide(path, args.device) for path in args.files]
    texts = [F.normalize(g.encode_text(args.prompts), dim=1).detach() for g in guides]
    z = spot(generator, len(args.prompts), args.seed).detach().requires_grad_()
    adam = torch.optim.Adam([z], args.rate)
    rng = torch.Generator(args.device).manual_seed(args.seed)
    strip = []
    for step in range(args.steps):
        for group in adam.param_groups:
            group["lr"] = args.rate * (1 - step / args.steps) ** 0.7
        picture = generator.decode(z).clamp(0, 1)
        loss = 0
        for guide, text in zip(guides, texts, strict=True):
            views = F.adaptive_avg_pool2d(crops(picture.repeat(args.crops, 1, 1, 1), rng), guide.input_size)
            image = F.normalize(guide.encode_image(views), dim=1)
            loss = loss - (image * text.repeat(args.crops, 1)).sum() / args.crops
        adam.zero_grad()
        loss.backward()
        adam.step()
        if step in (args.steps // 8, args.steps // 3):
            strip.append(picture.detach().cpu())
    strip.append(generator.decode(z).clamp(0, 1).detach().cpu())
    print(f"{[p.name for p in args.files]}: cosine {-loss.item() / len(args.prompts) / len(guides):.3f}", flush=True)
    grid(torch.cat(strip), len(args.prompts)).save(args.to, quality=88)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--work", type=Path, default=WORK)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--seed", type=int, default=1)
    commands = p.add_subparsers(required=True)
    c = commands.add_parser("recall")
    c.set_defaults(function=recall)
    c.add_argument("files", type=Path, nargs="*", default=[EMBEDDED / "perceptor.safetensors"])
    c.add_argument("--count", type=int, default=240)
    c.add_argument("--eps", type=float, nargs="+", default=[0.5, 1.0, 1.5])
    c.add_argument("--attack", type=int, default=10, help="steps")
    c = commands.add_parser("draw")
    c.set_defaults(function=draw)
    c.add_argument("files", type=Path, nargs="+", help="several guides are asked together")
    c.add_argument("--prompts", nargs="+", default=PROMPTS)
    c.add_argument("--steps", type=int, default=150)
    c.add_argument("--crops", type=int, default=8)
    c.add_argument("--rate", type=float, default=0.15)
    c.add_argument("--to", type=Path, default=Path("drawn.jpg"))
    args = p.parse_args()
    args.function(args)


if __name__ == "__main__":
    main()
