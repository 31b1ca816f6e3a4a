"""Finds out early, in the background, whether there is a W&B key and a server that answers."""

from __future__ import annotations

import configparser
import http.client
import netrc
import os
import shlex
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
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
    """``asked`` (online, offline, disabled), else ``WANDB_MODE``, else online if a key is known, else offline."""
    return asked or os.environ.get("WANDB_MODE") or ("online" if has_key(settings) else "offline")


def sweep_group(asked: str | None, folder: str) -> str:
    """The W&B group of a sweep's runs: ``asked``, else ``WANDB_RUN_GROUP``, else the folder's name."""
    return asked or os.environ.get("WANDB_RUN_GROUP") or folder


def known_settings(asked: str | None = "online") -> wandb.Settings:
    """W&B's settings from its files and the environment, for a run with this mode.

    Raises:
        UserError: a ``WANDB_…`` variable is invalid; the working folder's settings name the server that gets the key.
    """
    import wandb

    try:
        from wandb.sdk.lib.service.service_token import WandbServiceConnectionError as ServiceGone
    except ImportError:  # a private name, which another version of W&B may not have
        ServiceGone = ()
    _keep_its_log()
    try:
        try:
            settings = wandb.setup().settings
        except ServiceGone:  # the service of the parent process has ended
            # The environment still has its address.
            os.environ.pop("WANDB_SERVICE", None)
            settings = wandb.setup().settings
        if wandb_mode(asked, settings) not in ("offline", "dryrun", "disabled") and has_key(settings):
            _refuse_the_folders_server(settings)
        return settings
    except (ValueError, wandb.Error) as error:
        what = " ".join(str(error).split())
        raise UserError(f"W&B's environment: {what}. Try: env | grep WANDB, or logger=none") from None


def _refuse_the_folders_server(settings: wandb.Settings) -> None:
    """Refuse a server or proxy named only in the working folder's settings, which may be untrusted."""
    import wandb

    keys = ("base_url", "http_proxy", "https_proxy")
    users = _in_file(settings.settings_system or os.devnull)
    without = wandb.Settings.model_validate({key: users[key] for key in keys if key in users})
    file = without.settings_workspace
    for key in _in_file(file).keys() & keys:
        variable, server = f"WANDB_{key.upper()}", getattr(settings, key)
        if server != getattr(without, key) and variable not in os.environ:
            raise UserError(
                f"{file}: {key} = {server}: W&B would send your key there, and the file may be a stranger's. Allowed: "
                f"to work in another folder; if it is yours, to say so. Try: export {variable}={shlex.quote(server)}"
            )


def _in_file(file: str) -> Mapping[str, str]:
    """The content of a W&B settings file."""
    parser = configparser.ConfigParser()
    with suppress(OSError, configparser.Error, UnicodeDecodeError):
        parser.read(file)
        return dict(parser["default"]) if "default" in parser else {}
    return {}


def _keep_its_log() -> None:
    """Let W&B's process write its log to the temporary folder if the home folder is not writable, as in a container.

    Otherwise it prints its log to the terminal.
    """
    from wandb.env import CACHE_DIR, get_cache_dir

    if not takes_files(get_cache_dir()):
        user = getattr(os, "getuid", os.getlogin)  # Windows has no uid, a container may have no user name
        os.environ[CACHE_DIR] = str(Path(tempfile.gettempdir()) / f"wandb-{user()}")


def has_key(settings: wandb.Settings) -> bool:
    """Whether an API key is configured here; unlike ``wandb.login``, without asking the server."""
    return bool(settings.api_key or settings.identity_token_file or _in_netrc(settings.base_url))


def _in_netrc(url: str) -> bool:
    """Whether the user's netrc file, where ``wandb login`` stores keys, has the server."""
    files = [os.environ["NETRC"]] if os.environ.get("NETRC") else ["~/.netrc", "~/_netrc"]
    for file in files:
        with suppress(OSError, netrc.NetrcParseError):
            return netrc.netrc(os.path.expanduser(file)).authenticators(urlsplit(url).hostname or "") is not None
    return False


def probe(asked: str | None) -> None:
    """Start asking in the background whether the server answers, if a run with this mode needs to know."""
    try:
        settings = known_settings(asked)
    except UserError:  # reported when the logger is opened
        return
    if wandb_mode(asked, settings) == "online" and has_key(settings):
        _asked(settings.base_url, _PATIENCE)


def is_reachable(url: str, patience: float = _PATIENCE) -> bool:
    """Whether a server answers within ``patience`` seconds; asked once per process, perhaps by ``probe``."""
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
