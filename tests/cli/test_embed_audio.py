"""longspan embed audio: log-mel frames against a slow oracle, and that no rank count changes a bit."""
import harness
import h5py
import numpy
import sound

RANKS = (1, 2, 3, 4, 5, 8)
OPTIONS = (  # beside the defaults
    (["--mels", "128"], {"mels": 128}),
    (["--window", "32", "--hop", "8", "--mels", "64", "--mel-low", "20", "--mel-high", "7600"],
     {"window": 512, "hop": 128, "mels": 64, "low": 20.0, "high": 7600.0}),
    (["--fft", "400"], {"fft": 400}),
    (["--window", "20", "--hop", "12.5", "--fft", "1001"], {"window": 320, "hop": 200, "fft": 1001}),
    (["--hop", "100", "--window", "5", "--mels", "10"], {"window": 80, "hop": 1600, "fft": 128, "mels": 10}),
)


def contents(path):
    with h5py.File(path) as file:
        return {name: file[name][...] for name in file}


class EmbedAudio(harness.Case):
    def embed(self, name, *arguments, output="out.h5", **options):
        self.succeed("embed", "audio", name, "-o", output, "--force", "--dim", "8", *arguments, **options)
        return contents(self.path(output))

    def assert_frames(self, found, expected, message="", tolerance=2e-5):
        self.assertEqual(found.shape, expected.shape, message)
        self.assertEqual(found.dtype, numpy.float32)
        self.assertLess(numpy.abs(found - expected).max(), tolerance, message)

    def assert_same_on_any_ranks(self, name, *arguments, counts=RANKS):
        runs = [(ranks, "1") for ranks in counts] + [(2, "3")]
        results = harness.in_parallel(
            lambda run: self.embed(name, *arguments, "--threads", run[1], output=f"{name}.{run[0]}.{run[1]}.h5",
                                   ranks=run[0]), runs)
        for (ranks, threads), found in zip(runs, results):
            self.assertEqual(found.keys(), results[0].keys())
            for dataset, values in results[0].items():
                self.assertEqual(found[dataset].tobytes(), values.tobytes(),
                                 f"/{dataset} of {name} on {ranks} ranks with {threads} threads")
        return results[0]

    def test_frames_are_those_of_the_oracle_for_every_subsampling(self):
        x = sound.noise(40123, 1).astype("f4")
        x[20000:25000] = 0  # silence
        sound.write(self.path("noise.wav"), sound.wav(x))
        frames = sound.log_mel(x)
        self.assertEqual(len(frames), 251)
        results = harness.in_parallel(
            lambda every: self.embed("noise.wav", "--subsample", every, output=f"{every}.h5"), range(1, 9))
        for every, found in zip(range(1, 9), results):
            self.assert_frames(found["log_mel"], sound.means(frames, every), f"subsampled {every} times")
            tokens = -(-251 // every)
            self.assertEqual(found["token_offsets"].tolist(), [160 * every * t for t in range(tokens)])
            for name in "qkv":
                self.assertEqual(found[name].shape, (tokens, 4, 8))

    def test_settings_are_options(self):
        x = sound.noise(30000, 2).astype("f4")
        sound.write(self.path("noise.wav"), sound.wav(x))
        results = harness.in_parallel(
            lambda i: self.embed("noise.wav", *OPTIONS[i][0], output=f"{i}.h5"), range(len(OPTIONS)))
        for (arguments, settings), found in zip(OPTIONS, results):
            self.assert_frames(found["log_mel"], sound.log_mel(x, **settings), " ".join(arguments))

    def test_no_rank_or_thread_count_changes_a_bit(self):
        for name, kind, rate, channels in (("stereo.flac", "flac16", 44100, 2), ("vorbis.ogg", "vorbis", 44100, 1),
                                           ("opus.ogg", "opus", 48000, 2), ("wav.wav", "wavfloat", 16000, 3),
                                           ("slow.wav", "wav24", 11025, 1)):
            sound.make(self.path(name), kind, rate, sound.noise(int(rate * 33.3), 3, channels))  # three seams
            self.assert_same_on_any_ranks(name, "--subsample", "3", "--type", "bfloat16", counts=(1, 3, 5))
        found = self.assert_same_on_any_ranks("stereo.flac", "--heads", "5", "--value-dim", "3")
        self.assertEqual(found["v"].shape, (3330, 5, 3))

    def test_pieces_and_batches_join_without_a_seam(self):
        # 2.5 minutes: more than a piece of sound; 64 heads of 64: many batches of rows.
        x = numpy.tile(sound.noise(16000 * 10, 4).astype("f4"), 15)
        sound.write(self.path("long.wav"), sound.wav(x))
        self.succeed("embed", "audio", "long.wav", "-o", "out.h5", "--heads", "64", "--subsample", "2", ranks=2)
        found = contents(self.path("out.h5"))
        self.assert_frames(found["log_mel"][:1500], sound.means(sound.log_mel(x[:480160])[:3000], 2))
        for name in ("q", "k", "v", "log_mel"):  # the recording repeats every 500 tokens
            for begin in range(500, 7000, 500):
                self.assertEqual(found[name][540:990].tobytes(), found[name][begin + 40:begin + 490].tobytes(), name)

    def test_other_rates_give_the_same_frames(self):
        def tones(rate):
            t = numpy.arange(int(25 * rate)) / rate
            return 0.3 * numpy.sin(2 * numpy.pi * 440 * t) + 0.2 * numpy.sin(2 * numpy.pi * 3000 * t * (1 + t / 200))
        expected = sound.log_mel(tones(16000))
        loud = expected > -10  # below that the rounding of float32 samples can be heard
        for rate in (44100, 48000, 32000, 22050):
            sound.write(self.path("tones.wav"), sound.wav(tones(rate).astype("f4"), rate))
            found = self.embed("tones.wav", ranks=3)
            self.assertEqual(found["log_mel"].shape, expected.shape)
            inside = numpy.zeros_like(loud)
            inside[10:-10] = loud[10:-10]  # what is cut off rings
            self.assertLess(numpy.abs(found["log_mel"] - expected)[inside].max(), 2e-3, rate)
            self.assertGreater(inside.sum(), 10 * len(expected))
            self.assertEqual(found["token_offsets"].tolist(), [160 * t * rate // 16000 for t in range(len(expected))])

    def test_channels_are_averaged(self):
        pair = sound.noise(30000, 5, 2).astype("f4")
        sound.write(self.path("stereo.wav"), sound.wav(pair))
        expected = sound.log_mel(pair.astype(float).mean(axis=1))
        self.assert_frames(self.embed("stereo.wav")["log_mel"], expected)
        pair[:, 1] = -pair[:, 0]
        sound.write(self.path("nothing.wav"), sound.wav(pair))
        found = self.embed("nothing.wav")
        self.assertEqual(set(found["log_mel"].ravel().tolist()), {float(numpy.float32(numpy.log(1e-10)))})
        for name in "qkv":
            self.assertFalse(found[name].any())

    def test_more_ranks_than_tokens_and_a_single_sample(self):
        for samples, tokens in ((1, 1), (160, 1), (161, 2), (500, 4)):
            x = sound.noise(samples, 6).astype("f4")
            sound.write(self.path("short.wav"), sound.wav(x))
            self.assert_frames(self.embed("short.wav", ranks=5)["log_mel"], sound.log_mel(x))
            self.assertEqual(len(sound.log_mel(x)), tokens)

    def test_equal_passages_attend_to_each_other(self):
        passage, x = sound.noise(16000 * 2, 7), sound.noise(16000 * 20, 8)
        x[16000:16000 * 3] = x[16000 * 16:16000 * 18] = passage
        sound.write(self.path("twice.wav"), sound.wav(x.astype("f4")))
        self.succeed("embed", "audio", "twice.wav", "-o", "out.h5")
        found = contents(self.path("out.h5"))
        q, k = found["q"].astype(float), found["k"].astype(float)
        first, last = 150, 1650  # past the longest window, in both copies
        for head in range(4):
            scores = k[:, head] @ q[last, head] / 8
            scores[last - 40:] = -numpy.inf
            self.assertEqual(int(numpy.argmax(scores)), first, f"head {head}")

    def test_the_output_is_an_input_of_attention(self):
        sound.make(self.path("noise.flac"), "flac16", 44100, sound.noise(44100 * 5, 9, 2))
        self.embed("noise.flac", "--subsample", "2", output="in.h5")
        self.succeed("attend", "in.h5", "-o", "out.h5", "--mask", "window:64")
        self.assertIn("PASSED", self.succeed("verify", "in.h5", "out.h5").out)

    def test_attributes_say_where_it_came_from(self):
        sound.make(self.path("noise.flac"), "flac16", 44100, sound.noise(44100, 10, 2))
        self.embed("noise.flac", "--subsample", "4", "--seed", "3")
        with h5py.File(self.path("out.h5")) as file:
            text = {name: str(numpy.asarray(value).astype(str)) for name, value in file.attrs.items()}
        for name, value in {"document": "noise.flac", "sample_rate": "44100", "channels": "2", "samples": "44100",
                            "tokens": "25", "seed": "3", "mels": "80", "window": "400", "hop": "160", "fft": "512",
                            "subsample": "4", "seconds_per_token": "0.04", "kind": "embed audio"}.items():
            self.assertEqual(text[name], value, name)

    def test_options_that_are_wrong_are_refused(self):
        sound.write(self.path("noise.wav"), sound.wav(sound.noise(3000, 11).astype("f4")))
        sound.write(self.path("book.txt"), b"a b c")
        cases = (
                (["--mels", "0"], "--mels", "'0'"), (["--mels", "513"], "--mels", "513"),
                (["--mels", "256"], "band 1 of 256", "fewer bands"), (["--hop", "0"], "--hop", "'0'"),
                (["--hop", "101"], "--hop", "101", "100"), (["--hop", "0.01"], "hop of 0"),
                (["--window", "-1"], "--window"), (["--window", "1001"], "window of 16016"),
                (["--window", "nan"], "--window", "nan"), (["--fft", "256"], "256", "window of 400"),
                (["--fft", "1M"], "--fft"), (["--mel-high", "8001"], "8001", "8000"),
                (["--mel-low", "8000"], "range"), (["--subsample", "0"], "--subsample"),
                (["--subsample", "9"], "--subsample", "9"), (["--mask", "causal"], "--mask"))
        results = harness.in_parallel(
            lambda case: self.longspan("embed", "audio", "noise.wav", "-o", "out.h5", *case[0]), cases)
        for (_, *patterns), result in zip(cases, results):
            self.assert_refused(result, 2, *patterns)
        self.assert_refused(self.longspan("embed", "text", "book.txt", "-o", "out.h5", "--hop", "10"), 2, "--hop")
        self.assert_refused(self.longspan("embed", "audio", "noise.wav", "-o", "noise.wav", "--force"), 2, "same file")
        self.assert_refused(self.longspan("embed", "video", "noise.wav", "-o", "out.h5"), 2, "video", "text, audio")
        self.assertEqual(sorted(harness.os.listdir(self.folder)), ["book.txt", "noise.wav"])


if __name__ == "__main__":
    harness.main()
