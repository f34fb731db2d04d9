"""longspan embed audio: an hour streams through. Peak memory of the largest rank, as the kernel counted it."""
import re

import harness
import h5py
import numpy
import sound

RATE = 44100
MINUTE = RATE * 60
MOST = 96 << 20  # of a rank: the program itself, MPI and HDF5, a block of sound and some pieces


class AudioMemory(harness.Case):
    def record(self, minutes):
        """The same minute again and again, 16-bit."""
        minute = (sound.noise(MINUTE, 1) * 32767).astype("<i2").tobytes()
        size = len(minute) * minutes
        with open(self.path("long.wav"), "wb") as file:
            file.write(sound.riff(sound.format_chunk(rate=RATE), sound.chunk(b"data", b"", size)))
            for _ in range(minutes):
                file.write(minute)
        return size

    def embed(self, ranks):
        result = self.succeed("embed", "audio", "long.wav", "-o", "long.h5", "--force", "--subsample", "8", "--dim",
                              "32", ranks=ranks, timeout=600)
        (peak,) = re.findall(r"at most ([\d.]+) MiB resident a rank", result.err)
        return float(peak) * 2**20

    def test_an_hour_takes_no_more_memory_than_minutes(self):
        for ranks in (1, 2):
            self.record(4)
            short = self.embed(ranks)
            size = self.record(60)
            long = self.embed(ranks)
            print(f"{ranks} ranks: 4 minutes {short / 2**20:.1f} MiB, an hour {long / 2**20:.1f} MiB; the file "
                  f"{size / 2**20:.0f} MiB", flush=True)
            self.assertGreater(short, 8 << 20)  # or the figure means nothing
            if not harness.is_sanitized():
                self.assertLess(long, MOST)
                self.assertLess(long - short, 8 << 20)
        with h5py.File(self.path("long.h5")) as file:
            self.assertEqual(file["q"].shape, (45000, 4, 32))
            self.assertEqual(file["token_offsets"][-1], 44999 * 1280 * RATE // 16000)
            for name in ("q", "k", "v", "log_mel"):  # past the longest window, every minute is the second
                second = file[name][750 + 40:1500 - 2].tobytes()
                for minute in (2, 29, 30, 31, 58):
                    self.assertEqual(file[name][750 * minute + 40:750 * (minute + 1) - 2].tobytes(), second, name)
            self.assertTrue(numpy.isfinite(file["log_mel"][::997]).all())


if __name__ == "__main__":
    harness.main()
