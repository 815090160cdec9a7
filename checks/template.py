"""The template, with its functions as `(name, argument)`."""

from pathlib import Path

import yaml


class Template(yaml.SafeLoader):
    """Reads a template with its functions as `(name, argument)`."""


def function(loader, suffix, node):
    if isinstance(node, yaml.ScalarNode):
        return (suffix, node.value)
    if isinstance(node, yaml.SequenceNode):
        return (suffix, loader.construct_sequence(node, deep=True))
    return (suffix, loader.construct_mapping(node, deep=True))


Template.add_multi_constructor("!", function)
RESOURCES = yaml.load(Path("template.yaml").read_text(), Loader=Template)["Resources"]
