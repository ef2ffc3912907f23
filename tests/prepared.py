"""Run programs in forks of a process that has imported torch and Unbraid.

The imports take most of the time of a short program. `python -m tests.prepared SOCKET` starts such a process, which
ends with its standard input. `python tests/prepared.py SOCKET [ARGUMENTS]` runs the command line of Unbraid in it.
"""

import atexit
import json
import os
import runpy
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

LARGEST = 1 << 20  # bytes of a request
READY = "ready"


def address() -> str:
    """Return the path of the socket of this process's server, which starts on the first call."""
    return _started()[0]


@cache
def _started() -> tuple[str, subprocess.Popen[str]]:
    path = str(Path(tempfile.mkdtemp()) / "socket")
    command = [sys.executable, "-W", "error", "-m", "tests.prepared", path]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    root = Path(__file__).parents[1]
    server = subprocess.Popen(
        command, cwd=root, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdin is not None and server.stdout is not None
    atexit.register(server.communicate)  # it ends with its input
    assert server.stdout.readline().strip() == READY
    return path, server


def run(arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a script, ``[path, ...]``, in a fork of the server; capture its output."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err, open(os.devnull) as nothing:
        files = [nothing.fileno(), out.fileno(), err.fileno()]
        status = _ask(address(), ["script", *arguments], str(folder), environment, files)
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(arguments, status, out.read(), err.read())


def _ask(path: str, arguments: Sequence[str], folder: str, environment: Mapping[str, str], files: list[int]) -> int:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        socket.send_fds(connection, [json.dumps([arguments, folder, dict(environment)]).encode()], files)
        connection.shutdown(socket.SHUT_WR)
        return connection.recv(1)[0]


def _forked(path: str) -> list[str] | None:
    """Serve requests; return None at the end, and in each fork the arguments of its program."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        print(READY, flush=True)
        waiting = set()
        while True:
            ready, _, _ = select.select([server, sys.stdin], [], [])
            if sys.stdin in ready:
                return None
            waiting = {process for process in waiting if os.waitpid(process, os.WNOHANG) == (0, 0)}
            connection, _ = server.accept()
            data, files, _, _ = socket.recv_fds(connection, LARGEST, 3)
            while part := connection.recv(LARGEST):
                data += part
            if process := os.fork():
                waiting.add(process)
                for file in files:
                    os.close(file)
                connection.close()
                continue
            if process := os.fork():  # this fork waits for the program
                _, status = os.waitpid(process, 0)
                connection.send(bytes([os.waitstatus_to_exitcode(status) % 256]))
                os._exit(0)
            connection.close()
            break
    arguments, folder, environment = json.loads(data)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    return [str(argument) for argument in arguments]


def _serve(path: str) -> None:
    import torch._dynamo  # noqa: F401 - the first optimizer of a process imports it

    from tests import jitter
    from unbraid.cli.app import app

    jitter.install()
    sys.path.remove(os.getcwd())
    arguments = _forked(path)
    if arguments is None:
        return
    kind, *sys.argv = arguments
    if kind == "command":
        app(prog_name="unbraid")
    else:
        sys.path.insert(0, str(Path(sys.argv[0]).parent))
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    if __package__:
        _serve(sys.argv[1])
    else:
        sys.exit(_ask(sys.argv[1], ["command", "unbraid", *sys.argv[2:]], os.getcwd(), os.environ, [0, 1, 2]))
