"""Runs the command line: `./eai`."""

from eai_cli.app import app

if __name__ == "__main__":
    app(prog_name="eai")
