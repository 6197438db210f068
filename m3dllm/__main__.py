"""`python -m m3dllm`, and the program `m3dllm`."""

from __future__ import annotations

from m3dllm.ending import ignore_ctrl_c_between_commands, one_line


def main() -> None:
    """The command line, with Ctrl-C in one line while it is loaded as well."""
    ignore_ctrl_c_between_commands()
    one_line(_command)


def _command() -> None:
    from m3dllm.cli import main as command

    command()


if __name__ == "__main__":
    main()
