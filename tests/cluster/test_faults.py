"""A link that is lost while attention runs over several hosts: the job must end, and say what it waited for.

By hand: LONGSPAN_COMMAND=build/dev/longspan PYTHONPATH=tests/cli tests/cluster/hosts 4 python3 tests/cluster/test_faults.py
"""
import os
import subprocess
import time

import harness

ON_HOST = os.path.join(os.path.dirname(os.path.abspath(__file__)), "on_host")
RANKS = 8
STALL_SECONDS = 3
# The step in which the link is lost, the stall, and mpirun's own farewell to the host; each is some seconds here.
LIMIT = 90


class LostLink(harness.Case):
    def setUp(self):
        super().setUp()
        self.succeed("generate", "in.h5", "--tokens", "24k", "--heads", 2, "--dim", 64, ranks=RANKS)

    def attend(self, strategy, when_running):
        """Runs attend and calls when_running() once the first folds are done. Returns its exit status and stderr."""
        # Into a file: a pipe would be held open by what lives on, behind the lost link, until the cluster ends.
        with open(self.path("stderr"), "wb") as stderr:
            process = subprocess.Popen(
                [harness.MPIEXEC, "-np", str(RANKS), harness.COMMAND, "attend", "in.h5", "-o", "out.h5", "--progress", "on",
                 "--strategy", strategy, "--stall-limit", str(STALL_SECONDS)],
                cwd=self.folder, env={**harness.ENVIRONMENT, **os.environ}, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=stderr)
        started, running = time.monotonic(), False
        while process.poll() is None and time.monotonic() - started < LIMIT:
            time.sleep(0.05)
            if not running and "%" in self.said():
                running = True
                when_running()
        ended = process.poll() is not None
        process.kill()
        process.wait()
        self.assertTrue(running, f"it never said that it is running:\n{self.said()}")
        self.assertTrue(ended, f"no end within {LIMIT} s:\n{self.said()}")
        return process.returncode, self.said()

    def said(self):
        with open(self.path("stderr"), encoding="utf-8", errors="replace") as file:
            return file.read()

    def lose_link(self, strategy):
        self.addCleanup(subprocess.run, [ON_HOST, "node3", "ip link set eth0 up"], check=True)
        status, said = self.attend(
            strategy, lambda: subprocess.run([ON_HOST, "node3", "ip link set eth0 down"], check=True))
        self.assertNotEqual(status, 0, said)
        # Ranks of a host that share memory also wait for each other.
        self.assert_gave_up(said, r"(rank \d|[^:]*node) in step \d")
        self.assertFalse(os.path.exists(self.path("out.h5")), "half a result under the name of a whole one")

    def test_a_lost_link_ends_a_ring_with_the_step_and_the_rank_waited_for(self):
        self.lose_link("ring")

    def test_a_lost_link_ends_hosts_that_share_keys(self):
        self.lose_link("shared")


if __name__ == "__main__":
    harness.main()
