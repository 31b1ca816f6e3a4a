"""Finds out whether W&B has a key and a server that answers, early, so that waiting for it costs nothing."""

from __future__ import annotations

import http.client
import netrc
import os
import shlex
import tempfile
import urllib.error
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from vqclip.errors import UserError
from vqclip.io.files import takes_files

if TYPE_CHECKING:
    import wandb

__all__ = ["has_key", "is_reachable", "known_settings", "probe", "sweep_group", "wandb_mode"]

_PATIENCE = 1.0  #: seconds


def wandb_mode(asked: str | None, settings: wandb.Settings) -> str:
    """``asked`` (online, offline, disabled), or where it is None, online if a key is known, else offline."""
    return asked or os.environ.get("WANDB_MODE") or ("online" if has_key(settings) else "offline")


def sweep_group(asked: str | None, folder: str) -> str:
    """The W&B group of a sweep's runs: the one ``asked`` for, else the environment's, else its folder's name."""
    return asked or os.environ.get("WANDB_RUN_GROUP") or folder


def known_settings() -> wandb.Settings:
    """W&B's settings, from its files and the environment.

    Raises:
        UserError: a ``WANDB_…`` variable says what it does not take; a run's folder has settings of its own.
    """
    import wandb
    from wandb.sdk.lib.service.service_token import WandbServiceConnectionError

    _refuse_a_runs_own(Path(wandb.Settings().settings_workspace))
    _keep_its_log()
    try:
        with suppress(WandbServiceConnectionError):
            return wandb.setup().settings
        # W&B's process of the program that started this one, which has ended: a terminal or a server keeps its address.
        os.environ.pop("WANDB_SERVICE", None)
        return wandb.setup().settings
    except (ValueError, wandb.Error) as error:
        what = " ".join(str(error).split())
        raise UserError(f"W&B's environment: {what}. Try: env | grep WANDB, or logger=none") from None


def _refuse_a_runs_own(file: Path) -> None:
    """Refuse W&B's settings for the working folder where that is a run: a stranger's would say who gets the key."""
    folder = file.parent.parent
    if os.path.lexists(file) and any((folder / name).exists() for name in ("run.json", "config.yaml", "sweep.json")):
        raise UserError(
            f"{file}: W&B would read it and send your key to the server that it names, and {folder} is a run's folder, "
            f"maybe a stranger's. Allowed: to work in another folder. Try: cd {shlex.quote(str(folder.parent))}"
        )


def _keep_its_log() -> None:
    """Have W&B's process write its log in the temporary folder where it cannot in the home folder, as in a container.

    It would print all of it among our lines.
    """
    from wandb.env import CACHE_DIR, get_cache_dir

    if not takes_files(get_cache_dir()):
        user = getattr(os, "getuid", os.getlogin)  # Windows has names alone, and a container may have none
        os.environ[CACHE_DIR] = str(Path(tempfile.gettempdir()) / f"wandb-{user()}")


def has_key(settings: wandb.Settings) -> bool:
    """Whether an account is known, from what lies here: ``wandb.login`` would ask the server."""
    return bool(settings.api_key or settings.identity_token_file or _in_netrc(settings.base_url))


def _in_netrc(url: str) -> bool:
    """Whether the user's netrc file, where ``wandb login`` puts the key, names the server."""
    files = [os.environ["NETRC"]] if os.environ.get("NETRC") else ["~/.netrc", "~/_netrc"]
    for file in files:
        with suppress(OSError, netrc.NetrcParseError):
            return netrc.netrc(os.path.expanduser(file)).authenticators(urlsplit(url).hostname or "") is not None
    return False


def probe(asked: str | None) -> None:
    """Ask in the background whether the server answers, if a run with this mode would want to know."""
    try:
        settings = known_settings()
    except UserError:  # said when the logger is opened
        return
    if wandb_mode(asked, settings) == "online" and has_key(settings):
        _asked(settings.base_url, _PATIENCE)


def is_reachable(url: str, patience: float = _PATIENCE) -> bool:
    """Whether a server says anything at all within ``patience`` seconds; asked once a process, maybe by ``probe``."""
    return _asked(url, patience).result()


@cache
def _asked(url: str, patience: float) -> Future[bool]:
    return ThreadPoolExecutor(1).submit(_ask, url, patience)


def _ask(url: str, patience: float) -> bool:
    try:
        urllib.request.urlopen(url, timeout=patience).close()
    except urllib.error.HTTPError:
        return True
    except (OSError, http.client.HTTPException):
        return False
    return True
