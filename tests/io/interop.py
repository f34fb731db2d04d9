"""Files cross between h5py and io/: PYTHON interop.py INTEROP_PROGRAM. Exit 77 without h5py or numpy."""
import os
import subprocess
import sys
import tempfile
import unittest

try:
    import h5py
    import numpy
except ImportError as missing:
    print("skipped:", missing)
    sys.exit(77)

PROGRAM = sys.argv.pop(1)


def bfloat16_bits(values):
    """Upper halves of float32; the values used here need no rounding."""
    return (numpy.asarray(values, numpy.float32).view(numpy.uint32) >> 16).astype(numpy.uint16)


def bfloat16_type():
    half = h5py.h5t.IEEE_F32LE.copy()
    half.set_fields(15, 7, 8, 0, 7)
    half.set_size(2)
    half.set_ebias(127)
    return half


class Interop(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, "file.h5")
        self.values = (numpy.arange(24, dtype=numpy.float32).reshape(4, 2, 3) - 12) / 4

    def tearDown(self):
        self.folder.cleanup()

    def run_program(self, *arguments):
        return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=60)

    def assert_read(self, type_name, bits, batch=1):
        result = self.run_program("read", self.path, "/q")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        words = result.stdout.split()
        self.assertEqual(words[:5], [type_name, str(batch), "4", "2", "3"])
        self.assertEqual([int(word, 16) for word in words[5:]], bits.ravel().tolist())

    def test_float32_of_h5py_is_read(self):
        with h5py.File(self.path, "w") as file:
            file["q"] = self.values
        self.assert_read("float32", self.values.view(numpy.uint32))

    def test_float32_of_the_newest_h5py_format_is_read(self):
        with h5py.File(self.path, "w", libver="latest") as file:
            file["q"] = self.values
        self.assert_read("float32", self.values.view(numpy.uint32))

    def test_big_endian_float32_of_h5py_is_read(self):
        with h5py.File(self.path, "w") as file:
            file["q"] = self.values.astype(">f4")
        self.assert_read("float32", self.values.view(numpy.uint32))

    def test_float16_of_h5py_is_read(self):
        half = self.values.astype(numpy.float16)
        with h5py.File(self.path, "w") as file:
            file["q"] = half
        self.assert_read("float16", half.view(numpy.uint16))

    def test_compressed_and_batched_float16_of_h5py_is_read(self):
        half = numpy.stack([self.values, 2 * self.values]).astype(numpy.float16)
        with h5py.File(self.path, "w") as file:
            file.create_dataset("q", data=half, compression="gzip", shuffle=True, chunks=(1, 3, 2, 2))
        self.assert_read("float16", half.view(numpy.uint16), batch=2)

    def test_bfloat16_as_opaque_with_attribute_is_read(self):
        bits = bfloat16_bits(self.values)
        with h5py.File(self.path, "w") as file:
            file["q"] = bits.view("V2")
            file["q"].attrs["dtype"] = "bfloat16"
        self.assert_read("bfloat16", bits)

    def test_bfloat16_as_uint16_with_attribute_of_bytes_is_read(self):
        bits = bfloat16_bits(self.values)
        with h5py.File(self.path, "w") as file:
            file["q"] = bits
            file["q"].attrs["dtype"] = numpy.bytes_("bfloat16")
        self.assert_read("bfloat16", bits)

    def test_bfloat16_as_hdf5_float_that_h5py_narrowed_is_read(self):
        bits = bfloat16_bits(self.values)
        with h5py.File(self.path, "w") as file:
            space = h5py.h5s.create_simple(self.values.shape)
            dataset = h5py.h5d.create(file.id, b"q", bfloat16_type(), space)
            dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, self.values)
        self.assert_read("bfloat16", bits)

    def test_a_dataset_that_h5py_created_but_never_wrote_is_refused(self):
        with h5py.File(self.path, "w") as file:
            file.create_dataset("q", (4, 2, 3), "f4")
        result = self.run_program("read", self.path, "/q")
        self.assertEqual(result.returncode, 4)
        self.assertIn("never written", result.stderr)
        self.assertEqual(result.stderr.count("\n"), 1)

    def test_what_is_written_means_the_same_to_h5py(self):
        result = self.run_program("write", self.path)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertEqual(os.listdir(self.folder.name), ["file.h5"])
        expected = (numpy.arange(12, dtype=numpy.float32) / 8).reshape(3, 1, 4)
        with h5py.File(self.path, "r") as file:
            self.assertEqual(file["f32"].dtype, numpy.float32)
            self.assertEqual(file["f16"].dtype, numpy.float16)
            for name in ("f32", "f16"):
                numpy.testing.assert_array_equal(file[name][...], expected)
            widened = numpy.empty((3, 1, 4), numpy.float32)
            file["bf16"].id.read(h5py.h5s.ALL, h5py.h5s.ALL, widened)
            numpy.testing.assert_array_equal(widened, expected)
            numpy.testing.assert_array_equal(file["bf16"][...], expected)
            self.assertTrue(file["bf16"].id.get_type().equal(bfloat16_type()))
            self.assertEqual(file["documents"][...].tolist(), [0, 2, 3])
            self.assertEqual(dict(file.attrs), {"mask": "causal", "ranks": 4, "scale": 0.125})


if __name__ == "__main__":
    unittest.main()
