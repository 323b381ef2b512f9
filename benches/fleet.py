#!/usr/bin/env python3
"""Times keywheel on fleets of generated documents, and Terraform beside it where it is installed.

    cargo build --release && benches/fleet.py                    # 1,000 and 10,000 documents, 5 runs each
    benches/fleet.py --documents 1000 10000 100000 --runs 3

Each row is the median of whole-process figures: wall time, and the peak memory of the process. A fleet is one policy for every
nine keys, in 100 tenants (fewer in small fleets), one file for each policy and its keys, committed to git, all of them on
the `local` provider. `rotate 1,000` applies a fleet of which 1,000 keys have become due by a change of their policies.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

KEYS_PER_POLICY = 9


def policy(tenant, number, interval):
    return f"""apiVersion: keywheel/v1
kind: RotationPolicy
tenant_id: {tenant}
policy_name: policy-{number:05}
description: Rotates the keys of service {number}
key_type: phi_data
kms_provider: local
rotation_interval_days: {interval}
rotation_time_of_day: "02:00:00"
timezone: Europe/Berlin
compliance_tags: [HIPAA, SOC2]
"""


def key(tenant, number, index):
    return f"""---
apiVersion: keywheel/v1
kind: EncryptionKey
tenant_id: {tenant}
key_name: key-{number:05}-{index}
key_type: phi_data
kms_provider: local
rotation_policy: policy-{number:05}
"""


def generate(root, documents, interval=90):
    """Writes a fleet, and returns how many keys it has."""
    (root / "keywheel.yaml").write_text(
        "apiVersion: keywheel/v1\nkind: Config\nlimits: {max_rotations: 1000000}\n"
    )
    (root / ".gitignore").write_text(".keywheel/\n")
    policies = documents // (KEYS_PER_POLICY + 1)
    tenants = max(1, min(100, policies // 10))
    for number in range(policies):
        tenant = f"tenant-{number % tenants:03}"
        folder = root / "policies" / tenant
        folder.mkdir(parents=True, exist_ok=True)
        text = policy(tenant, number, interval)
        text += "".join(key(tenant, number, index) for index in range(KEYS_PER_POLICY))
        (folder / f"policy-{number:05}.yaml").write_text(text)
    return policies * KEYS_PER_POLICY


def git(root, *arguments):
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@example.org"]
    subprocess.run(["git", "-C", root, *identity, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def commit(root):
    git(root, "add", "-A")
    git(root, "commit", "-qm", "fleet")


def run(command, cwd, allowed=(0,)):
    """Runs a command; returns wall seconds and peak memory in MiB."""
    started = time.perf_counter()
    child = subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    stderr = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - started
    code = os.waitstatus_to_exitcode(status)
    child.returncode = code
    if code not in allowed:
        sys.exit(f"{' '.join(map(str, command))} ended with {code}:\n{stderr.decode(errors='replace')[-2000:]}")
    return seconds, usage.ru_maxrss / 1024


class Table:
    def __init__(self):
        self.rows = []

    def add(self, what, documents, samples):
        seconds = statistics.median(sample[0] for sample in samples)
        memory = max(sample[1] for sample in samples)
        self.rows.append((what, documents, seconds, memory))
        print(f"{what:<34} {documents:>8,}  {seconds:9.3f} s  {memory:7.0f} MiB", flush=True)


def keywheel(table, binary, documents, runs):
    with tempfile.TemporaryDirectory() as scratch:
        root = pathlib.Path(scratch)
        git(root, "init", "-q", "-b", "main")
        generate(root, documents)
        commit(root)
        state = root / ".keywheel"

        def first_apply():
            shutil.rmtree(state, ignore_errors=True)
            return run([binary, "apply", "--auto-approve"], root)

        table.add("keywheel validate", documents, [run([binary, "validate"], root) for _ in range(runs + 1)][1:])
        table.add("keywheel plan, first", documents, [run([binary, "plan"], root) for _ in range(runs)])
        table.add("keywheel apply, first", documents, [first_apply() for _ in range(min(runs, 3))])
        table.add("keywheel plan, nothing to do", documents, [run([binary, "plan"], root) for _ in range(runs)])


def rotations(table, binary, runs, count=1000):
    """A fleet in which so many keys become due at once: their created versions are made two days old in the record."""
    samples = []
    for _ in range(min(runs, 3)):
        with tempfile.TemporaryDirectory() as scratch:
            root = pathlib.Path(scratch)
            git(root, "init", "-q", "-b", "main")
            keys = generate(root, count * (KEYS_PER_POLICY + 1) // KEYS_PER_POLICY + 10, interval=1)
            commit(root)
            run([binary, "apply", "--auto-approve"], root)
            age(root / ".keywheel" / "state.db", count)
            samples.append(run([binary, "apply", "--auto-approve"], root))
            history = json.loads(
                subprocess.run([binary, "history", "--format", "json", "--limit", "100000"], cwd=root, check=True, capture_output=True).stdout
            )
            rotated = sum(1 for entry in history["rotations"] if entry["workflow"] == "rotate" and entry["status"] == "settled")
            assert rotated == count, f"{rotated} of {keys} keys rotated, and {count} were due"
    table.add("keywheel apply, 1,000 rotations", count, samples)


def age(database, count):
    import sqlite3

    with sqlite3.connect(database) as connection:
        connection.execute(
            """UPDATE encryption_keys SET last_rotation_at = strftime('%Y-%m-%dT%H:%M:%S.000000Z', 'now', '-3 days')
               WHERE id IN (SELECT id FROM encryption_keys ORDER BY id LIMIT ?)""",
            (count,),
        )
    connection.close()


def terraform(table, documents, runs):
    with tempfile.TemporaryDirectory() as scratch:
        root = pathlib.Path(scratch)
        blocks = (f'resource "terraform_data" "key_{n}" {{\n  input = {{ interval = 90 }}\n}}\n' for n in range(documents))
        (root / "main.tf").write_text("".join(blocks))
        run(["terraform", "init", "-input=false"], root)
        table.add("terraform validate", documents, [run(["terraform", "validate"], root) for _ in range(runs)])
        table.add("terraform plan, first", documents, [run(["terraform", "plan", "-input=false"], root) for _ in range(runs)])
        if documents <= 1000:
            table.add("terraform apply, first", documents, [run(["terraform", "apply", "-auto-approve", "-input=false"], root)])
            table.add("terraform plan, nothing to do", documents, [run(["terraform", "plan", "-input=false"], root) for _ in range(runs)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--binary", default=str(pathlib.Path(__file__).resolve().parent.parent / "target/release/keywheel"))
    arguments = parser.parse_args()
    if not os.access(arguments.binary, os.X_OK):
        sys.exit(f"{arguments.binary} is missing: cargo build --release")
    table = Table()
    table.add("keywheel version (start-up)", 0, [run([arguments.binary, "version"], ".") for _ in range(20)])
    for documents in arguments.documents:
        keywheel(table, arguments.binary, documents, arguments.runs)
    rotations(table, arguments.binary, arguments.runs)
    if shutil.which("terraform"):
        for documents in arguments.documents:
            if documents <= 10000:
                terraform(table, documents, min(arguments.runs, 3))
    else:
        print("terraform is not installed: its rows are left out")


if __name__ == "__main__":
    main()
