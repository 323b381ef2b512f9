"""A comment on a pull request as its readers see it: Markdown on standard input, a page on standard output.

The style is written after what GitHub's comments look like; `python tests/oracle/comment.py --picture PNG <COMMENT` makes
the picture of it.
"""

import collections
import html
import itertools
import json
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import zlib

from markdown_it import MarkdownIt

STYLE = """
:root { --back: #fff; --text: #1f2328; --dim: #59636e; --line: #d1d9e0; --soft: #f6f8fa; --code: #818b981f;
  --caution: #cf222e; --caution-text: #d1242f; --warning: #9a6700; --note: #0969da;
  --add: #dafbe1; --add-text: #116329; --remove: #ffebe9; --remove-text: #82071e; }
@media (prefers-color-scheme: dark) { :root { --back: #0d1117; --text: #f0f6fc; --dim: #9198a1; --line: #3d444d;
  --soft: #151b23; --code: #656c7633; --caution: #da3633; --caution-text: #f85149; --warning: #d29922; --note: #4493f8;
  --add: #033a16; --add-text: #aff5b4; --remove: #67060c; --remove-text: #ffdcd7; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 16px; background: var(--back); color: var(--text);
  font: 14px/1.5 "Noto Sans", "DejaVu Sans", Helvetica, Arial, sans-serif; }
.comment { border: 1px solid var(--line); border-radius: 6px; max-width: 860px; margin: 0 auto; }
.by { padding: 8px 16px; border-bottom: 1px solid var(--line); border-radius: 6px 6px 0 0; background: var(--soft); color: var(--dim); }
.by b { color: var(--text); }
.body { padding: 16px; overflow-wrap: break-word; }
.body > :first-child { margin-top: 0; }
h2 { margin: 24px 0 16px; padding-bottom: .3em; border-bottom: 1px solid var(--line); font-size: 1.5em; line-height: 1.25; }
h3 { margin: 24px 0 16px; font-size: 1.25em; line-height: 1.25; }
p, ul, table, pre, blockquote, details { margin: 0 0 16px; }
code { padding: .2em .4em; border-radius: 6px; background: var(--code); font: 85%/1.45 "DejaVu Sans Mono", monospace; }
pre { padding: 12px 0; overflow: auto; border-radius: 6px; background: var(--soft); }
pre code { display: block; width: max-content; min-width: 100%; padding: 0; background: none; }
pre div { padding: 0 16px; min-height: 1.45em; white-space: pre; }
pre .add { background: var(--add); color: var(--add-text); }
pre .remove { background: var(--remove); color: var(--remove-text); }
table { display: block; width: max-content; max-width: 100%; overflow: auto; border-collapse: collapse; }
th, td { padding: 6px 13px; border: 1px solid var(--line); }
tr:nth-child(2n) td { background: var(--soft); }
ul { padding-left: 2em; }
summary { cursor: pointer; }
blockquote { padding: 8px 16px; border-left: .25em solid var(--line); color: var(--dim); }
blockquote > :last-child { margin-bottom: 0; }
.alert { color: var(--text); }
.alert .kind { margin: 0 0 8px; font-weight: 500; }
.caution { border-color: var(--caution); } .caution .kind { color: var(--caution-text); }
.warning { border-color: var(--warning); } .warning .kind { color: var(--warning); }
.note { border-color: var(--note); } .note .kind { color: var(--note); }
hr { height: 1px; margin: 24px 0; border: 0; background: var(--line); }
sub { color: var(--dim); font-size: 12px; vertical-align: baseline; }
"""

MARKDOWN = MarkdownIt("gfm-like")


def fence(_self, tokens, index, _options, _env):
    kinds = {"+": "add", "-": "remove"}
    lines = tokens[index].content.rstrip("\n").split("\n")
    drawn = "".join(f'<div class="{kinds.get(line[:1], "")}">{html.escape(line)}</div>' for line in lines)
    return f"<pre><code>{drawn}</code></pre>\n"


MARKDOWN.add_render_rule("fence", fence)


def page(markdown):
    body = MARKDOWN.render(markdown)
    for kind in ("caution", "warning", "note"):
        title = f'<blockquote class="alert {kind}"><p class="kind">{kind.capitalize()}</p>\n<p>'
        body = re.sub(rf"<blockquote>\s*<p>\[!{kind.upper()}\]\s*", lambda _: title, body)
    return (
        f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><link rel="icon" href="data:,"><title>A comment</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style><div class="comment"><div class="by">'
        f'<b>keywheel</b> commented</div><div class="body">{body}</div></div></html>'
    )


def small(png):
    """The picture with a palette of 256 colours, in a third of the bytes. Chromium writes 8 bits each of R, G, B (and A)."""
    width, height, _, kind = struct.unpack(">IIBB", png[16:26])
    size = {2: 3, 6: 4}[kind]
    data, at = b"", 8
    while at < len(png):
        length, name = struct.unpack(">I4s", png[at : at + 8])
        data += png[at + 8 : at + 8 + length] if name == b"IDAT" else b""
        at += length + 12
    raw, stride = zlib.decompress(data), width * size
    before, rows = bytearray(stride), []
    for y in range(height):
        way, line = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1 : (y + 1) * (stride + 1)])
        for x in range(stride):
            a = line[x - size] if x >= size else 0
            b, c = before[x], before[x - size] if x >= size else 0
            if way == 4:
                guess = min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2]
            else:
                guess = (0, a, b, (a + b) // 2)[way]
            line[x] = (line[x] + guess) & 255
        rows.append([tuple(line[x : x + 3]) for x in range(0, stride, size)])
        before = line
    colours = [colour for colour, _ in collections.Counter(itertools.chain(*rows)).most_common()]
    palette = colours[:256]
    near = lambda colour: min(palette, key=lambda of: sum((p - q) ** 2 for p, q in zip(of, colour)))
    index = {colour: palette.index(near(colour)) for colour in colours}
    pixels = b"".join(b"\0" + bytes(index[colour] for colour in row) for row in rows)
    chunk = lambda name, body: struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = [(b"IHDR", head), (b"PLTE", bytes(itertools.chain(*palette))), (b"IDAT", zlib.compress(pixels, 9)), (b"IEND", b"")]
    return png[:8] + b"".join(chunk(*part) for part in parts)


if __name__ == "__main__":
    drawn = page(sys.stdin.read())
    if sys.argv[1:2] != ["--picture"]:
        print(drawn)
        sys.exit()
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "comment.html")
        file.write_text(drawn, encoding="utf-8")
        question = {"page": str(file), "width": 892, "picture": sys.argv[2], "scale": 1.5}
        script = pathlib.Path(__file__).with_name("browser.py")
        subprocess.run([sys.executable, script], input=json.dumps(question) + "\n", text=True, check=True, stdout=subprocess.DEVNULL)
        picture = pathlib.Path(sys.argv[2])
        picture.write_bytes(small(picture.read_bytes()))
