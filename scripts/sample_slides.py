"""The pictures of the sample talk: one scene a topic, drawn as SVG for a moment in time.

A scene takes the part of its topic that has passed (0..1) and the seconds since its start, and returns the SVG of its
illustration. Nothing here knows about files, sound or encoding.
"""

import math
from collections.abc import Callable

import numpy as np

WIDTH, HEIGHT = 1280, 720
FONT = "DejaVu Sans"

Scene = Callable[[float, float], str]


def slide(number: int, title: str, caption: str, scene: Scene, part: float, seconds: float, talk_part: float) -> str:
    """The whole frame: scene, title plate and the bar that shows `talk_part` (0..1) of the talk."""
    slide_in = 1 - math.exp(-4 * seconds)
    x = 64 - 40 * (1 - slide_in)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="{FONT}">
{scene(part, seconds)}
<g opacity="{slide_in:.3f}">
<rect x="{x:.1f}" y="56" width="{160 + 29 * max(len(title), 0.56 * len(caption)):.0f}" height="128" rx="22"
 fill="#101418" fill-opacity="0.78"/>
<circle cx="{x + 64:.1f}" cy="120" r="38" fill="#ffd166"/>
<text x="{x + 64:.1f}" y="138" font-size="48" font-weight="bold" text-anchor="middle" fill="#101418">{number}</text>
<text x="{x + 124:.1f}" y="116" font-size="44" font-weight="bold" fill="#ffffff">{title}</text>
<text x="{x + 124:.1f}" y="158" font-size="26" fill="#d7dee6">{caption}</text>
</g>
<rect x="0" y="704" width="{WIDTH}" height="16" fill="#101418" fill-opacity="0.7"/>
<rect x="0" y="704" width="{WIDTH * talk_part:.1f}" height="16" fill="#ffd166"/>
</svg>"""


def bread(part: float, seconds: float) -> str:
    """A loaf that rises and browns, with steam above it."""
    rise = min(1.0, part * 1.6)
    height = 110 + 110 * rise
    crust = _blend((240, 214, 160), (164, 92, 36), part)
    steam = []
    for lane in range(5):
        x = 500 + 70 * lane
        for puff in range(3):
            age = (seconds * 0.22 + puff / 3 + lane * 0.17) % 1
            steam.append(
                f'<circle cx="{x + 16 * math.sin(6 * age + lane):.1f}" cy="{540 - height - 20 - 150 * age:.1f}" '
                f'r="{10 + 22 * age:.1f}" fill="#fff" opacity="{0.34 * (1 - age) * rise:.3f}"/>'
            )
    cuts = "".join(
        f'<path d="M{x} {560 - height * 0.92:.1f} q 34 {height * 0.12:.1f} 46 {height * 0.34:.1f}" '
        f'stroke="#f6dfb2" stroke-width="12" fill="none" stroke-linecap="round"/>'
        for x in (520, 612, 704)
    )
    tiles = "".join(
        f'<rect x="{160 * column}" y="{120 * row}" width="156" height="116" fill="#f7d7a6"/>'
        for column in range(8)
        for row in range(5)
    )
    return f"""<rect width="{WIDTH}" height="{HEIGHT}" fill="#f3c98b"/>
{tiles}
<rect y="560" width="{WIDTH}" height="160" fill="#8a5a33"/><rect y="560" width="{WIDTH}" height="14" fill="#a87142"/>
<rect x="330" y="556" width="620" height="30" rx="14" fill="#c98f56"/>
{"".join(steam)}
<path d="M400 556 C 390 {556 - height * 1.25:.1f}, 890 {556 - height * 1.25:.1f}, 880 556 Z" fill="{crust}"
 stroke="#7a431a" stroke-width="5"/>{cuts}
