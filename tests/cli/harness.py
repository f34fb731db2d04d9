"""Runs the command under mpirun, for the tests of this folder. Python standard library; h5py makes the files.

A test is a unittest program that ends with harness.main(). CTest sets LONGSPAN_COMMAND and LONGSPAN_MPIEXEC; by hand:
    LONGSPAN_COMMAND=build/longspan python3 tests/cli/test_generate.py
Exit status 77, skipped for CTest, when everything was skipped or h5py is missing.
"""
import concurrent.futures
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

SKIPPED = 77
try:
    import h5py  # noqa: F401
    import numpy  # noqa: F401
except ImportError as missing:
    print("skipped:", missing)
    sys.exit(SKIPPED)

COMMAND = os.path.abspath(os.environ.get("LONGSPAN_COMMAND", "build/longspan"))
if not os.access(COMMAND, os.X_OK):
    sys.exit(f"LONGSPAN_COMMAND: {COMMAND} is not there")
MPIEXEC = os.environ.get("LONGSPAN_MPIEXEC", "mpirun")
TIMEOUT = 120.0  # a hang, not slowness

# mpirun sleeps most of the time that a short run takes, so a few go side by side.
JOBS = 4

ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "OMPI_MCA_mpi_yield_when_idle": "1",
    "OMPI_MCA_odls_base_sigkill_timeout": "0",  # mpirun would sleep a second after each status but 0
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


class Result:
    """What one run left: exit status, stdout, stderr and the lines of stderr that are not mpirun's own."""

    def __init__(self, line, status, out, err):
        self.line, self.status, self.out, self.err = line, status, out, err
        # libevent inside mpirun now and then complains of a closed pipe of a rank that has ended
        self.lines = [text for text in err.splitlines() if not text.startswith("[warn] Epoll")]

    def __str__(self):
        return f"$ {self.line}\n[exit status {self.status}]\n{self.out}{self.err}"


def run(*arguments, ranks=2, env=None, folder=None, timeout=TIMEOUT):
    """`longspan ARGUMENTS` on `ranks` ranks; `env` is for the ranks alone, not for mpirun. A hang is an AssertionError.

    Every mpirun has a session folder of its own: in the one that a user's share, one that ends now and then removes the
    folder that another has just made.
    """
    # --quiet: without it mpirun adds a block of its own about the exit status to stderr.
    command = [MPIEXEC, "--quiet", "-np", str(ranks)]
    for name, value in (env or {}).items():
        command += ["-x", f"{name}={value}"]
    command += [COMMAND] + [str(argument) for argument in arguments]
    line = f"cd {shlex.quote(folder or '.')} && {shlex.join(command)}"
    with tempfile.TemporaryDirectory(prefix="longspan-mpi-", ignore_cleanup_errors=True) as sessions:
        environment = {"OMPI_MCA_orte_tmpdir_base": sessions, **ENVIRONMENT, **os.environ}
        process = subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)  # mpirun takes its ranks, which have groups of their own, with it
            try:
                out, err = process.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                out, err = process.communicate()
            raise AssertionError(f"no end after {timeout} s:\n$ {line}\n{out.decode(errors='replace')}"
                                 f"{err.decode(errors='replace')}") from None
    return Result(line, process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))


def in_parallel(function, items):
    """[function(item) for item in items], a few at a time."""
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        return list(pool.map(function, items))


def has_fault_injection():
    return "fault injection on" in run("info", ranks=1).out


def linked_libraries():
    return subprocess.run(["ldd", COMMAND], capture_output=True, text=True, check=True).stdout


def is_sanitized():
    return re.search(r"lib(asan|ubsan|clang_rt)", linked_libraries()) is not None


def preload(library):
    """LD_PRELOAD for a library, after the sanitizer's, which insists on being first."""
    first = re.findall(r"=> (\S*/lib(?:asan|clang_rt\.asan)\S*)", linked_libraries())
    return ":".join(first + [os.path.abspath(library)])


class Case(unittest.TestCase):
    """A test with a folder of its own, in which the command runs."""

    maxDiff = None

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="longspan-test-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def longspan(self, *arguments, **options):
        return run(*arguments, **{"folder": self.folder, **options})

    def succeed(self, *arguments, **options):
        result = self.longspan(*arguments, **options)
        self.assertEqual(result.status, 0, str(result))
        return result

    def assert_refused(self, result, status, *patterns):
        """One line on stderr beside warnings, from the command, that matches each pattern; nothing on stdout; this exit
        status."""
        self.assertEqual(result.status, status, str(result))
        lines = [line for line in result.lines if ": warning: " not in line]
        self.assertEqual(len(lines), 1, f"more or less than one line on stderr:\n{result}")
        self.assertTrue(lines[0].startswith("longspan"), str(result))
        self.assertEqual(result.out, "", str(result))
        for pattern in patterns:
            self.assertRegex(lines[0], pattern, str(result))


def main():
    program = unittest.main(exit=False, verbosity=2)
    outcome = program.result
    if not outcome.wasSuccessful():
        sys.exit(1)
    if outcome.testsRun == 0 or len(outcome.skipped) == outcome.testsRun:
        sys.exit(SKIPPED)
