"""The example scripts, run as a reader of them would."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

import safemmap

ROOT = pathlib.Path(safemmap.__file__).resolve().parent.parent
EXAMPLES = pathlib.Path(__file__).resolve().parent.parent / "examples"
STRICT_PYTHON = [sys.executable, "-X", "dev", "-W", "error"]
LIMIT = 20  # seconds

# A test may run where SIGINT is ignored, and the receiver is to be interrupted.
AS_IN_A_SHELL = (
    "import runpy, signal, sys; del sys.argv[0];"
    "signal.signal(signal.SIGINT, signal.default_int_handler);"
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)


@pytest.fixture
def run(tmp_path):
    """Starts an example with the socket as its first argument."""
    path = os.path.relpath(tmp_path / "socket")
    path = min(path, str(tmp_path / "socket"), key=len)  # 107 bytes at most
    processes = []

    def start(name, *arguments):
        process = subprocess.Popen(
            [*STRICT_PYTHON, "-c", AS_IN_A_SHELL, EXAMPLES / name, path, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_receiver_outlives_a_sender_that_shrinks_its_file(run, tmp_path):
    receiver = run("receiver.py")
    assert receiver.stdout.readline() == "listening\n"
    said = []
    for arguments in [], ["--shrink"], []:
        sender = run("sender.py", *arguments)
        said.append(sender.communicate(timeout=LIMIT))
        assert sender.returncode == 0
    receiver.send_signal(signal.SIGINT)
    out, err = receiver.communicate(timeout=LIMIT)

    first, second, third = out.splitlines(keepends=True)
    assert said[0] == (first, "")
    assert said[1] == ("shrunk\n", "")
    assert said[2] == (third, "")
    assert first.startswith("1048576 bytes, CRC ")
    assert second.startswith("the peer took its file away: [Errno 14] m[i:j]")
    assert "offset 524288" in second
    assert (receiver.returncode, err) == (0, "")
    assert list(tmp_path.iterdir()) == []
