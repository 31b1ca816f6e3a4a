"""The programs of experiments/, as modules."""

import importlib.util
import sys
from pathlib import Path

EXPERIMENTS = Path(__file__).parent.parent / "experiments"


def load(name):
    """One of them by its path there, "ways/study.py" say."""
    spec = importlib.util.spec_from_file_location(name.replace("/", "_").removesuffix(".py"), EXPERIMENTS / name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for their annotations
    spec.loader.exec_module(module)
    return module
