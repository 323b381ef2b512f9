"""Pages as Chromium shows them.

One JSON document a line comes in; one goes out.

{"page": FILE, "width": 400, "height": 800, "scheme": "dark", "media": "print"} opens a file, and says what a reader would meet: messages on
the console, addresses that were asked for, widths, where the elements of `look_at` are, the lowest contrast of any text.
With "picture": FILE it is also photographed in full, and with "print": FILE printed. The element `only` (a CSS selector)
is all that the picture shows, if it is given.
"""

import base64
import http.client
import json
import pathlib
import subprocess
import sys
import tempfile
import time

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
]

LOOK = """
const [selectors] = arguments;
const rgb = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
const over = ([r, g, b, a = 1], [x, y, z]) => [r * a + x * (1 - a), g * a + y * (1 - a), b * a + z * (1 - a)];
const back = (element) => {
  const chain = [];
  for (let at = element; at; at = at.parentElement) chain.unshift(rgb(getComputedStyle(at).backgroundColor));
  return chain.reduce((below, color) => over(color, below), [255, 255, 255]);
};
const light = (color) => {
  const [r, g, b] = color.map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
let contrast = 21, palest = "";
for (const element of document.querySelectorAll("body *")) {
  if (![...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())) continue;
  const behind = back(element), front = over(rgb(getComputedStyle(element).color), behind);
  const [low, high] = [light(front), light(behind)].sort((a, b) => a - b);
  const ratio = (high + 0.05) / (low + 0.05);
  if (ratio < contrast) [contrast, palest] = [ratio, element.outerHTML.slice(0, 200)];
}
const root = document.documentElement;
const wide = [...document.querySelectorAll("body *")].filter((element) =>
  !element.closest(".wide") && element.getBoundingClientRect().right > root.clientWidth + 1);
return {
  contrast, palest,
  width: root.scrollWidth, seen_width: root.clientWidth, height: root.scrollHeight,
  sticks_out: wide.slice(0, 3).map((element) => element.outerHTML.slice(0, 200)),
  text: document.body.innerText,
  title: document.title,
  back: getComputedStyle(document.body).backgroundColor,
  places: Object.fromEntries(selectors.map((selector) => {
    const element = document.querySelector(selector);
    if (!element) return [selector, null];
    const { top, bottom } = element.getBoundingClientRect();
    return [selector, { top, bottom }];
  })),
};
"""


class Browser:
    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.driver = subprocess.Popen(
            ["chromedriver", "--port=0"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for line in self.driver.stdout:
            if "started successfully on port" in line:
                self.port = int(line.rsplit(" ", 1)[1].strip().rstrip("."))
                break
        else:
            raise SystemExit("chromedriver did not start")
        options = {"args": [*FLAGS, f"--user-data-dir={self.folder.name}"]}
        capabilities = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        session = self.call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self.session = f"/session/{session['sessionId']}"

    def call(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = json.loads(connection.getresponse().read())["value"]
        connection.close()
        if isinstance(answer, dict) and "error" in answer:
            raise SystemExit(f"{method} {path}: {answer['error']}: {answer['message']}")
        return answer

    def ask(self, command, body):
        return self.call("POST", self.session + command, body)

    def devtools(self, command, **parameters):
        return self.ask("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def log(self, kind):
        return self.ask("/se/log", {"type": kind})

    def look(self, question):
        width, height = question.get("width", 1280), question.get("height", 800)
        scale = question.get("scale", 1)
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": question.get("scheme", "light")}
        self.devtools("Emulation.setEmulatedMedia", media=question.get("media", ""), features=[scheme])
        self.log("browser"), self.log("performance")
        self.ask("/url", {"url": pathlib.Path(question["page"]).absolute().as_uri()})
        seen = self.ask("/execute/sync", {"script": LOOK, "args": [question.get("look_at", [])]})
        seen["console"] = [entry["message"] for entry in self.log("browser")]
        events = [json.loads(entry["message"])["message"] for entry in self.log("performance")]
        seen["asked_for"] = [
            event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"
        ]
        if "picture" in question:
            clip = self.ask(
                "/execute/sync",
                {
                    "script": "const r = document.querySelector(arguments[0]).getBoundingClientRect();"
                    "return {x: r.x + scrollX, y: r.y + scrollY, width: r.width, height: r.height, scale: 1};",
                    "args": [question.get("only", "html")],
                },
            )
            shot = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
            pathlib.Path(question["picture"]).write_bytes(base64.b64decode(shot["data"]))
        if "print" in question:
            pdf = base64.b64decode(self.ask("/print", {"background": True}))
            pathlib.Path(question["print"]).write_bytes(pdf)
        return seen

    def close(self):
        try:
            self.call("DELETE", self.session)
        finally:
            self.driver.terminate()
            self.driver.wait()
        # The last of its processes writes a moment longer.
        for _ in range(50):
            try:
                self.folder.cleanup()
                return
            except OSError:
                time.sleep(0.1)


if __name__ == "__main__":
    browser = Browser()
    try:
        for line in sys.stdin:
            print(json.dumps(browser.look(json.loads(line))), flush=True)
    finally:
        browser.close()
