"""The wheel, installed outside the repo, runs from an empty folder with its own config and weights."""

import os
import subprocess
import sys
import venv
from pathlib import Path

REPO = Path(__file__).parent.parent


def test_the_wheel_runs_from_an_empty_folder(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", REPO]
    subprocess.run(build, check=True, capture_output=True, timeout=600)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    # The dependencies are those of this environment; vqclip itself comes from the wheel alone.
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "--no-deps", wheel], check=True, capture_output=True, timeout=600
    )
    site = next(Path(p) for p in sys.path if p.endswith("site-packages"))
    own = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    (own / "dependencies.pth").write_text(f"{site}\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    command = [tmp_path / "venv" / "bin" / "vqclip", "a fox", "debug=fast"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(command, cwd=empty, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    picture = empty / done.stdout.strip().splitlines()[-1]
    assert picture.read_bytes()[:4] == b"\x89PNG"
    where = subprocess.run(
        [python, "-c", "import vqclip; print(vqclip.__file__)"],
        cwd=empty,
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
    )
    assert str(own) in where.stdout
