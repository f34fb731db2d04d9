"""longspan info, --help and --version."""
import harness
import h5py
import numpy

SUBCOMMANDS = ["attend", "generate", "embed", "map", "verify", "plan", "bench", "info"]


class Info(harness.Case):
    def test_build_names_what_it_is_made_of(self):
        out = self.succeed("info").out
        for pattern in (r"longspan +\d+\.\d+\.\d+", r"compiler +\S", r"MPI +\S", r"HDF5 +1\.", r"BLAS +\S", r"CPU +\S",
                        r"kernels +portable.*\(chosen\)", r"ranks +2\n", r"threads +1 a rank, on \d+ allowed CPU"):
            self.assertRegex(out, pattern)

    def test_input_is_described(self):
        with h5py.File(self.path("in.h5"), "w") as file:
            file["q"] = numpy.zeros((10, 6, 4), "f2")
            file["k"] = numpy.zeros((10, 2, 4), "f2")
            file["v"] = numpy.zeros((10, 2, 3), "f2")
            file["documents"] = numpy.array([0, 3, 10])
            file.attrs["note"] = "by hand"
        out = self.succeed("info", "in.h5").out
        self.assertRegex(out, r"attention input: B=1 N=10 M=10 H=6 G=2 D=4 E=3, float16, 2 documents")
        self.assertRegex(out, r"/q: float16 \[10, 6, 4\]")
        self.assertIn("note = by hand", out)

    def test_input_that_attend_would_refuse_is_told(self):
        with h5py.File(self.path("in.h5"), "w") as file:
            for name, heads in zip("qkv", (6, 4, 4)):
                file[name] = numpy.zeros((10, heads, 4), "f4")
        self.assertRegex(self.succeed("info", "in.h5").out, "not an attention input: .*6 heads.* 4 ")

    def test_any_hdf5_file_can_be_listed(self):
        with h5py.File(self.path("other.h5"), "w") as file:
            file["temperature"] = numpy.zeros(5)
        out = self.succeed("info", "other.h5").out
        self.assertIn("/temperature", out)
        self.assertNotIn("attention input", out)

    def test_help_of_the_program_and_of_every_subcommand(self):
        overall = self.succeed("--help")
        self.assertEqual(overall.err, "")
        helps = harness.in_parallel(lambda name: self.succeed(name, "--help"), SUBCOMMANDS)
        for name, result in zip(SUBCOMMANDS, helps):
            self.assertIn(f"  {name} ", overall.out)
            self.assertEqual(result.err, "")
            self.assertTrue(result.out.startswith(f"Usage: longspan {name}"), str(result))
            self.assertEqual(result.out.count("Usage:"), 1, "more than one rank speaks")
            self.assertRegex(result.out, rf"Example:\n.*longspan {name}")
            for line in result.out.splitlines():
                self.assertLessEqual(len(line), 120)

    def test_version(self):
        for arguments in (["--version"], ["attend", "--version"]):
            self.assertRegex(self.succeed(*arguments).out, r"^longspan \d+\.\d+\.\d+\n$")

    def test_without_a_subcommand_the_usage_goes_to_stderr(self):
        result = self.longspan()
        self.assertEqual((result.status, result.out), (2, ""))
        self.assertEqual(result.err.count("Usage: longspan"), 1)


if __name__ == "__main__":
    harness.main()
