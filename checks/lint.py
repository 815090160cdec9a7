"""cfn-lint and SAM on the template, and the deploy profiles against its parameters."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import tomlkit
import yaml

import report

TEMPLATE = Path("template.yaml")
PROFILES = Path("samconfig.toml")
BIN = Path(sys.executable).parent
# No account is asked: the tools want a Region and look for nothing else.
ENVIRONMENT = {
    **os.environ,
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "SAM_CLI_TELEMETRY": "0",
}
REGIONS = ["us-east-1", "eu-central-1", "us-gov-west-1", "cn-north-1"]


def run(*command):
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def cfn_lint(region):
    answer = run(BIN / "cfn-lint", "--format", "json", "--regions", region, "--include-checks", "I", "--", TEMPLATE)
    try:
        found = json.loads(answer.stdout or "[]")
    except ValueError:
        return [answer.stdout + answer.stderr]
    problems = [
        f"{one['Rule']['Id']} line {one['Location']['Start']['LineNumber']}: {one['Message']}" for one in found
    ]
    if answer.returncode and not problems:
        problems.append(answer.stderr.strip())
    return problems


def sam_validate(profile):
    answer = run(BIN / "sam", "validate", "--lint", "--template-file", TEMPLATE, "--config-file", PROFILES.absolute(),
                 "--config-env", profile)
    return [] if answer.returncode == 0 else [(answer.stdout + answer.stderr).strip()]


class Template(yaml.SafeLoader):
    """Reads a template; what its functions come to does not matter here."""


Template.add_multi_constructor("!", lambda loader, suffix, node: suffix)


def overrides(profile, parameters):
    problems = []
    for override in profile["deploy"]["parameters"]["parameter_overrides"]:
        name, _, value = override.partition("=")
        rules = parameters.get(name)
        if rules is None:
            problems.append(f"`{name}` is not a parameter of the template")
        elif "AllowedValues" in rules and value not in [str(allowed) for allowed in rules["AllowedValues"]]:
            problems.append(f"`{name}` must not be `{value}`")
        elif "AllowedPattern" in rules and not re.fullmatch(rules["AllowedPattern"], value):
            problems.append(f"`{name}` does not allow `{value}`")
    return problems


def caution(profile, parameters):
    values = {name: str(rules.get("Default")) for name, rules in parameters.items()}
    values.update(one.split("=", 1) for one in profile["deploy"]["parameters"]["parameter_overrides"])
    wanted = {"Mode": "observe", "Drills": "disabled"}
    return [f"`{name}` is `{values[name]}`" for name, value in wanted.items() if values[name] != value]


for region in REGIONS:
    report.item(f"cfn-lint, {region}", cfn_lint(region))

profiles = tomlkit.parse(PROFILES.read_text()).unwrap()
parameters = yaml.load(TEMPLATE.read_text(), Loader=Template)["Parameters"]
for name, profile in profiles.items():
    if name == "version":
        continue
    report.item(f"sam validate --lint, profile `{name}`", sam_validate(name))
    report.item(f"profile `{name}` sets parameters as the template allows", overrides(profile, parameters))
report.item("the default profile changes nothing in an account", caution(profiles["default"], parameters))
report.finish()
