"""What a maintainer relies on: one version everywhere, a changelog in form, a workflow that asks for what exists."""

import re
import tomllib
from pathlib import Path

import yaml

import vqclip

REPO = Path(__file__).parent.parent
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]


def test_the_version_is_the_same_everywhere():
    assert vqclip.__version__ == PROJECT["version"]
    assert yaml.safe_load((REPO / "CITATION.cff").read_text())["version"] == PROJECT["version"]


def test_the_changelog_is_one_that_readers_know():
    titles = re.findall(r"^## (.*)$", (REPO / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert titles[0] == "Unreleased"
    sections = set(re.findall(r"^### (.*)$", (REPO / "CHANGELOG.md").read_text(), flags=re.MULTILINE))
    assert sections <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_every_extra_that_is_named_exists():
    extras = set(PROJECT["optional-dependencies"])
    pages = [*REPO.glob("*.md"), *REPO.glob("docs/*.md"), *REPO.glob("conf/**/*.yaml"), *REPO.glob(".github/**/*.yml")]
    pages += REPO.glob("vqclip/**/*.py")
    for page in pages:
        for named in re.findall(r"(?:vqclip|\.)\[([a-z_,]+)\]['\"`]", page.read_text()):
            assert set(named.split(",")) <= extras, f"{page.name}: {named}"
    for wanted in extras:
        for requirement in PROJECT["optional-dependencies"][wanted]:
            if found := re.fullmatch(r"vqclip\[([a-z_,]+)\]", requirement):
                assert set(found[1].split(",")) <= extras


def test_all_means_all():
    """An extra that one can ask for is in ``all``; those of the developers are not."""
    every = set(re.fullmatch(r"vqclip\[(.*)\]", PROJECT["optional-dependencies"]["all"][0])[1].split(","))
    assert every == set(PROJECT["optional-dependencies"]) - {"all", "test", "dev"}


def test_every_dependency_has_a_lower_bound():
    for requirement in PROJECT["dependencies"]:
        assert re.search(r"[<>=]", requirement), requirement


def test_the_workflow_and_the_hooks_are_yaml_that_runs_what_is_there():
    jobs = yaml.safe_load((REPO / ".github/workflows/ci.yml").read_text())["jobs"]
    assert {"lint", "tests", "readme", "slow"} <= set(jobs)
    assert set(jobs["tests"]["strategy"]["matrix"]["python"]) == {"3.11", "3.12", "3.13", "3.14"}
    hooks = yaml.safe_load((REPO / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert {hook["id"] for hook in hooks} == {"ruff", "ruff-format", "codespell", "yaml"}
    assert (REPO / ".ci/run").stat().st_mode & 0o111


def test_no_commit_is_refused_for_what_the_tests_mistype():
    """codespell passes over a folder only in its own walk of the tree, not among the names that a hook is given."""
    hooks = yaml.safe_load((REPO / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    skipped = tomllib.loads((REPO / "pyproject.toml").read_text())["tool"]["codespell"]["skip"]
    [hook] = [hook for hook in hooks if hook["id"] == "codespell"]
    assert "./tests" in skipped.split(",") and hook["pass_filenames"] is False
