#!/usr/bin/env python3
"""Times the review of a small change in a large repository, and what one would do without it beside it.

    cargo build --release && benches/review.py                   # 100,000 documents, 10 of them changed, 5 runs each
    benches/review.py --documents 10000 --runs 11

Without reviews one would run `git diff` for what changed and `keywheel validate` at both refs for what is wrong: that tells
neither what follows from the change nor what is new of what is wrong. Both run in turn; a row is the median of whole-process
wall seconds, and the ratio is the median of the pairs'. The fleet is that of `fleet.py`: a policy for every nine keys and a
file for each, in 100 tenants or in one. The change is made to ten documents of ten files: to policies' intervals, to keys'
descriptions, or by adding keys with an alias, which no other tenant may have.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import fleet

CHANGED = 10


def edited(text, kind, tenant, number):
    if kind == "intervals":
        return text.replace("rotation_interval_days: 90", "rotation_interval_days: 30", 1)
    if kind == "descriptions":
        return text.replace("key_name:", "description: for the payroll\nkey_name:", 1)
    number = int(number.removeprefix("policy-"))
    new = fleet.key(tenant, number, "new").replace(f"rotation_policy: policy-{number:05}\n", "")
    return text + new.replace("kms_provider: local", f"kms_provider: aws_kms\nkms_region: eu-west-1\nkms_alias: alias/new-{number}")


def branch(root, kind):
    """A branch on which ten documents of ten files, spread over the fleet, are changed."""
    fleet.git(root, "checkout", "-q", "-B", kind, "main")
    files = sorted((root / "policies").rglob("*.yaml"))
    for path in files[:: len(files) // CHANGED][:CHANGED]:
        text = path.read_text()
        path.write_text(edited(text, kind, path.parent.name, path.stem))
    fleet.git(root, "commit", "-qam", kind)
    fleet.git(root, "checkout", "-q", "main")


def timed(root, *commands):
    started = time.perf_counter()
    for command in commands:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return time.perf_counter() - started


def compare(root, binary, kind, runs):
    review = [binary, "plan", "--base", "main", "--ref", kind]
    by_hand = [
        ["git", "diff", "main", kind],
        [binary, "validate", "--ref", "main"],
        [binary, "validate", "--ref", kind],
    ]
    # Whatever a run finds in the cache, the other finds there too.
    timed(root, review), timed(root, *by_hand)
    pairs = [(timed(root, review), timed(root, *by_hand)) for _ in range(runs)]
    ours, theirs = (statistics.median(times) for times in zip(*pairs))
    ratio = statistics.median(theirs / ours for ours, theirs in pairs)
    print(f"  {kind:<14} {ours * 1000:9.0f} ms {theirs * 1000:12.0f} ms {ratio:9.1f}", flush=True)


def main(options):
    if not os.access(options.binary, os.X_OK):
        sys.exit(f"{options.binary} is missing: cargo build --release")
    for tenants in ("100 tenants", "one tenant"):
        with tempfile.TemporaryDirectory() as scratch:
            root = pathlib.Path(scratch)
            fleet.git(root, "init", "-q", "-b", "main")
            fleet.git(root, "config", "gc.auto", "0")
            fleet.generate(root, options.documents)
            if tenants == "one tenant":
                gather(root)
            fleet.commit(root)
            for kind in ("intervals", "descriptions", "keys"):
                branch(root, kind)
            fleet.git(root, "gc", "-q")
            print(f"{options.documents:,} documents, {CHANGED} changed, {tenants}")
            print(f"  {'change':<14} {'plan --base':>12} {'by hand':>15} {'ratio':>9}")
            for kind in ("intervals", "descriptions", "keys"):
                compare(root, options.binary, kind, options.runs)


def gather(root):
    """Moves every file into the first tenant's folder."""
    policies = root / "policies"
    target = policies / "tenant-000"
    for path in sorted(policies.rglob("*.yaml")):
        tenant = path.parent.name
        text = path.read_text().replace(f"tenant_id: {tenant}", "tenant_id: tenant-000")
        path.unlink()
        (target / path.name).write_text(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--binary", default=str(pathlib.Path(__file__).resolve().parent.parent / "target/release/keywheel"))
    main(parser.parse_args())
