"""The built docs, opened in a browser: nothing is broken, the search finds, a phone can read it."""

import functools
import http.server
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

REPO = Path(__file__).parent.parent
WIDTHS = {"phone": 390, "desktop": 1280}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "-f",
        ".mkdocs.yml",
        "--strict",
        "--quiet",
        "--site-dir",
        folder,
    ]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def address(site):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_no_link_or_picture_is_broken_at_any_width(site, address, browser):
    pages = [path.relative_to(site) for path in sorted(site.rglob("*.html")) if path.name != "404.html"]
    assert len(pages) > 40
    asked_elsewhere, wrong, errors = [], [], []
    for width in WIDTHS.values():
        tab = browser.new_page(viewport={"width": width, "height": 800})
        tab.on("request", lambda r: None if r.url.startswith((address, "data:")) else asked_elsewhere.append(r.url))
        tab.on("pageerror", lambda error: errors.append(str(error)))
        for page in pages:
            tab.goto(f"{address}/{page}", wait_until="load")
            facts = tab.evaluate(
                """() => ({
                    links: [...document.querySelectorAll('a[href]')].map(a => a.href),
                    pictures: [...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src),
                    over: document.documentElement.scrollWidth - document.documentElement.clientWidth,
                })"""
            )
            wrong += [f"{page}: picture {source}" for source in facts["pictures"]]
            wrong += [f"{page}: link {link}" for link in facts["links"] if leads_nowhere(link, address, site)]
            wrong += [f"{page}: wider than {width} pixels by {facts['over']}"] * (facts["over"] > 0)
        tab.close()
    assert not wrong
    assert not errors
    assert not asked_elsewhere  # no fonts, scripts or counters of others


def leads_nowhere(link: str, address: str, site: Path) -> bool:
    if not link.startswith(address):
        return False
    path = site / unquote(urlsplit(link).path).lstrip("/")
    return not (path.is_file() or (path / "index.html").is_file())


@pytest.mark.parametrize("words,page", [("sfumato", "algorithm"), ("out of memory", "troubleshooting")])
def test_the_search_finds(address, browser, words, page):
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.goto(f"{address}/index.html")
    tab.locator("input.md-search__input").click()
    tab.locator("input.md-search__input").press_sequentially(words)
    result = tab.locator(f".md-search-result__link[href*='{page}']").first
    result.wait_for(timeout=20_000)
    tab.close()


def test_a_table_keeps_what_a_schedule_is_written_like(site):
    for page in ("loss", "noise", "optimizer"):
        assert "a schedule {start: NUMBER" in (site / f"reference/{page}.html").read_text()
