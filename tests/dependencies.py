"""Holds the dependency tree against `[licenses]` and `[bans]` of deny.toml, without a network.

cargo-deny does this better, and for every platform; this is for machines that do not have it. It reads what
`cargo tree` says about this platform.
"""

import re
import subprocess
import sys
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10 and older
    import tomli as tomllib


def main() -> int:
    rules = tomllib.loads(Path("deny.toml").read_text(encoding="utf-8"))
    banned = {entry["crate"] for entry in rules["bans"]["deny"]}
    allowed = set(rules["licenses"]["allow"])
    crates = tree()
    problems = [f"{name} {version} is banned" for name, version, _ in crates if name in banned]
    for name, version, expression in crates:
        if not permitted(expression, allowed):
            problems.append(f"{name} {version} has the licence {expression or '(none stated)'}, which is not allowed")
    for problem in problems:
        print(f"error: {problem} (deny.toml)", file=sys.stderr)
    print(f"{len(crates)} crates: {len(problems)} problems with bans and licences")
    return 1 if problems or not crates else 0


def tree() -> list[tuple[str, str, str]]:
    """Name, version and licence of every crate that this platform builds, tests and build scripts included."""
    command = ["cargo", "tree", "--locked", "--edges", "normal,build,dev", "--prefix", "none", "--format", "{p}|{l}"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    crates = set()
    for line in listed.splitlines():
        package, _, expression = line.removesuffix(" (*)").partition("|")
        if package:
            name, version = package.split()[:2]
            crates.add((name, version, expression.strip()))
    return sorted(crates)


def permitted(expression: str, allowed: set[str]) -> bool:
    """Can an SPDX expression be met by allowed licences alone? Crates of old write `/` for OR; AND binds tighter."""
    tokens = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))
    position = 0

    def peek() -> str | None:
        return tokens[position] if position < len(tokens) else None

    def take() -> str:
        nonlocal position
        position += 1
        return tokens[position - 1]

    def any_of() -> bool:
        met = all_of()
        while peek() == "OR":
            take()
            met = all_of() or met
        return met

    def all_of() -> bool:
        met = licence()
        while peek() == "AND":
            take()
            met = licence() and met
        return met

    def licence() -> bool:
        if peek() is None:
            return False
        if peek() == "(":
            take()
            met = any_of()
            return peek() == ")" and take() == ")" and met
        name = take()
        if peek() == "WITH":
            take()
            name = f"{name} WITH {take()}" if peek() else name
        return name in allowed

    return any_of() and position == len(tokens)


if __name__ == "__main__":
    sys.exit(main())
