"""checkov on the template. What it objects to is either mended or explained in `.checkov.yaml`."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

import report

CONFIG = Path(".checkov.yaml")
ENVIRONMENT = {**os.environ, "LOG_LEVEL": "ERROR"}

text = CONFIG.read_text()
explained = yaml.safe_load(text)["skip-check"]
# In an empty folder it finds no settings, and so says everything.
with tempfile.TemporaryDirectory() as empty:
    answer = subprocess.run(
        [Path(sys.executable).parent / "checkov", "--file", Path("template.yaml").absolute(), "--framework",
         "cloudformation", "--output", "json", "--skip-download"],
        env=ENVIRONMENT, capture_output=True, text=True, check=False, cwd=empty,
    )
try:
    results = json.loads(answer.stdout)["results"]
except (ValueError, KeyError, TypeError):
    report.item("checkov answers", [answer.stdout + answer.stderr])
    report.finish()

for one in results.get("parsing_errors", []):
    report.item(f"checkov reads `{one}`", ["it does not"])
objections = {}
for one in results["failed_checks"]:
    objections.setdefault((one["check_id"], one["check_name"]), []).append(one["resource"])
for check, name in sorted({(one["check_id"], one["check_name"]) for one in results["passed_checks"]}):
    if (check, name) not in objections:
        report.item(f"{check} {name}")
for (check, name), resources in sorted(objections.items()):
    known = check in explained
    label = f"{check} {name}" + (", explained" if known else "")
    report.item(label, [] if known else [f"{resource} fails it" for resource in resources])
found = {check for check, _ in objections}
for check in explained:
    stale = [] if check in found else ["nothing fails it any more: remove the explanation"]
    if not re.search(rf"^ *#.*\n *- {check}$", text, re.MULTILINE):
        stale.append("no reason stands above it")
    report.item(f"{check} is explained once and for a cause", stale)
report.finish()
