"""README.md: its Python and its C are run as they stand there, and the commands it names exist."""
import os
import re
import shutil
import subprocess

import harness

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.dirname(harness.COMMAND)


with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as readme:
    TEXT = readme.read()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.S)


class Readme(harness.Case):
    def run_here(self, command, **more):
        environment = {**harness.ENVIRONMENT, **os.environ, "PATH": BUILD + os.pathsep + os.environ["PATH"],
                       "LD_LIBRARY_PATH": BUILD, **more}
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True,
                              timeout=harness.TIMEOUT, check=False)
        self.assertEqual(done.returncode, 0, f"$ {' '.join(command)}\n{done.stdout}{done.stderr}")
        return done.stdout

    def test_the_python_example_runs(self):
        (source,) = blocks("python")
        check = "\nassert out.shape == (5000, 8, 64) and lse.shape == (5000, 8) and np.isfinite(out).all()\n"
        with open(self.path("example.py"), "w", encoding="utf-8") as file:
            file.write(source + check)
        self.run_here([harness.sys.executable, "example.py"])

    @harness.unittest.skipIf(harness.is_sanitized(), "a program of a user is not built with the sanitizer")
    def test_the_c_example_compiles_and_runs(self):
        (source,) = blocks("c")
        with open(self.path("example.c"), "w", encoding="utf-8") as file:
            file.write(source)
        compiler = shutil.which("mpicc")
        self.run_here([compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", "-I", os.path.join(ROOT, "runtime"), "example.c",
                       "-o", "example", "-L", BUILD, "-llongspan"])
        self.run_here([harness.MPIEXEC, "-np", "3", "./example"])

    def test_the_commands_of_the_table_exist(self):
        named = set(re.findall(r"^\| `longspan (\w+)", TEXT, re.M))
        (table,) = re.findall(r"Subcommands:\n(.*?)\n\n", self.succeed("--help", ranks=1).out, re.S)
        self.assertEqual(named, {line.split()[0] for line in table.splitlines()})

    def test_the_commands_of_linear_attention_run(self):
        (block,) = [block for block in blocks("sh") if "--attention gated-delta" in block]
        for line in block.replace("64k", "1k").splitlines():
            self.run_here(line.split())

    def test_the_table_of_linear_variants_is_that_of_the_command(self):
        table = TEXT[TEXT.index("| `--attention` | recurrence"):TEXT.index("The scale multiplies q")]
        (known,) = re.findall(r"^attention +softmax, sparsemax, entmax\[:ALPHA\], (.*)$", self.succeed("info", ranks=1).out, re.M)
        self.assertEqual(re.findall(r"^\| `(\w[\w-]*)` \|", table, re.M), known.split(", "))

    def test_the_plan_that_it_shows_can_be_made(self):
        (line,) = re.findall(r"`longspan (plan --tokens [^`]*)`", TEXT)
        self.succeed(*line.split(), ranks=1)


if __name__ == "__main__":
    harness.main()
