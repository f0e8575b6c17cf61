"""Runs the `sh` and `python` blocks of docs/python.md in their order, in one folder, with the config of the page.

    python tests/python/run.py FOLDER_OF_THE_BINARY

Commands of `scan` take fewer rounds; everything else is run as it is written.
"""
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
FEWER = {"ssl-backdoor scan encoder": " --rounds 2"}


def main():
    environment = {**os.environ, "PATH": f"{Path(sys.argv[1]).resolve()}:{os.environ['PATH']}"}
    blocks = re.findall(r"```(toml|sh|python)\n(.*?)```", PAGE.read_text(), re.S)
    assert len(blocks) >= 9, "the page has lost its blocks"
    with tempfile.TemporaryDirectory() as folder:
        def run(command):
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
            if done.returncode != 0:
                sys.exit(f"{command}: status {done.returncode}\n{done.stdout}{done.stderr}")

        for language, text in blocks:
            if language == "toml":
                (Path(folder) / "small.toml").write_text(text)
            elif language == "python":
                run([sys.executable, "-c", text])
            else:
                for line in text.splitlines():
                    fewer = next((more for start, more in FEWER.items() if line.startswith(start)), "")
                    run(["sh", "-c", line + fewer])
    print(f"{len(blocks)} blocks of docs/python.md ran")


if __name__ == "__main__":
    main()
