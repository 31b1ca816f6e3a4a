"""Nothing of a run is left on the CPU: whole runs on another device make the pictures that they make there."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from vqclip import run, sampling
from vqclip.module import LatentOptimisation

pytest.importorskip("torch._lazy.ts_backend")

INPUTS = Path(__file__).parents[1] / "experiments/editing/inputs"
FEW = ["logger=none", "callbacks.progress=null", "augmentations.crops.count=2", "size=[32,32]", "steps=2"]

EDIT = [f"init.path={INPUTS}/cup.png", "prompts.include=a green cup"]
#: Every recipe, and nearly every term, start and effect.
RECIPES = [
    [*FEW, 'prompts.include=["a fox","an owl"]', "prompts.exclude=blurry", "memory.picture_chunk=2"],
    [*FEW, "experiment=drawing", "prompts.include=a fox"],
    [*FEW, "experiment=recolour", *EDIT],
    [*FEW, "experiment=edit", *EDIT, f"init.mask={INPUTS}/cup.mask.png", "search.overlay={every:1,strength:.2}"],
    [*FEW, "experiment=from_blank", "+loss/terms=[tv,palette,codebook,latent_prior]"],
    [*FEW, "experiment=from_noise", "search={stages:[{size:[16,16],share:.5}],clamp:true,average:.9}"],
    [*FEW, "experiment=reference", "augmentations.effects={perspective:.2,jitter:.1,blur:.05,erase:.2}"],
    [*FEW, "latent=quantised", "init=fractal", "batch_size=2", "memory.picture_chunk=1", "memory.crop_chunk=1"],
]


def test_every_recipe_makes_the_same_pictures_on_another_device(tmp_path):
    resumed = [f"resume={tmp_path}/there/0", "steps=3"]
    there = subprocess.run(
        [sys.executable, Path(__file__).parent / "other_device.py", tmp_path / "there"],
        input="\n".join(map(json.dumps, [*RECIPES, resumed])),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert there.returncode == 0, there.stderr[-3000:]
    for number, words in enumerate(RECIPES):
        here = run(None, words, tmp_path / "here" / str(number))
        steps = 2
        if number == 0:
            steps = 3
            run(resume=here.folder, steps=steps)
        for picture in sorted(here.folder.glob(f"picture-*/steps/{steps:06d}.png")):
            other = tmp_path / "there" / picture.relative_to(tmp_path / "here")
            one, two = (np.asarray(Image.open(path), dtype=int) for path in (picture, other))
            assert abs(one - two).mean() < 2, words


#: What adds up in any order on a GPU and has no other way, as `torch.use_deterministic_algorithms` lists it; but for
#: the gradient of bilinear `interpolate`, which torch writes out there where it is to have one order.
NO_ORDER = {
    *("grid_sampler_2d_backward", "reflection_pad2d_backward", "_adaptive_avg_pool2d_backward", "bincount", "histc"),
    *("adaptive_max_pool2d_backward", "upsample_bicubic2d_backward", "_upsample_bilinear2d_aa_backward", "median"),
    *("put_", "nll_loss_forward", "nll_loss_backward"),
}


def operations_of(words, folder, monkeypatch):
    """What torch does in the steps of a run, forward and backward."""
    step, seen = LatentOptimisation.optimise, set()

    class Operations(TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            seen.add(operation.overloadpacket._qualified_op_name.removeprefix("aten::"))
            return operation(*args, **(kwargs or {}))

    def watched(self, *words):
        with Operations():
            return step(self, *words)

    monkeypatch.setattr(LatentOptimisation, "optimise", watched)
    run(None, words, folder)
    return seen


@pytest.mark.parametrize("words", RECIPES, ids=range(len(RECIPES)))
def test_no_recipe_takes_steps_that_a_gpu_adds_up_in_any_order(words, tmp_path, monkeypatch):
    monkeypatch.setattr(sampling, "_in_one_order", lambda image: True)  # as with trainer.deterministic on a GPU
    seen = operations_of(words, tmp_path / "run", monkeypatch)
    assert "convolution_backward" in seen and not NO_ORDER & seen


def test_without_being_asked_torchs_own_ways_are_taken(tmp_path, monkeypatch):
    seen = operations_of([*RECIPES[0], "augmentations.border=reflect"], tmp_path / "run", monkeypatch)
    assert NO_ORDER & seen == {"grid_sampler_2d_backward", "reflection_pad2d_backward"}
