"""How the scripts of this folder run `longspan bench attention`."""

import json
import os
import shlex
import subprocess
import tempfile

from bench_options import Failure


def environment_of(ranks, threads):
    """One thread a core. Where there are more ranks than cores Open MPI must be allowed to share them."""
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads), OPENBLAS_NUM_THREADS="1")
    if os.geteuid() == 0:
        environment.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    if ranks * threads > len(os.sched_getaffinity(0)):
        environment.update(OMPI_MCA_rmaps_base_oversubscribe="1", OMPI_MCA_mpi_yield_when_idle="1")
    if threads > 1 or ranks * threads > len(os.sched_getaffinity(0)):
        environment.update(OMPI_MCA_hwloc_base_binding_policy="none")
    return environment


def launch(options, ranks, arguments):
    """The report of `bench attention` with these arguments; options has launcher, longspan, threads and repeat."""
    with tempfile.TemporaryDirectory(prefix="longspan-bench-") as folder:
        path = os.path.join(folder, "report.json")
        command = shlex.split(options.launcher.format(ranks=ranks, threads=options.threads))
        command += [options.longspan, "bench", "attention", "--threads", str(options.threads), "--repeat",
                    str(options.repeat), "--report", path, *arguments]
        try:
            done = subprocess.run(command, env=environment_of(ranks, options.threads), capture_output=True, text=True)
        except OSError as error:
            raise Failure(f"{command[0]}: {error.strerror}") from error
        if done.returncode != 0:
            raise Failure(f"{shlex.join(command)}\nended with status {done.returncode}:\n{done.stderr.strip()}")
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
    if report["plan"]["ranks"] != ranks:
        raise Failure(f"{shlex.join(command)}\nran on {report['plan']['ranks']} ranks, not {ranks}: "
                      "the launcher does not fit the MPI that the command was built with")
    return report
