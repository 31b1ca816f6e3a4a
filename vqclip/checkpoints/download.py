"""Downloads files from several mirrors in order, resumes interrupted transfers, and verifies hashes before use.

A transfer is written to ``<file>.part`` beside its target and renamed only when complete and verified, so that the
target is always absent or good.  With a known hash, a partial file can be continued from any mirror and by a later run.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import filelock
import urllib3
from tqdm import tqdm

from vqclip.errors import NO_ROOM, UserError
from vqclip.io.files import sha256 as sha256_of

if TYPE_CHECKING:
    import requests

    from vqclip.checkpoints.cards import Card

__all__ = ["NoRoom", "disk_full", "fetch", "lock_file"]

#: Seconds to wait for a connection, and for the next bytes.
TIMEOUT = (10.0, 30.0)
_RESUMES = 20  #: interruptions allowed per mirror, if each brought some bytes
_BLOCK = 2**20  #: bytes per read


class _MirrorFailed(Exception):
    """One mirror did not deliver; the message is the reason."""


class NoRoom(UserError):
    """The disk is full: no mirror is to blame."""


@contextmanager
def lock_file(path: Path) -> Iterator[None]:
    """Hold the lock of a cached file: one job makes the file, others wait.

    Raises:
        UserError: its folder cannot be created or written.
    """
    lock = filelock.FileLock(path.with_name(f".{path.name}.lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except filelock.Timeout:
        print(f"waiting for another process that is making {path}")
        lock.acquire()
    except OSError as error:
        raise UserError(f"{path.parent}: {error.strerror}. Put the cache elsewhere: VQCLIP_HOME=FOLDER") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def disk_full(path: Path, used_again: bool = True) -> Iterator[None]:
    """Turn a full disk, quota or file size limit while ``path`` is written into a UserError.

    Args:
        used_again: whether the next run can continue from the bytes that were downloaded.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        free = shutil.disk_usage(path.parent).free
        again = "; what has been fetched so far is used again" if used_again else ""
        raise NoRoom(
            f"{path} cannot be written: {error.strerror} ({free / 1e6:,.0f} MB free). "
            f"Make room, or put the cache elsewhere: VQCLIP_HOME=FOLDER{again}"
        ) from None


def fetch(card: Card, use: Callable[[], None]) -> None:
    """Download the file of a card to ``card.source`` and use it; the caller holds the file's lock.

    Args:
        use: called once the file is there.  If the card has no hash, its UserError means that the mirror's file is bad.

    Raises:
        UserError: no mirror delivered (with the reason of each), or the disk is full.
    """
    target = card.source
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    if card.sha256 is None:  # nothing could verify that old and new bytes belong together
        part.unlink(missing_ok=True)
    _check_room(card, part)
    reasons = []
    try:
        for url in card.urls:
            try:
                _from_mirror(url, part, card)
                part.replace(target)
                return _try(use, card)
            except _MirrorFailed as reason:
                reasons.append(f"  {url}\n    {reason}")
                print(f"{card.name}: {url}: {reason}")
    finally:
        if card.sha256 is None:  # see above: it could not be continued
            part.unlink(missing_ok=True)
    kept = " (what has been fetched is kept)" if part.exists() else ""
    raise UserError(
        f"{card.key}: {card.name} could not be fetched; no mirror delivered it.\n" + "\n".join(reasons) + "\n"
        f"Try again later{kept}, or put the file at {target}, or name your own: "
        f"{card.key}.path=FILE"
    )


def _try(use: Callable[[], None], card: Card) -> None:
    try:
        return use()
    except UserError as error:
        if card.sha256 or isinstance(error, NoRoom):
            raise
        reason = str(error)
    # Outside the except clause, whose error may hold the file open: Windows cannot delete open files.
    card.source.unlink()
    raise _MirrorFailed(reason)


def _check_room(card: Card, part: Path) -> None:
    missing = (card.bytes or 0) - _length(part)
    free = shutil.disk_usage(part.parent).free
    if missing > free:
        raise NoRoom(
            f"{card.name} needs {missing / 1e6:,.0f} MB in {part.parent}, where {free / 1e6:,.0f} MB are free. "
            "Make room, or put the cache elsewhere: VQCLIP_HOME=FOLDER"
        )


