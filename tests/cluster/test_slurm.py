"""The batch script that users are given, under a Slurm of its own on the hosts of tests/cluster/hosts.

By hand: LONGSPAN_COMMAND=build/dev/longspan PYTHONPATH=tests/cli \\
         tests/cluster/hosts 4 tests/cluster/slurm python3 tests/cluster/test_slurm.py
"""
import json
import os
import shutil
import subprocess

import harness

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../bench/slurm/attend.sbatch")
NODES, TASKS_A_NODE = 4, 2
RANKS = NODES * TASKS_A_NODE
NO_PMIX = f'#!/bin/sh\n[ "$*" != --mpi=list ] || exec echo none\nexec {shutil.which("srun")} "$@"\n'


class Slurm(harness.Case):
    def setUp(self):
        super().setUp()
        self.succeed("generate", "in.h5", "--tokens", 1009, "--heads", 4, "--dim", 16, ranks=1)
        # One thread a rank: the harness says so for all tests, and the cores are fewer than the virtual hosts'.
        self.environment = {**os.environ, **harness.ENVIRONMENT,
                            "PATH": os.path.dirname(harness.COMMAND) + os.pathsep + os.environ["PATH"]}
        # Slurm starts mpirun's daemons, and says where.
        for name in ("OMPI_MCA_plm", "OMPI_MCA_orte_default_hostfile"):
            self.environment.pop(name, None)

    def call(self, *command):
        return subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=harness.TIMEOUT, check=False)

    def submit(self, *arguments):
        """Waits for the batch script; its exit status and what it wrote."""
        done = self.call("sbatch", "--wait", f"--nodes={NODES}", f"--ntasks-per-node={TASKS_A_NODE}", "--cpus-per-task=1",
                         "--output=log", SCRIPT, *arguments)
        with open(self.path("log"), encoding="utf-8", errors="replace") as file:
            return done.returncode, done.stderr + file.read()

    def check(self):
        status, said = self.submit("in.h5", "out.h5", "--mask", "causal", "--quiet")
        self.assertEqual(status, 0, said)
        self.assertIn("PASSED", said)
        with open(self.path("out.h5.json"), encoding="utf-8") as file:
            self.assertEqual(json.load(file)["plan"]["ranks"], RANKS)

    def test_script_runs_under_srun_with_pmix(self):
        self.check()

    def test_script_runs_under_mpirun_where_slurm_has_no_pmix(self):
        folder = self.path("bin")
        os.mkdir(folder)
        with open(os.path.join(folder, "srun"), "w", encoding="utf-8") as file:
            file.write(NO_PMIX)
        os.chmod(os.path.join(folder, "srun"), 0o755)
        self.environment["PATH"] = folder + os.pathsep + self.environment["PATH"]
        self.check()

    def test_script_ends_with_the_status_of_the_command(self):
        status, said = self.submit("missing.h5", "out.h5")
        self.assertEqual(status, 4, said)
        self.assertIn("missing.h5", said)

    def test_tasks_without_pmix_end_with_the_flag_that_helps(self):
        done = self.call("srun", "--mpi=none", f"--ntasks={RANKS}", f"--ntasks-per-node={TASKS_A_NODE}", harness.COMMAND, "info")
        self.assertNotEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr.count("use srun --mpi=pmix"), 1, done.stderr)

    def test_a_command_in_a_batch_script_without_srun_is_refused(self):
        with open(self.path("job"), "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\n{harness.COMMAND} attend in.h5 -o out.h5\n")
        done = self.call("sbatch", "--wait", f"--ntasks={RANKS}", f"--ntasks-per-node={TASKS_A_NODE}", "--output=log", "job")
        with open(self.path("log"), encoding="utf-8") as file:
            said = file.read()
        self.assertEqual(done.returncode, 2, done.stderr + said)
        self.assertRegex(said, rf"Slurm has {RANKS} tasks but this process came up alone")


if __name__ == "__main__":
    harness.main()
