"""A disk that is really full: a small tmpfs, where the user may mount one. Skipped (77) elsewhere."""
import os
import subprocess

import harness

MEGABYTES = 4
# Each of them writes more than that.
COMMANDS = {
    "generate": ["generate", "disk/out.h5", "--tokens", "8k", "--heads", "2", "--dim", "64"],
    "embed": ["embed", "text", "book.txt", "-o", "disk/out.h5"],
    "attend": ["attend", "in.h5", "-o", "disk/out.h5"],
}


class FullDisk(harness.Case):
    def setUp(self):
        super().setUp()
        os.mkdir(self.path("disk"))
        mount = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "longspan-test", self.path("disk")]
        try:
            done = subprocess.run(mount, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            self.skipTest("there is no mount command")
        if done.returncode != 0:
            self.skipTest(f"mounting a tmpfs is refused: {done.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", self.path("disk")], check=True)
        with open(self.path("book.txt"), "w") as file:
            file.write("It was the best of times, it was the worst of times. " * 400)
        self.succeed("generate", "in.h5", "--tokens", "12k", "--heads", "2", "--kv-heads", "1", "--dim", "64")

    def test_every_writer_reports_it_and_leaves_nothing(self):
        for ranks in (1, 2, 4):
            for name, command in COMMANDS.items():
                with self.subTest(command=name, ranks=ranks):
                    result = self.longspan(*command, "--quiet", ranks=ranks)
                    self.assert_refused(result, 4, r"disk/out\.h5", "No space left on device")
                    self.assertEqual(os.listdir(self.path("disk")), [])

    def test_output_that_fits_is_written(self):
        self.succeed("generate", "disk/out.h5", "--tokens", "1k", "--heads", "1", "--dim", "64")
        self.assertEqual(os.listdir(self.path("disk")), ["out.h5"])


if __name__ == "__main__":
    harness.main()
