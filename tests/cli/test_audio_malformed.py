"""longspan embed audio: a hundred files and more that are no sound recording, or not a whole one. Each gives one line
from rank 0 that names the file and the cause, exit status 4 on every rank, and nothing written."""
import gzip
import os
import struct

import harness
import numpy
import sound

FILE = 4
LEAST = 100
TONE = (8000 * numpy.sin(numpy.arange(40000) * 0.2)).astype("<i2")
SOUND = sound.wav(TONE)
HEAD = 44  # bytes ahead of the samples
NOISE = sound.noise(40000, 1).astype("f4")


def changed(data, at, value):
    return data[:at] + value + data[at + len(value):]


def with_format(body=TONE.tobytes(), **settings):
    return sound.riff(sound.format_chunk(**settings), sound.chunk(b"data", body))


def with_value(value, at, channels=1, kind="<f4"):
    x = numpy.tile(NOISE.astype(kind)[:, None], (1, channels))
    x.ravel()[at] = value
    return sound.wav(x if channels > 1 else x[:, 0])


def crc(page):
    """Of an OGG page, whose own checksum counts as 0."""
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04c11db7 if value >> 31 else 0)) & 0xffffffff
    return value


def page(body, number=0, flags=0, serial=7, granule=0):
    lacing = bytes([255] * (len(body) // 255) + [len(body) % 255])
    head = b"OggS" + struct.pack("<BBqIII", 0, flags, granule, serial, number, 0) + bytes([len(lacing)]) + lacing
    whole = head + body
    return changed(whole, 22, struct.pack("<I", crc(whole)))


def pages(data):
    """The pages of an OGG file."""
    found, at = [], 0
    while at < len(data):
        segments = data[at + 26]
        size = 27 + segments + sum(data[at + 27:at + 27 + segments])
        found.append(data[at:at + size])
        at += size
    return found


def wav_cases():
    data = sound.chunk(b"data", TONE.tobytes())
    form = sound.format_chunk()
    double = 1e300
    return {
        # cut short
        "riff-4-bytes.wav": (SOUND[:4], "is not a WAV"),
        "riff-8-bytes.wav": (SOUND[:8], "is not a WAV"),
        "riff-12-bytes.wav": (SOUND[:12], "truncated"),
        "cut-in-a-chunk-head.wav": (SOUND[:18], "truncated"),
        "cut-in-the-format.wav": (SOUND[:30], "truncated"),
        "cut-after-the-format.wav": (SOUND[:36], "truncated.*'data' chunk"),
        "cut-in-the-data-head.wav": (SOUND[:42], "truncated"),
        "cut-before-the-samples.wav": (SOUND[:HEAD], "truncated.*promises 80000 bytes.* 0"),
        "cut-after-a-sample.wav": (SOUND[:HEAD + 2], "truncated"),
        "cut-in-the-middle.wav": (SOUND[:40000], "truncated"),
        "cut-within-a-sample.wav": (SOUND[:40001], "truncated"),
        "cut-by-a-byte.wav": (SOUND[:-1], "truncated.*promises 80000 bytes.* 79999"),
        "cut-by-a-sample.wav": (SOUND[:-2], "truncated"),
        # magic
        "first-letter.wav": (changed(SOUND, 0, b"X"), "is not a WAV"),
        "small-letters.wav": (changed(SOUND, 0, b"riff"), "is not a WAV"),
        "wave-misspelt.wav": (changed(SOUND, 8, b"WAVX"), "is not a WAV"),
        "avi.wav": (sound.riff(b"LIST", kind=b"AVI "), "is not a WAV"),
        "a-byte-ahead.wav": (b"\n" + SOUND, "is not a WAV"),
        "backwards.wav": (SOUND[::-1], "is not a WAV"),
        # chunks
        "no-chunks.wav": (sound.riff(), "'data' chunk"),
        "no-samples-chunk.wav": (sound.riff(form), "'data' chunk"),
        "no-format.wav": (sound.riff(data), "ahead of their format"),
        "samples-first.wav": (sound.riff(data, form), "ahead of their format"),
        "format-of-4-bytes.wav": (sound.riff(sound.chunk(b"fmt ", b"\1\0\1\0"), data), "has 4 bytes"),
        "format-of-4-gib.wav": (changed(SOUND, 16, b"\xf0\xff\xff\xff"), "truncated"),
        "list-beyond-the-end.wav": (sound.riff(form, sound.chunk(b"LIST", b"ab", 10**6), data), "truncated"),
        "data-misspelt.wav": (changed(SOUND, 36, b"DATA"), "'data' chunk"),
        "zero-frames.wav": (sound.riff(form, sound.chunk(b"data", b"")), "holds no samples"),
        "zero-frames-of-many.wav": (changed(SOUND, 40, b"\0\0\0\0"), "holds no samples"),
        "streamed.wav": (changed(SOUND, 40, b"\xff\xff\xff\xff"), "promises 4294967295"),
        "two-gib-promised.wav": (changed(SOUND, 40, b"\xff\xff\xff\x7f"), "promises 2147483647"),
        "half-the-samples-promised.wav": (changed(SOUND, 40, struct.pack("<I", 40000)), "samples end at byte 40044"),
        "all-but-two-samples-promised.wav": (changed(SOUND, 40, struct.pack("<I", 79996)), "samples end at byte 80040"),
        "zeros-behind.wav": (sound.riff(form, data, bytes(16)), "samples end at byte 80044"),
        "half-a-sample-promised.wav": (changed(SOUND, 40, struct.pack("<I", 79999)), "not a multiple"),
        "rf64-without-sizes.wav": (sound.riff(form, sound.chunk(b"data", b"ab", 2**32 - 1), magic=b"RF64"),
                                   "promises"),
        "rf64-of-a-tebibyte.wav": (sound.riff(sound.chunk(b"ds64", struct.pack("<QQQI", 2**40, 2**40, 2**39, 0)), form,
                                              sound.chunk(b"data", TONE.tobytes(), 0xffffffff), magic=b"RF64"),
                                   "promises 1099511627776"),
        "rifx-cut.wav": (sound.riff(sound.format_chunk(order=">"), sound.chunk(b"data", TONE.tobytes(), order=">"),
                                    magic=b"RIFX", order=">")[:-2], "truncated"),
        "little-endian-rifx.wav": (changed(SOUND, 0, b"RIFX"), "truncated"),
        # numbers of the format
        "no-channels.wav": (with_format(channels=0, align=2), "no channel"),
        "65-channels.wav": (with_format(channels=65, body=TONE.tobytes()[:65 * 2 * 100]), "65 channels"),
        "65535-channels.wav": (with_format(channels=65535, align=2), "65535 channels"),
        "rate-0.wav": (with_format(rate=0), "ample rate of 0|rate"),
        "rate-1.wav": (with_format(rate=1), "sample rate of 1 Hz"),
        "rate-999.wav": (with_format(rate=999), "sample rate of 999 Hz"),
        "rate-768001.wav": (with_format(rate=768001), "sample rate of 768001 Hz"),
        "rate-2147483647.wav": (with_format(rate=2**31 - 1), "rate"),
        "rate-2147483648.wav": (with_format(rate=2**31), "rate"),
        "rate-4294967295.wav": (with_format(rate=2**32 - 1), "rate"),
        "no-bits.wav": (with_format(bits=0, align=2), "contradicts itself"),
        "64-bit-integers.wav": (with_format(bits=64), r"64-bit-integers\.wav"),
        "float-of-16-bits.wav": (with_format(tag=3), r"float-of-16-bits\.wav"),
        "align-0.wav": (with_format(align=0), "no bytes"),
        "align-3.wav": (with_format(align=3), "contradicts itself"),
        "stereo-in-2-bytes.wav": (with_format(channels=2, align=2), "contradicts itself"),
        "format-0.wav": (with_format(tag=0), r"format-0\.wav"),
        "format-4660.wav": (with_format(tag=0x1234), r"format-4660\.wav"),
        "mp3-inside.wav": (with_format(tag=0x55), r"mp3-inside\.wav"),
        "extensible-too-short.wav": (with_format(tag=0xfffe), r"extensible-too-short\.wav"),
        # values
        "first-value-is-nan.wav": (with_value(numpy.nan, 0), r"finite number at sample 0 of 40000 \(0\.000 s\)"),
        "last-value-is-nan.wav": (with_value(numpy.nan, 39999), "finite number at sample 39999"),
        "a-value-is-nan.wav": (with_value(numpy.nan, 20000), r"sample 20000 of 40000 \(1\.250 s\)"),
        "a-value-is-infinite.wav": (with_value(numpy.inf, 12345), "sample 12345"),
        "a-value-is-minus-infinite.wav": (with_value(-numpy.inf, 33333), "sample 33333"),
        "nan-in-the-second-channel.wav": (with_value(numpy.nan, 2 * 777 + 1, channels=2), "sample 777"),
        "double-nan.wav": (with_value(numpy.nan, 4321, kind="<f8"), "sample 4321"),
        "double-beyond-float.wav": (with_value(double, 4322, kind="<f8"), "sample 4322"),
        "beyond-any-sound.wav": (with_value(2e30, 4323), "too large at sample 4323 "),
        "largest-float.wav": (with_value(-3.4e38, 4324), "too large at sample 4324 "),
        "all-nan.wav": (sound.wav(numpy.full(40000, numpy.nan, "f4")), "finite number"),
        "infinities-that-cancel.wav": (sound.wav(numpy.array([[0, 0], [numpy.inf, -numpy.inf]] * 99, "f4")),
                                       "sample 1 "),
    }


def flac_cases(data):
    def total(samples):
        packed = int.from_bytes(data[21:26], "big") >> 36 << 36 | samples
        return changed(data, 21, packed.to_bytes(5, "big"))

    def rate(hertz):
        packed = int.from_bytes(data[18:21], "big") & 0xf | hertz << 4
        return changed(data, 18, packed.to_bytes(3, "big"))

    half, audio = len(data) // 2, data.index(b"\xff\xf8", 42)
    return {
        "magic-alone.flac": (data[:4], "truncated"),
        "cut-in-streaminfo.flac": (data[:30], "truncated"),
        "streaminfo-alone.flac": (data[:42], "."),
        "no-frames.flac": (data[:audio], "."),
        "cut-in-a-frame-head.flac": (data[:audio + 3], "."),
        "cut-at-a-tenth.flac": (data[:len(data) // 10], "."),
        "cut-in-the-middle.flac": (data[:half], "."),
        "cut-by-100-bytes.flac": (data[:-100], "."),
        "cut-by-a-byte.flac": (data[:-1], "."),
        "small-letters.flac": (changed(data, 0, b"flac"), "is not a WAV"),
        "zero-frames.flac": (total(0), "does not say how many"),
        "twice-the-samples.flac": (total(80000), "truncated or damaged|is damaged"),
        "a-sample-too-many.flac": (total(40001), "truncated or damaged|is damaged"),
        "2-to-the-36-samples.flac": (total(2**36 - 1), "truncated or damaged|is damaged"),
        "rate-0.flac": (rate(0), "."),
        "rate-1.flac": (rate(1), "sample rate of 1 Hz"),
        "padding-first.flac": (changed(data, 4, b"\1"), "STREAMINFO"),
        "streaminfo-of-33-bytes.flac": (changed(data, 7, b"\x21"), "STREAMINFO"),
        "a-byte-changed.flac": (changed(data, half, bytes([data[half] ^ 0x10])), "damaged"),
        "100-bytes-zeroed.flac": (changed(data, half, bytes(100)), "damaged"),
        "middle-third-zeroed.flac": (changed(data, len(data) // 3, bytes(len(data) // 3)), "damaged"),
        "middle-third-missing.flac": (data[:len(data) // 3] + data[2 * len(data) // 3:], "damaged"),
        "noise-for-sound.flac": (data[:audio] + numpy.random.default_rng(2).bytes(len(data) - audio), "."),
    }


def ogg_cases(data):
    parts, half = pages(data), len(data) // 2
    chopped = page(b"\1vorbis" + bytes(23), flags=6)
    return {
        "magic-alone.ogg": (data[:4], "truncated"),
        "cut-in-a-page-head.ogg": (data[:20], "truncated"),
        "cut-after-the-first-page.ogg": (parts[0], "truncated.*ends a stream"),
        "headers-alone.ogg": (b"".join(parts[:2]), "truncated"),
        "cut-in-the-middle.ogg": (data[:half], "truncated"),
        "cut-by-a-byte.ogg": (data[:-1], "truncated.*not complete"),
        "without-the-last-page.ogg": (b"".join(parts[:-1]), "truncated.*ends a stream"),
        "a-byte-changed.ogg": (changed(data, half, bytes([data[half] ^ 1])), "checksum"),
        "last-byte-changed.ogg": (data[:-1] + bytes([data[-1] ^ 1]), "checksum"),
        "zeros-in-the-middle.ogg": (changed(data, half, bytes(200)), "checksum|no OGG page"),
        "a-page-missing.ogg": (b"".join(parts[:3] + parts[4:]), "missing"),
        "a-page-twice.ogg": (b"".join(parts[:4] + parts[3:]), "missing"),
        "two-recordings.ogg": (data + data, "more than one stream"),
        "bytes-behind.ogg": (data + b"and more", "truncated|no OGG page"),
        "a-byte-ahead.ogg": (b"\0" + data, "is not a WAV"),
        "nothing-known-inside.ogg": (page(b"something else", flags=6), "cannot be read as sound"),
        "an-empty-page.ogg": (page(b"", flags=6), "cannot be read as sound"),
        "vorbis-of-zeros.ogg": (chopped, "cannot be read as sound"),
    }


def other_cases():
    return {
        "empty": (b"", "is empty"),
        "one-byte": (b"R", "is not a WAV"),
        "zeros": (bytes(4096), "is not a WAV"),
        "ones": (b"\xff" * 4096, "is not a WAV"),
        "random": (numpy.random.default_rng(3).bytes(4096), "is not a WAV"),
        "text.txt": (b"Call me Ishmael.\n" * 100, "is not a WAV"),
        "utf-16.txt": ("Call me Ishmael.\n".encode("utf-16"), "is not a WAV"),
        "page.html": (b"<!DOCTYPE html><html></html>", "is not a WAV"),
        "numbers.json": (b'{"samples": [0, 1, 2]}', "is not a WAV"),
        "packed.wav.gz": (gzip.compress(SOUND, mtime=0), "is not a WAV"),
        "id3.mp3": (b"ID3\3\0\0\0\0\0\0" + b"\xff\xfb\x90\0" * 500, "is not a WAV"),
        "frames.mp3": (b"\xff\xfb\x90\0" + bytes(2000), "is not a WAV"),
        "raw-samples": (TONE.tobytes(), "is not a WAV"),
        "program": (b"\x7fELF\2\1\1" + bytes(100), "is not a WAV"),
        "picture.png": (b"\x89PNG\r\n\x1a\n" + bytes(100), "is not a WAV"),
        "file.h5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "is not a WAV"),
    }


class AudioMalformed(harness.Case):
    def read_made(self, kind, samples=NOISE, rate=16000):
        sound.make(self.path("made"), kind, rate, samples)
        with open(self.path("made"), "rb") as file:
            data = file.read()
        os.remove(self.path("made"))
        return data

    def made_cases(self):
        """What libsndfile itself wrote, of kinds that are not read; and lossy streams that end early."""
        opus = self.read_made("opus", rate=48000)
        opus_parts = pages(opus)
        cases = {
            "adpcm.wav": (self.read_made("wavadpcm"), "encoding, .*ADPCM"),
            "gsm.wav": (self.read_made("wavgsm"), "encoding, .*GSM"),
            "sound.aiff": (self.read_made("aiff"), "is not a WAV"),
            "sound.au": (self.read_made("au"), "is not a WAV"),
            "sound.caf": (self.read_made("caf"), "is not a WAV"),
            "sound.w64": (self.read_made("w64"), "is not a WAV"),
            "rf64-cut.wav": (self.read_made("rf64")[:-2], "truncated"),
            "extensible-cut.wav": (self.read_made("wavex")[:-2], "truncated"),
            "24-bit-cut.wav": (self.read_made("wav24")[:-1], "truncated"),
            "opus-cut.ogg": (opus[:len(opus) // 2], "truncated"),
            "opus-without-the-last-page.ogg": (b"".join(opus_parts[:-1]), "truncated"),
            "opus-a-byte-changed.ogg": (changed(opus, len(opus) // 2, bytes([opus[len(opus) // 2] ^ 8])), "checksum"),
        }
        cases.update(flac_cases(self.read_made("flac16")))
        cases.update(ogg_cases(self.read_made("vorbis")))
        return cases

    def places(self):
        """What is no file at all: name, cause."""
        os.mkdir(self.path("in/folder.wav"))
        os.mkfifo(self.path("in/pipe.wav"))
        os.symlink("nowhere", self.path("in/dangling.wav"))
        os.symlink("loop.wav", self.path("in/loop.wav"))
        return [("in/folder.wav", "is a folder"), ("in/pipe.wav", "not a regular file"), ("in/nowhere.wav", "No such"),
                ("in/dangling.wav", "No such"), ("in/loop.wav", "symbolic links"), ("/dev/null", "not a regular file"),
                ("/dev/zero", "not a regular file"), ("in/empty/sound.wav", "Not a directory"),
                ("in/" + "x" * 300 + ".wav", "name too long"), ("/proc/self/mem", ".")]

    def test_a_hundred_malformed_files(self):
        os.mkdir(self.path("in"))
        files = {**wav_cases(), **other_cases(), **self.made_cases()}
        self.assertEqual(len(set(data for data, _ in files.values())), len(files), "a file is there twice")
        for name, (data, _) in files.items():
            sound.write(self.path("in/" + name), data)
        # 4 GiB and a little, as a writer leaves it that counts in 32 bits; a hole in it takes no room
        sound.write(self.path("in/wrapped.wav"), SOUND)
        os.truncate(self.path("in/wrapped.wav"), len(SOUND) + 2**32)
        places = self.places() + [("in/wrapped.wav", "RF64")]
        print(f"{len(files)} files, and {len(places)} of other kinds", flush=True)
        self.assertGreaterEqual(len(files), LEAST)
        cases = [("in/" + name, cause) for name, (_, cause) in files.items()] + places

        before = sorted(os.listdir(self.path("in")))
        results = harness.in_parallel(
            lambda case: self.longspan("embed", "audio", case[1][0], "-o", f"out.{case[0]}.h5",
                                       ranks=(1, 2, 1, 3)[case[0] % 4]),
            enumerate(cases))
        for (name, cause), result in zip(cases, results):
            with self.subTest(name):
                self.assert_refused(result, FILE, r"^longspan embed: ", os.path.basename(name), cause)
        self.assertEqual(sorted(os.listdir(self.path("in"))), before)
        self.assertEqual(os.listdir(self.folder), ["in"])

    def test_what_they_are_made_of_is_sound(self):
        for name, data in (("sound.wav", SOUND), ("zero.wav", with_value(0, 5)),
                           ("double.wav", with_value(0, 5, kind="<f8")),
                           ("stereo.wav", with_value(0, 5, channels=2)),
                           ("tagged.wav", SOUND + b"TAG" + bytes(125)),
                           ("listed.wav", sound.riff(sound.chunk(b"JUNK", bytes(9)), sound.format_chunk(),
                                                     sound.chunk(b"data", TONE.tobytes()),
                                                     sound.chunk(b"LIST", b"INFO" + bytes(5)))),
                           ("flac", self.read_made("flac16")),
                           ("ogg", self.read_made("vorbis")),
                           ("opus", self.read_made("opus", rate=48000))):
            sound.write(self.path(name), data)
            self.succeed("embed", "audio", name, "-o", "out.h5", "--force")

    def test_damage_that_only_a_later_rank_sees(self):
        x = sound.noise(16000 * 60, 4).astype("f4")
        x[16000 * 35] = numpy.nan
        sound.write(self.path("late.wav"), sound.wav(x))
        result = self.longspan("embed", "audio", "late.wav", "-o", "out.h5", ranks=4)
        self.assert_refused(result, FILE, r"late\.wav", r"sample 560000 of 960000 \(35\.000 s\).*\[rank [12]\]$")
        self.assertEqual(os.listdir(self.folder), ["late.wav"])

    def test_a_file_that_is_not_the_same_on_every_rank(self):
        other = self.path("other")
        os.mkdir(other)
        sound.write(self.path("sound.wav"), SOUND)
        command = ["embed", "audio", "sound.wav", "-o", self.path("out.h5")]
        elsewhere = [":", "-np", "1", "-wdir", other, harness.COMMAND] + command
        result = self.longspan(*command, *elsewhere, ranks=2)
        self.assert_refused(result, FILE, r"sound\.wav: cannot be read: No such file.*\[rank 2\]$")
        sound.write(os.path.join(other, "sound.wav"), sound.wav(TONE[:20000]))
        result = self.longspan(*command, *elsewhere, ranks=2)
        self.assert_refused(result, 2, r"sound\.wav: not the same file on every rank")
        self.assertEqual(sorted(os.listdir(self.folder)), ["other", "sound.wav"])

    def test_an_existing_output_stays(self):
        sound.write(self.path("cut.wav"), SOUND[:-2])
        sound.write(self.path("out.h5"), b"precious")
        for force in ([], ["--force"]):
            result = self.longspan("embed", "audio", "cut.wav", "-o", "out.h5", *force)
            self.assert_refused(result, FILE, "truncated" if force else "exists")
            with open(self.path("out.h5"), "rb") as file:
                self.assertEqual(file.read(), b"precious")


if __name__ == "__main__":
    harness.main()