def _from_mirror(url: str, part: Path, card: Card) -> None:
    """Complete ``part`` from one mirror and verify it."""
    inherited = part.exists()  # from an earlier mirror or run, possibly of another file
    version = None
    for _ in range(_RESUMES):
        have = _length(part)
        if card.bytes is None or have != card.bytes:
            version, cause = _stream(url, part, card, version)
            if cause and _length(part) <= have:
                raise _MirrorFailed(cause)
            if cause:
                time.sleep(0.5)
                continue
        if card.sha256 in (None, sha256_of(part)):
            return
        part.unlink()
        if not inherited:
            raise _MirrorFailed("what it sent has another sha256 than the card's: another file, or damaged on its way")
        inherited = False
    raise _MirrorFailed(f"it cut the transfer {_RESUMES} times")


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _stream(url: str, part: Path, card: Card, version: str | None) -> tuple[str | None, str | None]:
    """Make one request that continues where ``part`` ends.

    Args:
        version: the mirror's ETag when ``part`` was begun.

    Returns:
        The ETag, and why the transfer is not complete (None if it is).
    """
    import requests  # imported here, since most runs need no HTTP client

    have = _length(part)
    headers = _headers(have, card, version)
    try:
        response = requests.get(url, headers=headers, stream=True, timeout=TIMEOUT)
    except (requests.RequestException, ValueError) as error:  # ValueError: a redirect to an invalid URL
        return version, _reason(error)
    with response:
        if response.status_code == 416 and "Range" in headers:
            return version, None  # nothing left to send; the hash decides
        start = _check(response, have)
        total = _total(response) or card.bytes
        if card.bytes and total != card.bytes:
            raise _MirrorFailed(f"its file has {total:,} bytes, the card's has {card.bytes:,}")
        version = _version(response)
        again = have - start if card.sha256 and (total is None or have <= total) else 0  # bytes sent again
        # The bar shows rate and time left; `disable=None` keeps it out of logs.
        name = f"{card.name} from {urlsplit(url).netloc}"
        bar = tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=name, disable=None)
        with bar, disk_full(part, bool(card.sha256)), open(part, "ab" if start or again else "wb") as file:
            try:
                while block := response.raw.read1(_BLOCK):  # read1 does not lose what came before an interruption
                    file.write(block[again:])
                    again = max(0, again - len(block))
                    bar.update(len(block))
            except urllib3.exceptions.HTTPError as error:
                return version, _reason(error)
            file.flush()
            os.fsync(file.fileno())
    return version, None if total in (None, _length(part)) else "it closes the connection before the end"


def _headers(have: int, card: Card, version: str | None) -> dict[str, str]:
    """Request headers for the bytes after the first ``have``, of the same version of the file."""
    headers = {"Accept-Encoding": "identity"}  # else ranges would count compressed bytes
    if have and card.sha256:
        headers["Range"] = f"bytes={have}-"
    elif have and version:
        headers |= {"Range": f"bytes={have}-", "If-Range": version}
    return headers


def _version(response: requests.Response) -> str | None:
    """The response's ETag, unless it is weak, which does not identify bytes."""
    etag = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else None


def _check(response: requests.Response, have: int) -> int:
    """The offset in the file of the response's bytes."""
    if not response.ok:
        raise _MirrorFailed(f"HTTP {response.status_code} {response.reason}")
    if "text/html" in response.headers.get("Content-Type", ""):
        raise _MirrorFailed("it answers with a web page, not with a file")
    if response.status_code != 206:
        return 0
    if not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        raise _MirrorFailed("it answers with another part of the file than was asked for")
    return have


def _total(response: requests.Response) -> int | None:
    """The size of the whole file according to the mirror, also for a partial response (``bytes 40-49/100``)."""
    part_of = response.headers.get("Content-Range", "").rpartition("/")[2]
    said = part_of if response.status_code == 206 else response.headers.get("Content-Length", "")
    return int(said) if said.isdecimal() else None


def _reason(error: Exception) -> str:
    import requests

    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {TIMEOUT[0]:g} s"
    if isinstance(error, requests.ReadTimeout) or "Read timed out" in str(error):
        return f"it hangs: nothing came for {TIMEOUT[1]:g} s"
    if isinstance(error, requests.exceptions.SSLError):
        return f"its certificate is not trusted ({error})"
    if isinstance(error, requests.exceptions.ProxyError):
        return f"the proxy does not answer ({error})"
    text = str(error)
    if "NameResolutionError" in text or "Name or service not known" in text:
        return "its name is not known here: no network, or the site is gone"
    if "Connection refused" in text:
        return "it refuses the connection"
    return f"{type(error).__name__}: {text[:200]}"
