"""`python -m m3dllm`, and the program `m3dllm`."""

from __future__ import annotations

from m3dllm.ending import ignore_ctrl_c_between_commands, one_line, open_closed_streams


def main() -> None:
    """Run the command line; Ctrl-C ends it with one line, also while it is still loading."""
    open_closed_streams()
    ignore_ctrl_c_between_commands()
    one_line(_command)


def _command() -> None:
    from m3dllm.cli import main as command

    command()


if __name__ == "__main__":
    main()
