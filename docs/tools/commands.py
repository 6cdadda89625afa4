"""The reference of commands, from the options that click knows."""

from __future__ import annotations

import inspect
import re

import click
from tables import angled, table

from maxim_deploy.cli import main
from maxim_deploy.cli.group import commands


def reference() -> str:
    """A section for each command: its line, its text and its options."""
    context = click.Context(commands)
    names = commands.list_commands(context)
    return "\n\n".join(_section(name, commands.get_command(context, name)) for name in names)


def _section(name: str, command: click.Command | None) -> str:
    assert command is not None
    has_script = hasattr(main, name)
    shown = f"maxim-{name}" if has_script else f"maxim-deploy {name}"
    context = click.Context(command, info_name=shown)
    usage = " ".join(command.collect_usage_pieces(context))
    rows = [_row(option, context) for option in command.params if isinstance(option, click.Option)]
    parts = [
        f"## {shown}",
        f"```text\n{shown} {usage}\n```",
        _as_code(angled(inspect.cleandoc(command.help or ""))),
        table(("option", "meaning"), rows),
    ]
    return "\n\n".join(parts)


def _row(option: click.Option, context: click.Context) -> tuple[str, str]:
    record = option.get_help_record(context)
    assert record is not None, option.name
    names, said = record
    # Readers of Markdown differ on `|` within code in a table.
    shown = f"<code>{names.replace('|', '&#124;')}</code>" if "|" in names else f"`{names}`"
    return shown, _as_code(angled(re.sub(r"\s+", " ", said)).replace("*", "\\*"))


def _as_code(text: str) -> str:
    """Text with the options in it as code, so that none breaks at its hyphens."""
    return re.sub(r"(?<![\w`-])(--[a-z][\w-]*)", r"`\1`", text)
