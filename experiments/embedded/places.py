# ruff: noqa: E501, E731
"""The drawn backgrounds, as SVG."""

import random


def place_svg(name):
    """One drawn background."""
    rng = random.Random(name)
    sky = lambda top, bottom: (
        f'<linearGradient id="g" x2="0" y2="1"><stop stop-color="{top}"/><stop offset="1" stop-color="{bottom}"/>'
        '</linearGradient><rect width="128" height="128" fill="url(#g)"/>'
    )
    dots = lambda n, colour, y0, y1, r0, r1: "".join(
        f'<circle cx="{rng.uniform(2, 126):.1f}" cy="{rng.uniform(y0, y1):.1f}" r="{rng.uniform(r0, r1):.1f}" fill="{colour}"/>'
        for _ in range(n)
    )
    cloud = lambda x, y, s, c="#fff": "".join(
        f'<circle cx="{x + dx * s}" cy="{y + dy * s}" r="{r * s}" fill="{c}"/>'
        for dx, dy, r in ((0, 0, 9), (10, -5, 10), (21, 0, 9), (11, 4, 8))
    )
    pine = lambda x, y, s, c: (
        f'<path d="M{x} {y}l{12 * s} {30 * s}h{-24 * s}z" fill="{c}"/><path d="M{x} {y - 14 * s}l{9 * s} {22 * s}h{-18 * s}z" fill="{c}"/>'
    )
    body = {
        "snow": sky("#a9cdf0", "#dcebf9")
        + '<path d="M0 84q32-14 64-4t64-4v52H0z" fill="#fff"/>'
        + dots(45, "#fff", 2, 80, 1, 2.2),
        "night": sky("#0a1033", "#27346f")
        + dots(40, "#fff", 2, 100, 0.6, 1.6)
        + '<circle cx="108" cy="20" r="12" fill="#fdf3c0"/>'
        '<path d="M0 112q64-14 128 0v16H0z" fill="#0a0f24"/>',
        "grass": sky("#8fd0f8", "#d2eefc")
        + '<path d="M0 76q64-12 128 0v52H0z" fill="#5cb53f"/>'
        + dots(26, "#3f962b", 82, 126, 1, 2.4)
        + cloud(10, 22, 0.8),
        "beach": sky("#7cc9f5", "#c8ecfb")
        + '<rect y="52" width="128" height="30" fill="#2a8fd0"/><path d="M0 80q32-8 64 0t64 0v48H0z" fill="#f2d99a"/>'
        '<circle cx="112" cy="18" r="11" fill="#ffd940"/>' + dots(24, "#dcbf7c", 90, 126, 0.8, 1.6),
        "water": sky("#37a4e0", "#0a3f86")
        + "".join(
            f'<circle cx="{rng.uniform(4, 124):.0f}" cy="{rng.uniform(6, 110):.0f}" r="{rng.uniform(2, 5):.1f}" fill="none" stroke="#bfe6fb" stroke-width="1.5"/>'
            for _ in range(15)
        )
        + '<path d="M0 116q32-10 64-2t64-4v18H0z" fill="#d9c489"/><path d="M10 118q-6-14 2-26M16 118q6-12 0-22M114 116q-6-14 2-28" stroke="#2f9e57" stroke-width="3" fill="none"/>',
        "desert": sky("#f7b45c", "#fde3b0")
        + '<path d="M0 82q40-26 72-2t56-10v58H0z" fill="#d99a4e"/><path d="M0 102q40-16 128 2v24H0z" fill="#c48038"/>',
        "forest": sky("#bfe3c2", "#8cc795")
        + "".join(
            pine(x, y, s, c)
            for x, y, s, c in (
                (14, 44, 1.2, "#2d7a45"),
                (44, 36, 1.3, "#34894f"),
                (78, 38, 1.3, "#2d7a45"),
                (112, 42, 1.3, "#34894f"),
            )
        )
        + '<path d="M0 92q64-10 128 0v36H0z" fill="#4b7a34"/>',
        "city": sky("#9cc7ea", "#e4eef6")
        + "".join(
            f'<rect x="{x}" y="{y}" width="20" height="100" fill="{c}"/>'
            + "".join(
                f'<rect x="{x + 3 + 6 * i}" y="{y + 5 + 10 * j}" width="3" height="5" fill="#f6e7a0"/>'
                for i in range(3)
                for j in range(7)
            )
            for x, y, c in (
                (0, 44, "#6f7f95"),
                (21, 26, "#56667e"),
                (42, 52, "#7c8ca1"),
                (63, 34, "#5e6e86"),
                (84, 48, "#74849a"),
                (105, 22, "#525f76"),
            )
        )
        + '<rect y="106" width="128" height="22" fill="#7a7f86"/>',
        "space": '<rect width="128" height="128" fill="#0b0716"/><ellipse cx="40" cy="90" rx="60" ry="26" fill="#2a1350"/><ellipse cx="96" cy="30" rx="46" ry="22" fill="#14224f"/>'
        + dots(70, "#fff", 2, 126, 0.5, 1.5)
        + '<circle cx="18" cy="20" r="9" fill="#d9824b"/>',
        "sunset": sky("#6a3c8c", "#ff9b4a")
        + '<circle cx="64" cy="84" r="22" fill="#ffe07a"/><path d="M0 90h128v38H0z" fill="#7a3350"/>',
        "mountains": sky("#8cc3ee", "#e2f0fa")
        + '<path d="M-10 104L30 38l26 40 22-46 60 72z" fill="#7b8796"/><path d="M30 38l-11 18 8 4 5-4 7 5 4-4zM78 32l-10 20 8 5 6-5 8 5 5-4z" fill="#fff"/>'
        '<path d="M0 100q64-10 128 0v28H0z" fill="#6aa84f"/>',
        "sky": sky("#4da6f0", "#bfe4fb")
        + cloud(8, 28, 1.1)
        + cloud(82, 20, 1)
        + cloud(70, 108, 1.2)
        + cloud(2, 100, 0.9),
        "rain": sky("#7f8c9b", "#b4bfca")
        + cloud(6, 18, 1.1, "#66717e")
        + cloud(50, 14, 1.2, "#5c6773")
        + cloud(94, 18, 1.1, "#66717e")
        + "".join(
            f'<path d="M{rng.uniform(2, 126):.0f} {rng.uniform(28, 118):.0f}l-3 9" stroke="#3f7fd0" stroke-width="2"/>'
            for _ in range(46)
        ),
        "room": '<rect width="128" height="128" fill="#f2dcc0"/><rect y="92" width="128" height="36" fill="#b98250"/><path d="M0 104h128M0 116h128" stroke="#a06d3e" stroke-width="2"/>'
        '<rect x="84" y="10" width="34" height="34" fill="#a9daf7" stroke="#fff" stroke-width="4"/><path d="M101 10v34M84 27h34" stroke="#fff" stroke-width="3"/>',
        "road": sky("#a4d4f4", "#e0f0fa")
        + '<rect y="60" width="128" height="20" fill="#78b858"/><rect y="78" width="128" height="50" fill="#5d6167"/>'
        '<path d="M0 103h128" stroke="#fff" stroke-width="4" stroke-dasharray="18 12"/>',
    }[name]
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 128 128">{body}</svg>'