<g fill="#fdf6e8" stroke="#c9b79a" stroke-width="4"><path d="M1010 556 l-30 -120 h150 l-30 120 z"/>
<ellipse cx="1055" cy="436" rx="75" ry="20"/></g>
<path d="M170 556 v-150 q0 -40 40 -40 q40 0 40 40 v150 z" fill="#5b8c85" stroke="#3d635e" stroke-width="4"/>"""


def sky(part: float, seconds: float) -> str:
    """Stars that twinkle, a moon on its way, now and then a falling star, a telescope on a hill."""
    places = np.random.default_rng(7)
    stars = []
    for star in range(130):
        x, y, size, phase = places.random() * WIDTH, places.random() * 540, places.random(), places.random() * 6.3
        light = 0.6 + 0.4 * math.sin(1.3 * seconds + phase) if star < 40 else 0.7
        stars.append(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{1 + 2.2 * size:.1f}" fill="#fff" opacity="{light:.2f}"/>')
    moon_x, moon_y = 760 + 400 * part, 420 - 170 * math.sin(math.pi * (0.2 + 0.6 * part))
    fall = (seconds % 7) / 0.8
    trail = ""
    if 0 < fall < 1:
        x, y = 980 - 330 * fall, 210 + 150 * fall
        trail = (
            f'<path d="M{x:.0f} {y:.0f} l120 -54" stroke="#fff" stroke-width="4" stroke-linecap="round" '
            f'opacity="{1 - fall:.2f}"/>'
        )
    return f"""<defs><linearGradient id="night" x2="0" y2="1"><stop offset="0" stop-color="#070b24"/>
