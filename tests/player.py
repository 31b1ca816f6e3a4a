"""A video played to its end by a headless browser, which tells what it saw."""

import json
import shutil
import subprocess
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from threading import Thread

PAGE = """<video id=v muted src=video.mp4></video><script>
const v = document.getElementById('v'), tell = what => fetch('told', {method: 'POST', body: JSON.stringify(what)});
v.onerror = () => tell({error: v.error.message});
v.onended = () => {
  const c = document.createElement('canvas'), x = c.getContext('2d');
  [c.width, c.height] = [v.videoWidth, v.videoHeight];
  x.drawImage(v, 0, 0);
  tell({size: [c.width, c.height], seconds: v.duration, frames: v.getVideoPlaybackQuality().totalVideoFrames,
        last: Array.from(x.getImageData(0, 0, c.width, c.height).data)});
};
v.play();
</script>"""


def played(video, tmp_path):
    """``size``, ``seconds``, ``frames`` and the pixels of the ``last`` frame, or an ``error``."""
    shutil.copy(video, tmp_path / "video.mp4")
    (tmp_path / "index.html").write_text(PAGE)
    told = Queue()

    class Server(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path))

        def do_POST(self):
            told.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        flags = ["--headless", "--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        flags += [f"--user-data-dir={tmp_path}/profile", f"http://127.0.0.1:{server.server_port}/index.html"]
        browser = subprocess.Popen(["chromium", *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return told.get(timeout=90)
        finally:
            browser.terminate()
            browser.wait()
            server.shutdown()
