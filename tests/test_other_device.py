"""Nothing of a run is left on the CPU: whole runs on another device make the pictures that they make there."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vqclip import run

pytest.importorskip("torch._lazy.ts_backend")

INPUTS = Path(__file__).parents[1] / "experiments/editing/inputs"
FEW = ["logger=none", "callbacks.progress=null", "augmentations.crops.count=2", "size=[32,32]", "steps=2"]


def test_every_recipe_makes_the_same_pictures_on_another_device(tmp_path):
    edit = [f"init.path={INPUTS}/cup.png", "prompts.include=a green cup"]
    cases = [
        [*FEW, 'prompts.include=["a fox","an owl"]', "prompts.exclude=blurry", "memory.picture_chunk=2"],
        [*FEW, "experiment=drawing", "prompts.include=a fox"],
        [*FEW, "experiment=recolour", *edit],
        [*FEW, "experiment=edit", *edit, f"init.mask={INPUTS}/cup.mask.png", "search.overlay={every:1,strength:.2}"],
        [*FEW, "experiment=from_blank", "+loss/terms=[tv,palette,codebook,latent_prior]"],
        [*FEW, "experiment=from_noise", "search={stages:[{size:[16,16],share:.5}],clamp:true,average:.9}"],
        [*FEW, "experiment=reference", "augmentations.effects={perspective:.2,jitter:.1,blur:.05,erase:.2}"],
        [*FEW, "latent=quantised", "init=fractal", "batch_size=2", "memory.picture_chunk=1", "memory.crop_chunk=1"],
    ]
    resumed = [f"resume={tmp_path}/there/0", "steps=3"]
    there = subprocess.run(
        [sys.executable, Path(__file__).parent / "other_device.py", tmp_path / "there"],
        input="\n".join(map(json.dumps, [*cases, resumed])),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert there.returncode == 0, there.stderr[-3000:]
    for number, words in enumerate(cases):
        here = run(None, words, tmp_path / "here" / str(number))
        steps = 2
        if number == 0:
            steps = 3
            run(resume=here.folder, steps=steps)
        for picture in sorted(here.folder.glob(f"picture-*/steps/{steps:06d}.png")):
            other = tmp_path / "there" / picture.relative_to(tmp_path / "here")
            one, two = (np.asarray(Image.open(path), dtype=int) for path in (picture, other))
            assert abs(one - two).mean() < 2, words
