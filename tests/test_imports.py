"""What a run does not use is not imported; what waits is, once it is asked, as if it had never waited."""

import subprocess
import sys

import pytest

#: Each of these takes longer than our own code together.
UNUSED = ("matplotlib", "pandas", "requests", "scipy", "sympy", "torchvision", "triton")


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert not done.returncode, done.stderr
    return done.stdout.strip()


def test_a_run_imports_only_what_it_uses(tmp_path):
    words = ["steps=2", "size=[32,32]", "augmentations.crops.count=2", "init=sine", "callbacks=none", "logger=none"]
    code = f"""
import sys
from vqclip.cli import main
main(["a fox", *{words}, "hydra.run.dir={tmp_path}"])
from vqclip.cli.lazy_imports import DEFERRED, is_deferred
woke = [name for name in DEFERRED if name in sys.modules and not is_deferred(name)]
print([name for name in {UNUSED} if name in sys.modules], woke)
"""
    assert run(code).splitlines()[-1] == "[] []"


def test_a_launchers_worker_imports_only_what_it_uses():
    code = f"""
import sys
from types import SimpleNamespace
from vqclip.cli.main import _job
try: _job(SimpleNamespace(logger=None))
except ValueError: pass  # Hydra has set nothing up here
print("vqclip.runs.execute" in sys.modules, [name for name in {UNUSED} if name in sys.modules])
"""
    assert run(code).splitlines()[-1] == "True []"


@pytest.mark.parametrize(
    "words,absent",
    [
        (["--help"], ("hydra", "omegaconf", "torch", "wandb")),
        (["--version"], ("hydra", "torch", "wandb")),
        (["--cfg", "job"], ("clip", "pytorch_lightning", "taming", "torch", "wandb")),
    ],
    ids=["help", "version", "config"],
)
def test_what_is_only_shown_imports_nothing_heavy(words, absent):
    code = "import sys\nfrom vqclip.cli.main import main\n"
    code += f"try: main({words})\nexcept SystemExit as end: assert not end.code, end.code\n"
    assert run(code + f"print([name for name in {absent} if name in sys.modules])").splitlines()[-1] == "[]"


SHOWN = """
import sys
from vqclip.cli.main import main
try: main({words})
except SystemExit as end: assert not end.code, end.code
print([name for name, module in sys.modules.items() if module and "_launcher" in name and "hydra_plugins" in name])
"""


def test_a_config_is_shown_without_the_launchers():
    *config, imported = run(SHOWN.format(words=["--cfg", "job", "steps=3"])).splitlines()
    assert "steps: 3" in config and imported == "[]"


@pytest.mark.parametrize("launcher,package", [("workers", "joblib"), ("slurm", "submitit"), ("cluster", "ray")])
def test_a_config_that_names_a_launcher_is_shown(launcher, package, tmp_path):
    pytest.importorskip(f"hydra_plugins.hydra_{package}_launcher")
    (tmp_path / "experiment").mkdir()
    mine = f"# @package _global_\ndefaults: [override /hydra/launcher: {launcher}]\nsteps: 3\n"
    (tmp_path / "experiment/mine.yaml").write_text(mine)
    for words in (["--config-dir", str(tmp_path), "experiment=mine"], [f"hydra/launcher={launcher}", "steps=3"]):
        *config, imported = run(SHOWN.format(words=["--cfg", "job", *words])).splitlines()
        assert "steps: 3" in config and package in imported


#: What is asked after `import torch, pytorch_lightning` on the command line, and what it must say.
ASKED = (
    ("import torchmetrics; torchmetrics.Accuracy(task='binary')(torch.ones(1), torch.ones(1)).item()", 1.0),
    ("from torchmetrics.classification import BinaryAccuracy as A; A().device.type", "cpu"),
    ("from torchmetrics import MeanMetric; type(MeanMetric().plot(torch.ones(1))[0]).__name__", "Figure"),
    ("import torch._dynamo.utils as u; u.__name__", "torch._dynamo.utils"),
    ("import torch._dynamo; callable(torch._dynamo.optimize)", True),
    ("torch.compile(torch.sin, backend='eager')(torch.zeros(1)).item()", 0.0),
    ("len(torch.export.export(torch.nn.ReLU(), (torch.ones(1),)).graph.nodes)", 3),
    ("torch.export.Dim('x').__name__", "x"),
    ("from torch.utils.flop_counter import FlopCounterMode as F; F(display=False).get_total_flops()", 0),
    ("import clip; clip.available_models()[0]", "RN50"),
)


def test_what_waits_answers_as_ever():
    lines = ["from vqclip.cli.lazy_imports import defer_imports", "defer_imports()", "import torch, pytorch_lightning"]
    for asks, _ in ASKED:
        *imports, expression = asks.split("; ")
        lines += [*imports, f"print(repr({expression}))"]
    assert run("\n".join(lines)).splitlines() == [repr(says) for _, says in ASKED]


def test_a_compiled_module_is_known_as_one():
    code = """
from vqclip.cli.lazy_imports import defer_imports
defer_imports()
import torch, pytorch_lightning
from lightning_fabric.wrappers import OptimizedModule
weight = torch.nn.Parameter(torch.ones(2))
optimizer = torch.optim.Adam([weight])
weight.sum().backward()
optimizer.step()  # before there is a compiler
plain = torch.nn.Linear(2, 2)
print(isinstance(plain, OptimizedModule), isinstance(torch.compile(plain, backend="eager"), OptimizedModule))
optimizer.zero_grad()
optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))]})  # after
optimizer.step()
"""
    assert run(code) == "False True"
