"""``vqclip completion bash|zsh|fish``: TAB completes tools, groups, choices, keys and flags.

It writes a script for the shell and, for bash and zsh, one line into the shell's own start-up file that loads it.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from vqclip.cli.arguments import FLAGS, ToolParser
from vqclip.cli.main import TOOLS
from vqclip.config.choices import group_names, is_group
from vqclip.io.files import refuse_endless
from vqclip.paths import conf_dir

__all__ = ["candidates", "install", "main"]

_ABOUT = """\
Complete tools, groups, choices, keys and flags with TAB.  Writes a script for the shell and, for bash and zsh, one line
into the shell's start-up file that loads it.
"""

#: Tools whose arguments are files, which the shell completes.
_OF_FILES = [tool for tool in TOOLS if tool not in ("completion", "models")]

SCRIPTS = {
    # bash splits words at "=" outside quotes, so only the value after it is offered: $2 is that word.
    "bash": """# TAB for vqclip; written by `vqclip completion bash`
_vqclip() {
    local line="${COMP_LINE:0:COMP_POINT}" IFS=$'\\n'
    COMPREPLY=($(vqclip completion query "$line" 2>/dev/null))
    [[ "${COMPREPLY[0]}" == *[=.] ]] && compopt -o nospace
    [[ "${line##* }" == *=* && "$2" != *=* ]] && COMPREPLY=("${COMPREPLY[@]#*=}")
    return 0
}
complete -o default -F _vqclip vqclip
""",
    "zsh": """#compdef vqclip
# TAB for vqclip; written by `vqclip completion zsh`
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
_vqclip() {
    local -a found open
    found=("${(@f)$(vqclip completion query "${(j: :)words[1,CURRENT]}" 2>/dev/null)}")
    found=(${found:#})
    open=(${(M)found:#*[=.]})
    (( $#open )) && compadd -S '' -- $open
    found=(${found:#*[=.]})
    (( $#found )) && compadd -- $found
    (( $#open + $#found )) || { compset -P '*='; _files }
}
compdef _vqclip vqclip
""",
    # Keys that name a file have no choices.
    "fish": f"""# TAB for vqclip; written by `vqclip completion fish`
complete -c vqclip -n 'not __fish_seen_subcommand_from {" ".join(_OF_FILES)}
    and not string match -qr "(path|mask|run|dir|resume)=" -- (commandline -ct)' -f
complete -c vqclip -a '(vqclip completion query (commandline -cp) 2>/dev/null)'
""",
}


def main(argv: Sequence[str]) -> int:
    """The command line tool."""
    if argv and argv[0] == "query":
        print("\n".join(candidates(" ".join(argv[1:]))))
        return 0
    parser = ToolParser(prog="vqclip completion", description=_ABOUT)
    parser.add_argument("shell", choices=sorted(SCRIPTS), help="the shell to complete in")
    parser.add_argument("--print", action="store_true", help="print the script instead of installing it")
    arguments = parser.parse_args(argv)
    if arguments.print:
        print(SCRIPTS[arguments.shell], end="")
        return 0
    for path in install(arguments.shell, Path.home()):
        print(path)
    print(f"TAB completes vqclip in every new {arguments.shell}")
    return 0


def install(shell: str, home: Path) -> list[Path]:
    """Write the script, and let the shell load it, once; return the files that were written."""
    if shell == "fish":
        script = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "fish/completions/vqclip.fish"
    else:
        script = Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share") / f"vqclip/completion.{shell}"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(SCRIPTS[shell])
    if shell == "fish":
        return [script]
    start_up = Path(os.environ.get("ZDOTDIR") or home) / ".zshrc" if shell == "zsh" else home / ".bashrc"
    line = f'[ -f "{script}" ] && . "{script}"  # vqclip completion'
    refuse_endless(start_up)
    text = start_up.read_text(errors="surrogateescape") if start_up.is_file() else ""
    if line not in text.splitlines():
        with start_up.open("a") as file:
            file.write(f"{'' if text.endswith(chr(10)) or not text else chr(10)}{line}\n")
    return [script, start_up]


def candidates(line: str) -> list[str]:
    """The candidates for the last word of a command line, as whole words."""
    *words, current = _words(line)
    if re.search(r"\s", current):  # a prompt or a file: no candidate has spaces
        return []
    before = words[-1] if words else ""
    if before == "completion":
        found: Iterator[str] = iter(SCRIPTS)
    elif FLAGS.get(before):
        found = iter(FLAGS[before] or ())
    elif words and words[0] in TOOLS:
        found = _of_tool(words, current)
    elif current.startswith("-"):
        found = iter(["-m", *FLAGS])
    elif "=" in current:
        found = _values(current, words)
    else:
        found = iter([*([] if words else TOOLS), *_keys(current, words)])
    return [word for word in dict.fromkeys(found) if word.startswith(current)]


def _words(line: str) -> list[str]:
    """The words after the command, split as by a shell; the last one may be empty, or have an open quote."""
    for quote in ('"', "'"):
        with contextlib.suppress(ValueError):  # this quote is not open
            words = shlex.split(f"{line}|{quote}")
            break
    else:
        words = shlex.split(f"{line}|")
    *before, last = words[1:] or ["|"]
    return [*before, last.removesuffix("|")]


def _of_tool(words: Sequence[str], current: str) -> Iterator[str]:
    """A tool's flags and commands, from its own help; the shell completes files."""
    if not current and words[0] != "models":
        return
    with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.suppress(SystemExit):
        importlib.import_module(TOOLS[words[0]]).main(["--help"])
    yield from re.findall(r"(?<![\w-])--[a-z][\w-]*", shown.getvalue())
    if words == ["models"]:
        for commands in re.findall(r"\{([\w,]+)\}", shown.getvalue())[:1]:
            yield from commands.split(",")
    elif words[0] == "models":
        yield from sorted(path.stem for path in conf_dir().glob("checkpoints/*/*.yaml"))


def _values(current: str, words: Sequence[str]) -> Iterator[str]:
    """``noise=s`` → matching choices of the group, also after a comma and in a list."""
    key, value = current.split("=", 1)
    opened = value[: max(value.rfind(","), value.rfind("[")) + 1]
    folders = [conf_dir(), *(Path(b) for a, b in pairwise(words) if a == "--config-dir")]
    for folder in folders:
        for path in sorted((folder / key.lstrip("+~")).glob("*.yaml")):
            yield f"{key}={opened}{path.stem}"


def _keys(current: str, words: Sequence[str]) -> Iterator[str]:
    """Keys and groups that start with ``current``, one level at a time: ``lo`` → ``loss=``, ``loss.``

    Choices in earlier words decide which keys there are: ``init=image init.p`` → ``init.path=``.
    """
    from vqclip.config.compose import compose
    from vqclip.errors import UserError

    mark = current[: len(current) - len(current.lstrip("+~"))]
    yield from (f"{mark}{group}=" for group in group_names())
    chosen = [word for word in words if (key := re.match(r"\+?(\w[^=]*)", word)) and is_group(key[1])]
    try:
        node: Any = compose(chosen)
    except UserError:
        node = compose()
    *path, _ = current[len(mark) :].split(".")
    for key in path:
        node = node.get(key) if hasattr(node, "get") else None
    for key, value in node.items_ex(resolve=False) if hasattr(node, "items_ex") else ():
        name = ".".join([*path, str(key)])
        yield f"{mark}{name}." if hasattr(value, "items_ex") and not value._is_none() else f"{mark}{name}="
