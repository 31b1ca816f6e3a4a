"""A video played to its end by a headless browser, which tells what it saw."""

PLAY = """video => new Promise(tell => {
  const v = document.createElement('video');
  v.muted = true;
  v.onerror = () => tell({error: v.error.message});
  v.onended = () => {
    const c = document.createElement('canvas'), x = c.getContext('2d');
    [c.width, c.height] = [v.videoWidth, v.videoHeight];
    x.drawImage(v, 0, 0);
    tell({size: [c.width, c.height], seconds: v.duration, frames: v.getVideoPlaybackQuality().totalVideoFrames,
          last: Array.from(x.getImageData(0, 0, c.width, c.height).data)});
  };
  setTimeout(() => tell({error: 'not at its end after 90 s'}), 90000);
  document.body.append(v);
  v.src = video;
  v.play();
})"""


def played(video, browser):
    """``size``, ``seconds``, ``frames`` and the pixels of the ``last`` frame, or an ``error``."""
    page = browser.new_page()
    page.route("**/video.mp4", lambda route: route.fulfill(path=video, content_type="video/mp4"))
    page.route("**/", lambda route: route.fulfill(body="<body></body>", content_type="text/html"))
    page.goto("http://player.test/")
    told = page.evaluate(PLAY, "/video.mp4")
    page.close()
    return told
