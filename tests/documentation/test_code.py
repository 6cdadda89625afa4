"""The code on the pages: Python runs, commands run or at least parse, options exist.

`python` and `bash` blocks run here, in a folder with the demo bundle and two photographs. `py` and
`sh` blocks need a GPU, a download or minutes: they are compiled or parsed.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from documentation.pages import PAGES, blocks, commands, text_of, with_blocks

from maxim_deploy.cli.group import command_named
from maxim_deploy.cli.group import commands as every_command

OWN_TEST = (
    "docs/concepts/onnxruntime-cpu.md",
    "docs/guides/object-stores.md",
    "docs/guides/ray.md",
)
"""Pages whose Python takes long, or needs a server, and has tests of its own."""


@pytest.mark.parametrize("name", [one for one in with_blocks("python") if one not in OWN_TEST])
def test_python_runs(name: str, at_home: Path) -> None:
    for code in blocks(name, "python"):
        exec(compile(code, name, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("name", with_blocks("py"))
def test_python_that_cannot_run_here_compiles(name: str) -> None:
    for code in blocks(name, "py"):
        compile(code, name, "exec")


def taken(line: str) -> tuple[click.Command, list[str]]:
    """The command and arguments of a line."""
    program, *arguments = shlex.split(line)
    if program == "maxim-deploy":
        return command_named(arguments[0]), arguments[1:]
    return command_named(program.removeprefix("maxim-")), arguments


@pytest.mark.parametrize("name", [one for one in PAGES if commands(one, "bash", "sh")])
def test_commands_parse(name: str) -> None:
    for line in commands(name, "bash", "sh"):
        command, arguments = taken(line)
        try:
            command.make_context("maxim", arguments)
        except click.exceptions.Exit as end:  # --help, --version
            assert end.exit_code == 0
        except click.ClickException as error:
            pytest.fail(f"{line}: {error.format_message()}")


@pytest.mark.parametrize("name", [one for one in PAGES if commands(one, "bash")])
def test_commands_run(name: str, at_home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for line in commands(name, "bash"):
        command, arguments = taken(line)
        code = command.main(arguments, prog_name="maxim", standalone_mode=False)
        assert not code, line


ELSEWHERE = {"--preload", "--build-arg", "--cpus", "--format", "--memory", "--user"}
"""Options on our pages that are other programs': gunicorn's, and those of containers."""


def test_every_option_on_a_page_exists() -> None:
    context = click.Context(every_command)
    known = {
        option
        for name in every_command.list_commands(context)
        for parameter in command_named(name).params
        for option in (*parameter.opts, *parameter.secondary_opts)
    } | {"--help"}
    named = {
        (page, option)
        for page in PAGES
        for code in re.findall(r"`((?:maxim-|--)[^`\n]+)`", text_of(page))
        for option in re.findall(r"(?<![\w-])--[a-z][\w-]+", code)
    }
    unknown = {one for one in named if one[1] not in known | ELSEWHERE}
    assert unknown == set()
