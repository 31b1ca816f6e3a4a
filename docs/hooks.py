"""What mkdocs builds besides the pages in docs/: config groups, studies, and links that lead out of docs/.

A group's page is made of the folder ``conf/<group>`` (the comments there are the documentation) and, where the package
has one, of its schema.  A study's page is its README, with the pictures it shows.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPO = Path(__file__).parent.parent
CONF = REPO / "conf"
_LINK = re.compile(r"(?P<mark>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")


def groups() -> list[str]:
    """Config groups as typed on the command line: ``noise``, ``checkpoints/generator``, …"""
    return sorted({str(path.parent.relative_to(CONF)) for path in CONF.rglob("*.yaml")} - {"."})


def studies() -> list[str]:
    return sorted(path.parent.name for path in (REPO / "experiments").glob("*/README.md"))


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    for section in config.nav:
        for title, pages in section.items():
            if title == "Config reference":
                pages += [{group: f"reference/{slug(group)}.md"} for group in groups()]
            if title == "Studies":
                pages += [{name.replace("_", " "): f"studies/{name}.md"} for name in studies()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for group in groups():
        files.append(File.generated(config, f"reference/{slug(group)}.md", content=group_page(group)))
    for name in studies():
        folder = REPO / "experiments" / name
        text = (folder / "README.md").read_text()
        files.append(File.generated(config, f"studies/{name}.md", content=study_page(name, text)))
        for picture in sorted({link["target"] for link in _LINK.finditer(text) if link["mark"]}):
            if (folder / picture).is_file():
                path = f"studies/{name}/{picture}"
                files.append(File.generated(config, path, abs_src_path=str(folder / picture)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to files of the repository that are no pages: a study's page where there is one, else the path alone."""

    def outside(link: re.Match) -> str:
        target, _, anchor = link["target"].partition("#")
        if "://" in target or not target.startswith("../"):
            return link[0]
        source = REPO / "docs" / page.file.src_uri
        path = Path(source.parent / target).resolve()
        if path.is_relative_to(REPO / "docs"):
            return link[0]
        if not path.exists():
            raise FileNotFoundError(f"{page.file.src_uri}: {target} is not there")
        parts = path.relative_to(REPO).parts
        if parts[0] == "experiments" and path.name == "README.md":
            up = "../" * page.file.src_uri.count("/")
            return f"[{link['text']}]({up}studies/{parts[1]}.md{'#' + anchor if anchor else ''})"
        return link["text"] if link["text"].startswith("`") else f"{link['text']} (`{'/'.join(parts)}`)"

    return _LINK.sub(outside, markdown) if not page.file.src_uri.startswith("studies/") else markdown


def slug(group: str) -> str:
    return group.replace("/", "-")


def study_page(name: str, text: str) -> str:
    """A study's README with its pictures where the site has them, and its other links as paths."""

    def inside(link: re.Match) -> str:
        target = link["target"]
        if link["mark"]:
            return f"![{link['text']}]({name}/{target})"
        if "://" in target or target.startswith("#"):
            return link[0]
        path = (REPO / "experiments" / name / target).resolve()
        parts = path.relative_to(REPO).parts
        if path.name == "README.md" and parts[0] == "experiments":
            return f"[{link['text']}]({parts[1]}.md)"
        return f"{link['text']} (`{'/'.join(parts)}`)"

    return _LINK.sub(inside, text)


def group_page(group: str) -> str:
    """Presets, keys and the YAML itself of one group."""
    from vqclip.config.choices import about_choice

    presets = sorted((CONF / group).glob("*.yaml"), key=lambda path: (path.stem != "default", path.stem))
    lines = [f"# {group}", "", f"`{group}=CHOICE` on the command line. Choices: ", ""]
    lines += ["| choice | |", "| --- | --- |"]
    lines += [f"| `{path.stem}` | {_cell(about_choice(group, path.stem))} |" for path in presets]
    lines += [""]
    lines += schema_keys(group)
    for path in presets:
        lines += [f"## {group}={path.stem}", "", f"`conf/{group}/{path.name}`", ""]
        lines += ["```yaml", path.read_text().rstrip(), "```", ""]
    return "\n".join(lines)


def schema_keys(group: str) -> list[str]:
    """The keys of a group as the package's schema has them: allowed values, defaults, what they do."""
    from vqclip.config import reference as schema

    if group not in schema.groups():
        return []
    return ["## Keys", "", *schema.reference(group).splitlines(), ""]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
