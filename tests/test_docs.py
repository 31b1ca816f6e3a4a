"""The docs: every command in them composes, every tool and flag they name is there, every picture has its command."""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from vqclip.cli.arguments import parse_arguments
from vqclip.cli.main import TOOLS, main
from vqclip.config.check import check
from vqclip.config.compose import compose_all
from vqclip.config.resolve import resolve

REPO = Path(__file__).parent.parent
PAGES = [REPO / "README.md", REPO / "CONTRIBUTING.md", *(REPO / "docs").glob("*.md"), *(REPO / "docs").glob("*/*.md")]
PAGES += (REPO / "experiments").glob("*/README.md")
CARD = "path: last.ckpt\nabout: trained on my photographs\n"
EXPERIMENT = "# @package _global_\nprompts:\n  include: [a fox]\n"
#: What a command of the docs names and a reader has.
FILES = {
    "prompts.txt": "a fox\n",
    "last.ckpt": "",
    "ViT-B-32.pt": "",
    **dict(re.findall(r"(?ms)^```(?:python|yaml)\n# (\S+)\n(.*?)^```", (REPO / "docs/your_own_parts.md").read_text())),
    "my_conf/checkpoints/generator/mine.yaml": CARD,
    "my_conf/experiment/fox.yaml": EXPERIMENT,
    "my_conf/experiment/mine.yaml": EXPERIMENT,
}


#: A code block: its language and what is in it.
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def commands_in(page: Path) -> list[str]:
    """Lines of a page's code blocks that run vqclip, and those in its prose and tables, continued lines joined."""
    text = page.read_text()
    prose = FENCED.sub("", text)
    blocks = [block for language, block in FENCED.findall(text) if language in ("", "bash", "sh")]
    blocks += re.findall(r"(?:^    .*\n)+", prose, re.MULTILINE)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += [span.replace("\\|", "|") for span in re.findall(r"`(vqclip [^`]+)`", prose)]
    return list(
        dict.fromkeys(line for line in lines if re.match(r"(PYTHONPATH=\S+ )?(\.venv/bin/)?vqclip\b(?!/)", line))
    )


COMMANDS = [(page, line) for page in PAGES for line in commands_in(page)]


@pytest.fixture(scope="module")
def readers_folder(tmp_path_factory):
    """A folder as the docs' reader has it: the repository's studies, and a few files of their own."""
    folder = tmp_path_factory.mktemp("reader")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for name in ("photo.jpg", "moon.png", "mask.png", "owl.png", "fox.png"):
        Image.new("RGB", (16, 16)).save(folder / name)
    (folder / "experiments").symlink_to(REPO / "experiments")
    return folder


@pytest.mark.parametrize("page,line", COMMANDS, ids=[f"{p.relative_to(REPO)}: {c[:70]}" for p, c in COMMANDS])
def test_every_command_of_the_docs_is_real(page, line, readers_folder, monkeypatch, capsys):
    monkeypatch.chdir(readers_folder)
    monkeypatch.syspath_prepend(str(readers_folder))
    argv = words_of(line)
    if not argv or "…" in line:
        return  # `vqclip` alone, or a line that leaves something out
    if argv[0] in TOOLS:
        assert_flags_exist(argv[0], [word for word in argv[1:] if word.startswith("--")], capsys)
        return
    if any(word.startswith("resume=") for word in argv) or {"--help", "--version", "--hydra-help"} & set(argv):
        return  # what they do has tests of its own
    command = parse_arguments(argv)
    for cfg in compose_all(command.overrides, command.flags.get("--config-dir")):
        check(resolve(cfg))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPO)))
def test_a_shell_can_read_every_command(page):
    lines = [re.sub(r"<\w+>", "NAME", line) for line in commands_in(page) if "…" not in line]
    done = subprocess.run(["bash", "-n"], input="\n".join(lines), capture_output=True, text=True)
    assert not done.stderr


def words_of(line: str) -> list[str]:
    """A shell line's arguments, without its remark."""
    words = shlex.split(line, comments=True)
    return words[2:] if "=" in words[0] else words[1:]


def assert_flags_exist(tool: str, flags: list[str], capsys) -> None:
    with contextlib.suppress(SystemExit):
        main([tool, "--help"])
    shown = capsys.readouterr().out
    assert shown, f"vqclip {tool} --help shows nothing"
    for flag in flags:
        assert flag.split("=")[0] in shown, f"vqclip {tool} has no {flag}"


def test_the_pages_are_found():
    assert len(COMMANDS) > 80
    assert any("experiment=reference" in line for _, line in COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(REPO)) for page in PAGES])
def test_links_and_pictures_of_the_markdown_are_there(page):
    """As a reader of the repository sees them, without the site."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", text):
        assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_picture_of_the_docs_is_small_and_made_by_a_command():
    sys.path.insert(0, str(REPO / "docs"))
    try:
        import pictures
    finally:
        sys.path.pop(0)
    made = {shown.target.resolve() for page in pictures.PAGES for shown in pictures.shown_in(REPO / page)}
    made |= {(REPO / "docs/img" / name).resolve() for name in pictures.DRAWN}
    kept = {path.resolve() for path in (REPO / "docs/img").rglob("*") if path.suffix in (".png", ".jpg", ".svg")}
    assert kept == made
    assert all(path.stat().st_size < 300_000 for path in kept)


def messages_of_troubleshooting() -> list[str]:
    """Code in the first column, without the rows of other programs' messages."""
    text = (REPO / "docs/troubleshooting.md").read_text().partition("## Installing")[0]
    cells = re.findall(r"^\| ([^|]*) \|", text, re.MULTILINE)
    return [
        code for cell in cells if cell.startswith("`") for code in re.findall(r"`([^`]+)`", cell)[:1] if " " in code
    ]


@pytest.fixture(scope="module")
def sources() -> str:
    """The package's code, texts that go on in the next line joined, and every placeholder an ellipsis."""
    text = "\n".join(path.read_text() for path in (REPO / "vqclip").rglob("*.py"))
    text = re.sub(r"""["']\s*\n\s*f?["']""", "", text)
    return re.sub(r"\{[^{}\n]*\}", "…", text)


@pytest.mark.parametrize("message", messages_of_troubleshooting())
def test_every_message_of_the_troubleshooting_page_is_in_the_code(message, sources):
    assert re.search("[^\n]*".join(map(re.escape, message.split("…"))), sources), message


def test_the_python_of_the_readme_runs(small_pair, tmp_path, monkeypatch):
    """On the small pair: what the docs show of Python, as it stands but for the models."""
    import vqclip
    from vqclip.runs.arguments import as_overrides

    def on_small_pair(function, many):
        def call(prompt=None, overrides=(), *places, **keys):
            return function(prompt, [*small_pair, *as_overrides(None, overrides, {}, many)], *places, **keys)

        return call

    monkeypatch.chdir(tmp_path)
    for name in ("run", "sweep"):
        monkeypatch.setattr(vqclip, name, on_small_pair(getattr(vqclip, name), many=name == "sweep"))
    for page in (REPO / "README.md", REPO / "docs/python.md"):
        for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE):
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(block, str(page), "exec"), {})
    assert sorted(os.listdir(tmp_path)) == ["best.png", "multirun", "outputs"]
