"""What goes wrong between the launcher and the program: said before the work starts."""
import os
import subprocess

import harness


def bench(ranks, *mpirun, threads=None, env=None):
    """`longspan bench attention` under mpirun with its own ideas of binding; its stderr."""
    command = [harness.MPIEXEC, "--quiet", "-np", str(ranks), *mpirun, harness.COMMAND, "bench", "attention", "--tokens", "64",
               "--heads", "1", "--repeat", "1", "--warmup", "0"]
    if threads:
        command += ["--threads", str(threads)]
    done = subprocess.run(command, env={**harness.ENVIRONMENT, **os.environ, **(env or {})}, capture_output=True, text=True,
                          timeout=harness.TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def warnings(text):
    return [line for line in text.splitlines() if ": warning: " in line]


CPUS = len(os.sched_getaffinity(0))


class Launch(harness.Case):
    def test_one_process_of_a_slurm_job_of_many_is_refused(self):
        environment = {**os.environ, "SLURM_NTASKS": "4"}
        environment.pop("OMPI_COMM_WORLD_SIZE", None)
        done = subprocess.run([harness.COMMAND, "info"], env={**harness.ENVIRONMENT, **environment}, capture_output=True, text=True,
                              timeout=harness.TIMEOUT, check=False)
        self.assertEqual(done.returncode, 2, done.stderr)
        lines = done.stderr.splitlines()
        self.assertEqual(len(lines), 1, done.stderr)
        self.assertRegex(lines[0], "Slurm has 4 tasks.*--mpi=pmix")

    def alone(self, **environment):
        """`longspan info` without mpirun, in the environment of a launcher that meant more than one."""
        known = {name: value for name, value in os.environ.items() if not name.startswith(("OMPI_COMM", "PMI", "SLURM"))}
        return subprocess.run([harness.COMMAND, "info"], env={**harness.ENVIRONMENT, **known, **environment}, capture_output=True,
                              text=True, timeout=harness.TIMEOUT, check=False)

    def test_processes_of_a_foreign_mpirun_that_come_up_alone_are_refused(self):
        done = self.alone(PMI_SIZE="3", PMI_RANK="0")
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertRegex(done.stderr, r"^longspan: mpiexec has 3 tasks but this process came up alone: .*another MPI.*\n$")

    def test_of_processes_that_came_up_alone_the_first_speaks(self):
        done = self.alone(PMI_SIZE="3", PMI_RANK="2")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (2, "", ""))

    def test_tasks_without_a_process_manager_are_told_of_pmix(self):
        done = self.alone(SLURM_STEP_NUM_TASKS="4", SLURM_NTASKS="4", SLURM_PROCID="0")
        self.assertEqual(done.returncode, 2, done.stderr)
        lines = done.stderr.splitlines()
        self.assertEqual(len(lines), 2, done.stderr)
        self.assertRegex(lines[0], "warning: srun gave its 4 tasks no PMIx.*--mpi=pmix")
        self.assertRegex(lines[1], "Slurm has 4 tasks.*--mpi=pmix")

    def test_mpirun_inside_a_slurm_job_may_start_one_rank(self):
        self.assertEqual(harness.run("info", ranks=1, env={"SLURM_NTASKS": "4"}).status, 0)

    def test_ranks_of_different_command_lines_are_refused(self):
        done = subprocess.run([harness.MPIEXEC, "--quiet", "-np", "1", harness.COMMAND, "info", ":", "-np", "1", harness.COMMAND,
                               "plan"], env={**harness.ENVIRONMENT, **os.environ}, capture_output=True, text=True,
                              timeout=harness.TIMEOUT, check=False)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("the command line is not the same on every rank", done.stderr)

    @harness.unittest.skipIf(CPUS < 2, "needs two CPUs")
    def test_threads_on_one_bound_core_are_warned_of_with_the_flag(self):
        said = warnings(bench(1, "--bind-to", "core", threads=2))
        self.assertEqual(len(said), 1, said)
        self.assertRegex(said[0], r"2 threads a rank share 1 allowed CPU because of binding.*--bind-to none.*slot:PE=2")

    @harness.unittest.skipIf(CPUS < 2, "needs two CPUs")
    def test_cores_that_binding_leaves_idle_are_warned_of(self):
        said = warnings(bench(1, "--bind-to", "core"))
        self.assertEqual(len(said), 1, said)
        self.assertRegex(said[0], rf"{CPUS - 1} of {CPUS} CPUs of this node stay idle because of binding.*--bind-to none")

    @harness.unittest.skipIf(CPUS < 2, "needs two CPUs")
    def test_cores_that_too_few_threads_leave_idle_are_warned_of(self):
        said = warnings(bench(1, "--bind-to", "none", env={"OMP_NUM_THREADS": "1"}))
        self.assertEqual(len(said), 1, said)
        self.assertRegex(said[0], rf"leaves? {CPUS - 1} of {CPUS} CPUs idle: raise --threads or OMP_NUM_THREADS")

    def test_more_threads_than_cpus_are_warned_of(self):
        said = warnings(bench(1, "--bind-to", "none", threads=CPUS + 1))
        self.assertEqual(len(said), 1, said)
        self.assertRegex(said[0], rf"1 ranks? x {CPUS + 1} threads share {CPUS} CPUs of this node")

    def test_a_job_that_fills_its_cpus_is_not_warned(self):
        self.assertEqual(warnings(bench(1, "--bind-to", "none", threads=CPUS)), [])


if __name__ == "__main__":
    harness.main()
