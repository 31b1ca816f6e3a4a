"""What the training stages share: the budget, the running average, checkpoints, the log line."""

import argparse
import copy
import json
import math
import shlex
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from data import BACKGROUNDS, COLOURS, CONCEPTS, DEFECT_NAMES, LAYOUTS, STYLE_NAMES, WORK
from safetensors.torch import save_file
from torch import nn


def parser(doc, minutes):
    """The flags of every stage."""
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--work", type=Path, default=WORK, help="folder of inputs, checkpoints and results")
    p.add_argument(
        "--minutes", type=float, default=minutes, help="training time; the learning rate's schedule follows it"
    )
    p.add_argument("--steps", type=int, help="steps instead of minutes: a run that can be repeated to the bit")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--batch", type=int)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--fresh", action="store_true", help="start over instead of resuming from the stage's checkpoint")
    return p


class Run:
    """A training loop's clock, average and checkpoint.

    `for step in run:` goes on until the budget is spent, over interruptions: the checkpoint (every two minutes)
    holds weights, average, optimiser, step, time spent and the flags, some of which an exported file tells.
    """

    def __init__(self, name, args, model, optimiser, lr, decay=0.999):
        self.path, self.args, self.model = args.work / f"{name}.ckpt", args, model
        self.optimiser, self.lr, self.decay = optimiser, lr, decay
        self.average = copy.deepcopy(model).eval().requires_grad_(False)
        self.step, self.spent, self.logged, self.stats = 0, 0.0, time.time(), {}
        if self.path.exists() and not args.fresh:
            state = torch.load(self.path, map_location=args.device, weights_only=False)
            model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            optimiser.load_state_dict(state["optimiser"])
            self.step, self.spent = state["step"], state["spent"]
            print(f"{name}: resumed at step {self.step}, {self.spent / 60:.1f} min", flush=True)

    @property
    def progress(self):
        """How much of the budget is spent, in [0,1]."""
        return min(
            1.0, self.step / self.args.steps if self.args.steps else self.spent / 60 / max(self.args.minutes, 1e-9)
        )

    def __iter__(self):
        saved = time.time()
        while self.progress < 1:
            start = time.time()
            rate = (
                self.lr * min(1, (self.step + 1) / 200) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * self.progress)))
            )
            for group in self.optimiser.param_groups:
                group["lr"] = rate * group.get("scale", 1)
            yield self.step
            self.step += 1
            self.spent += time.time() - start
            if time.time() - saved > 120:
                self.save()
                saved = time.time()
        self.save()

    def update(self, loss, **stats):
        """One optimiser step; the stats go to the log line as running means."""
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        decay = min(self.decay, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            pairs = list(zip(self.average.state_dict().values(), self.model.state_dict().values(), strict=True))
            means, nows = zip(*((m, n) for m, n in pairs if m.is_floating_point()), strict=True)
            torch._foreach_lerp_(means, nows, 1 - decay)
            for mean, now in pairs:
                if not mean.is_floating_point():
                    mean.copy_(now)
        for key, value in {"loss": loss, **stats}.items():  # tensors: reading them would hold a GPU up at every step
            value = torch.as_tensor(value).detach()
            self.stats[key] = self.stats.get(key, value) * 0.95 + value * 0.05
        if time.time() - self.logged > 20:
            self.logged = time.time()
            print(
                f"{self.progress:5.1%} step {self.step} {self.spent / 60:.1f} min  "
                + "  ".join(f"{k} {v:.4f}" for k, v in self.stats.items()),
                flush=True,
            )

    def save(self):
        state = dict(
            model=self.model.state_dict(),
            average=self.average.state_dict(),
            optimiser=self.optimiser.state_dict(),
            step=self.step,
            spent=self.spent,
            asked=vars(self.args),
        )
        save(state, self.path)


def save(content, path):
    """Write a file whole or not at all."""
    partial = path.with_suffix(".partial")
    torch.save(content, partial)
    partial.replace(path)


def require_pool(path, found, asked):
    """Refuse a file of fewer pictures than `--pool` asks for."""
    if found < asked:
        raise SystemExit(
            f"{path}: it holds {found} pictures, and --pool asks for {asked}. "
            f"Try: --pool {found}, or to make them anew: rm {shlex.quote(str(path))}"
        )


def export(path, state, config, eight_bits=False, **notes):
    """fp16 weights (integers kept) and the constructor's arguments, as one safetensors file.

    With `eight_bits`, matrices of 4,096 numbers or more as 8-bit integers and a factor a row.
    """
    tensors = {}
    for name, value in state.items():
        if eight_bits and value.ndim == 2 and value.numel() >= 4096:
            scale = (value.abs().amax(1, keepdim=True).clamp(min=1e-6) / 127).half()
            tensors[f"{name}.scale"] = scale
            value = (value / scale.float()).round().clamp(-127, 127).to(torch.int8)
        tensors[name] = (value.half() if value.is_floating_point() else value).contiguous().cpu()
    partial = Path(path).with_suffix(".partial")
    save_file(tensors, partial, {"config": json.dumps(config), **notes})
    partial.replace(path)
    print(f"{path}: {Path(path).stat().st_size / 1e6:.1f} MB, {sum(t.numel() for t in tensors.values()) / 1e6:.2f} M")


class Naming(nn.ModuleDict):
    """Linear heads that name a picture's parts from its vector: far more signal a picture than one match in a batch."""

    def __init__(self, dim):
        super().__init__(
            {
                "objects": nn.Linear(dim, len(CONCEPTS)),
                "colours": nn.Linear(dim, len(COLOURS)),
                "background": nn.Linear(dim, len(BACKGROUNDS)),
                "style": nn.Linear(dim, len(STYLE_NAMES)),
                "defect": nn.Linear(dim, len(DEFECT_NAMES)),
                "layout": nn.Linear(dim, len(LAYOUTS)),
            }
        )

    def loss(self, vectors, labels):
        """Cross-entropy of every head; two objects (or colours) share the probability."""
        loss = 0
        for key, head in self.items():
            log_p, target = head(vectors).log_softmax(1), labels[key]
            if target.ndim == 1:
                loss = loss + F.nll_loss(log_p, target)
                continue
            weight = (target >= 0).float()
            weight[:, 1] *= target[:, 1] != target[:, 0]
            weight = weight / weight.sum(1, keepdim=True).clamp(min=1)
            loss = loss - (log_p.gather(1, target.clamp(min=0)) * weight).sum(1).mean()
        return loss


class Pupil(nn.Module):
    """A judge of a class and the heads that name a picture's parts."""

    def __init__(self, judge, config):
        super().__init__()
        self.judge = judge(**config)
        self.heads = Naming(config["dim"])


def labels(scenes, device="cpu"):
    """What the heads have to name, as long tensors: objects and colours [B,2] (-1 = none), the others [B]."""
    keys = ("objects", "colours", "background", "style", "defect", "layout")
    return {key: torch.tensor([s[key] for s in scenes], device=device) for key in keys}


def same_scene(scenes, device="cpu"):
    """Which rows of a batch are one scene under two wordings: [B,B] bool."""
    index = torch.tensor([id(s) for s in scenes], device=device)
    return index[:, None] == index[None]


def match_loss(image, text, scale, same):
    """Contrastive loss of unit vectors [B,D], and the share of hits; `same` [B,B] bool: which rows belong together."""
    logits = scale * image @ text.T
    target = same.float() / same.sum(1, keepdim=True)
    loss = -(target * (logits.log_softmax(0) + logits.log_softmax(1))).sum(1).mean() / 2
    return loss, same.gather(1, logits.argmax(1, keepdim=True)).float().mean()
