"""The shape of the package: no import circles, nothing imports upward, small modules and functions.

``python tests/test_architecture.py`` prints the figures.
"""

import ast
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "vqclip"
LONGEST_MODULE, LONGEST_FUNCTION = 400, 40
#: From the lowest up: a module imports from its own layer and those below it.
LAYERS = [
    ["errors", "paths", "rng", "machine", "precision", "classes"],
    ["io"],
    ["schedules", "prompts", "protocols", "own_parts"],
    ["checkpoints", "models", "memory", "optimizer"],
    ["config"],
    [
        "picture_cache",
        "sampling",
        "augmentations",
        "effects",
        "noise",
        "latent",
        "init",
        "terms",
        "targets",
        "loss",
        "guidance",
        "search",
        "module",
        "loggers",
    ],
    ["runs", "callbacks"],
    ["peers"],
    ["compare"],
    ["sweeps"],
    ["cli", "plugins", "", "__main__"],
]


@cache
def imports():
    """Module → the modules of the package that it imports, anywhere in it, also for types."""
    paths = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    edges = {}
    for module, path in paths.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vqclip"):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names if alias.name.startswith("vqclip")]
            for name in names:
                while name not in paths:
                    name = name.rpartition(".")[0]
                found.add(name)
        edges[module] = found - {module, "vqclip"}
    return edges


def reachable(module):
    """Every module that ``module`` imports, through any number of others."""
    seen, left = set(), list(imports()[module])
    while left:
        if (one := left.pop()) not in seen:
            seen.add(one)
            left += imports()[one]
    return seen


def layer_of(module):
    name = [*module.split("."), ""][1]
    return next(i for i, names in enumerate(LAYERS) if name in names)


def modules():
    """Lines of every module, by path in the package."""
    return {str(p.relative_to(PACKAGE)): len(p.read_text().splitlines()) for p in PACKAGE.rglob("*.py")}


def functions():
    """Lines of every function, by file and name."""
    return {
        f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_no_import_circles():
    assert [module for module in imports() if module in reachable(module)] == []


def test_nothing_imports_upward():
    upward = [
        f"{module} → {other}"
        for module, others in imports().items()
        for other in others
        if layer_of(other) > layer_of(module)
    ]
    assert upward == []


def test_yaml_has_one_reader():
    """What a file may do to a YAML parser is caught in one place."""
    readers = [path.name for path in PACKAGE.rglob("*.py") if "yaml.safe_load" in path.read_text("utf-8")]
    assert readers == ["yaml_text.py"]


def test_pictures_are_opened_in_one_place():
    """Pillow runs a program for some formats, which is refused there."""
    readers = [path.name for path in PACKAGE.rglob("*.py") if "Image.open(" in path.read_text("utf-8")]
    assert readers == ["images.py"]


def test_modules_and_functions_are_small():
    assert {name: n for name, n in modules().items() if n > LONGEST_MODULE} == {}
    assert {name: n for name, n in functions().items() if n > LONGEST_FUNCTION} == {}


if __name__ == "__main__":
    sizes, lengths = modules(), functions()
    circles = sum(module in reachable(module) for module in imports())
    print(f"modules {len(sizes)}, lines {sum(sizes.values())}, in import circles {circles}")
    for what, found in (("module", sizes), ("function", lengths)):
        for name, lines in sorted(found.items(), key=lambda item: -item[1])[:3]:
            print(f"longest {what}: {lines:4d}  {name}")