<stop offset="0.7" stop-color="#1b2a5c"/><stop offset="1" stop-color="#40508c"/></linearGradient></defs>
<rect width="{WIDTH}" height="{HEIGHT}" fill="url(#night)"/>{"".join(stars)}{trail}
<circle cx="{moon_x:.1f}" cy="{moon_y:.1f}" r="110" fill="#f4efd8" opacity="0.10"/>
<circle cx="{moon_x:.1f}" cy="{moon_y:.1f}" r="72" fill="#f4efd8"/>
<g fill="#d9d2b4"><circle cx="{moon_x - 24:.1f}" cy="{moon_y - 18:.1f}" r="15"/>
<circle cx="{moon_x + 26:.1f}" cy="{moon_y + 8:.1f}" r="20"/>
<circle cx="{moon_x - 10:.1f}" cy="{moon_y + 36:.1f}" r="10"/></g>
<path d="M0 640 Q 320 500 640 620 T 1280 590 V720 H0 Z" fill="#0c1533"/>
<g stroke="#020617" stroke-width="9" stroke-linecap="round">
<path d="M300 560 l-34 90 M300 560 l34 90 M300 560 v96"/></g>
<g transform="rotate({-34 + 10 * part:.1f} 300 556)">
<rect x="216" y="538" width="176" height="36" rx="8" fill="#020617"/>
<rect x="380" y="530" width="34" height="52" rx="6" fill="#c8963e"/></g>"""


def garden(part: float, seconds: float) -> str:
    """Three plants that grow on their sticks; their tomatoes turn from green to red under a crossing sun."""
    sun_x, sun_y = 930 + 240 * part, 360 - 120 * math.sin(math.pi * (0.25 + 0.5 * part))
    rays = "".join(
        f'<path d="M0 -84 v-30" transform="translate({sun_x:.1f} {sun_y:.1f}) rotate({30 * i + 9 * seconds:.1f})" '
        f'stroke="#ffcb47" stroke-width="9" stroke-linecap="round"/>'
        for i in range(12)
    )
    plants = []
    for index, x in enumerate((300, 560, 820)):
        height = 90 + 230 * min(1.0, 0.15 + part * 1.3)
        sway = 5 * math.sin(1.1 * seconds + index)
        plants.append(f'<rect x="{x - 5}" y="270" width="10" height="330" fill="#8d6e4b"/>')
        plants.append(
            f'<path d="M{x} 600 Q {x - 14 + sway:.1f} {600 - height / 2:.1f} {x + sway:.1f} {600 - height:.1f}" '
            f'stroke="#2f7d32" stroke-width="13" fill="none" stroke-linecap="round"/>'
        )
        for level in range(6):
            y = 560 - level * 52
            if y < 600 - height:
                break
            side = 1 if level % 2 else -1
            plants.append(
                f'<ellipse cx="{x + side * 46 + sway:.1f}" cy="{y}" rx="46" ry="19" fill="#3f9b43" '
                f'transform="rotate({-22 * side} {x + side * 46} {y})"/>'
            )
            ripe = min(1.0, max(0.0, part * 1.9 - 0.55 - 0.06 * level))
            size = 25 * min(1.0, max(0.0, part * 2.2 - 0.2 - 0.07 * level))
            plants.append(
                f'<circle cx="{x - side * 36 + sway:.1f}" cy="{y + 8}" r="{size:.1f}" '
                f'fill="{_blend((150, 190, 70), (214, 48, 38), ripe)}"/>'
            )
    return f"""<rect width="{WIDTH}" height="{HEIGHT}" fill="#aee0f5"/>
{rays}<circle cx="{sun_x:.1f}" cy="{sun_y:.1f}" r="66" fill="#ffd84d"/>
<path d="M0 560 Q 300 440 640 540 T 1280 500 V720 H0 Z" fill="#8ccf7e"/>
<rect y="596" width="{WIDTH}" height="124" fill="#6b4a2f"/>
{"".join(f'<ellipse cx="{60 + 118 * i}" cy="{640 + 26 * (i % 3)}" rx="30" ry="8" fill="#5a3d26"/>' for i in range(11))}
{"".join(plants)}"""


def money(part: float, seconds: float) -> str:
    """Coins that drop into a glass jar, month after month."""
    total = 40
    saved = part * total
    coins = []
    for index in range(min(total, int(saved) + 1)):
        x = 500 + 70 * (index % 5) + (14 if index // 5 % 2 else 0)
        y = 590 - 38 * (index // 5)
        if index == int(saved):  # the one on its way
            drop = saved - index
            y = y - (1 - drop) * (y - 212) if drop < 1 else y
        coins.append(
            f'<ellipse cx="{x}" cy="{y:.1f}" rx="40" ry="17" fill="#b8860b"/>'
            f'<ellipse cx="{x}" cy="{y - 9:.1f}" rx="40" ry="17" fill="#f2c14e" stroke="#c8931d" stroke-width="3"/>'
        )
    bars = "".join(
        f'<rect x="{960 + 46 * i}" y="{620 - h:.1f}" width="34" height="{h:.1f}" rx="5" fill="#2a9d8f"/>'
        for i in range(5)
        if (h := max(6.0, min(1.0, part * 5 - i * 0.8) * (60 + 62 * i)))
    )
    shine = 0.25 + 0.1 * math.sin(0.9 * seconds)
    return f"""<rect width="{WIDTH}" height="{HEIGHT}" fill="#d8ecdf"/>
<rect y="620" width="{WIDTH}" height="100" fill="#4a6b5d"/>{bars}
<path d="M150 620 v-170 h200 v170 z" fill="#efe6d2" stroke="#b9a988" stroke-width="5"/>
<path d="M130 450 L250 370 L370 450 Z" fill="#c9b88f" stroke="#b9a988" stroke-width="5"/>
<g fill="#b9a988"><rect x="176" y="470" width="22" height="150"/><rect x="239" y="470" width="22" height="150"/>
<rect x="302" y="470" width="22" height="150"/></g>
{"".join(coins)}
<path d="M470 236 q-52 30 -52 88 v258 q0 38 38 38 h372 q38 0 38 -38 v-258 q0 -58 -52 -88 z" fill="#e8f6ff"
 fill-opacity="{shine:.2f}" stroke="#7fa8b8" stroke-width="7"/>
<rect x="452" y="214" width="380" height="26" rx="12" fill="none" stroke="#7fa8b8" stroke-width="7"/>"""


def _blend(first: tuple[int, int, int], second: tuple[int, int, int], part: float) -> str:
    part = min(1.0, max(0.0, part))
    return "#" + "".join(f"{round(a + (b - a) * part):02x}" for a, b in zip(first, second, strict=True))
