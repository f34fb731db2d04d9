"""A link that is lost while a job runs over several hosts: the job must end, and say what it waited for.

By hand: LONGSPAN_COMMAND=build/dev/longspan PYTHONPATH=tests/cli tests/cluster/hosts 4 python3 tests/cluster/test_faults.py
"""
import os
import re
import subprocess
import time

import harness

ON_HOST = os.path.join(os.path.dirname(os.path.abspath(__file__)), "on_host")
RANKS = 8
STALL_SECONDS = 3
# What comes before, the stall, four times what attention is predicted to take, and mpirun's own farewell to the host.
LIMIT = 90


def on_node3(command):
    subprocess.run([ON_HOST, "node3", command], check=True)


class LostLink(harness.Case):
    def run_and_cut(self, arguments, is_time):
        """Runs the command, and cuts node3 off as soon as is_time(). Returns what it said once it has failed."""
        self.addCleanup(on_node3, "ip link set eth0 up")
        # Into a file: a pipe would be held open by what lives on, behind the lost link, until the cluster ends.
        with open(self.path("stderr"), "wb") as stderr:
            process = subprocess.Popen(
                [harness.MPIEXEC, "-np", str(RANKS), harness.COMMAND, *arguments, "--stall-limit", str(STALL_SECONDS)],
                cwd=self.folder, env={**harness.ENVIRONMENT, **os.environ}, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=stderr)
        started, cut = time.monotonic(), False
        while process.poll() is None and time.monotonic() - started < LIMIT:
            time.sleep(0.005)
            if not cut and is_time():
                cut = True
                on_node3("ip link set eth0 down")
        ended = process.poll() is not None
        process.kill()
        process.wait()
        self.assertTrue(cut, f"the time to cut the link never came:\n{self.said()}")
        self.assertTrue(ended, f"no end within {LIMIT} s:\n{self.said()}")
        self.assertNotEqual(process.returncode, 0, self.said())
        self.assertFalse(os.path.exists(self.path("out.h5")), "half a result under the name of a whole one")
        return self.said()

    def said(self):
        with open(self.path("stderr"), encoding="utf-8", errors="replace") as file:
            return file.read()

    def assert_gave_up(self, said, awaited):
        found = re.search(rf"longspan: rank \d has waited (\d+) s for {awaited}: [^\n]* giving up \(a lost link", said)
        self.assertTrue(found, said)
        self.assertGreaterEqual(int(found[1]), STALL_SECONDS, said)

    def lose_link_in_a_step(self, strategy):
        # Over a slow link a step takes 0.8 s, on whatever machine: time enough to see the first folds and to cut it.
        self.succeed("generate", "in.h5", "--tokens", "8k", "--heads", 2, "--dim", 64, ranks=RANKS)
        on_node3("tc qdisc add dev eth0 root tbf rate 10mbit burst 32kb latency 50ms")
        self.addCleanup(on_node3, "tc qdisc del dev eth0 root")
        said = self.run_and_cut(["attend", "in.h5", "-o", "out.h5", "--progress", "on", "--strategy", strategy],
                                lambda: "%" in self.said())
        # Ranks of a host that share memory also wait for each other.
        self.assert_gave_up(said, r"(rank \d|[^:]*node) in step \d")

    def test_a_lost_link_ends_a_ring_with_the_step_and_the_rank_waited_for(self):
        self.lose_link_in_a_step("ring")

    def test_a_lost_link_ends_hosts_that_share_keys(self):
        self.lose_link_in_a_step("shared")

    def test_a_link_lost_while_an_output_is_written_ends_the_job(self):
        # Ranks write by themselves and next meet to agree that all have.
        said = self.run_and_cut(["generate", "out.h5", "--tokens", "256k", "--heads", "2", "--dim", "64"],
                                lambda: os.path.exists(self.path("out.h5.part")))
        self.assert_gave_up(said, "the other ranks in an agreement[^:]*")


if __name__ == "__main__":
    harness.main()
