"""Wrong inputs, options and outputs: one line from rank 0 that names the file or option and the cause, the right exit
status, no output, nothing left behind, no hang. One table for all subcommands."""
import os
import shutil
import subprocess
import tempfile

import harness
import h5py
import numpy

N, H, G, D, E = 64, 4, 2, 8, 5
USAGE, FILE = 2, 4


def tensor(*shape, dtype="f4"):
    return numpy.random.default_rng(1).standard_normal(shape).astype(dtype)


def sound():
    return {"q": tensor(N, H, D), "k": tensor(N, G, D), "v": tensor(N, G, E)}


def write(path, datasets, **options):
    with h5py.File(path, "w") as file:
        for name, data in datasets.items():
            file.create_dataset(name, data=data, **options)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def bad_documents(offsets):
    return {**sound(), "documents": numpy.array(offsets)}


# Files that are sound HDF5 but no attention input: datasets, and what the message must say.
BAD_DATASETS = {
    "no-q": ({"k": tensor(N, G, D), "v": tensor(N, G, E)}, r"no dataset /q"),
    "no-k": ({"q": tensor(N, H, D), "v": tensor(N, G, E)}, r"no dataset /k"),
    "no-v": ({"q": tensor(N, H, D), "k": tensor(N, G, D)}, r"no dataset /v"),
    "rank-2": ({**sound(), "q": tensor(N, D)}, r"/q has 2 axes"),
    "rank-5": ({**sound(), "q": tensor(1, 1, N, H, D)}, r"/q has 5 axes"),
    "scalar": ({**sound(), "v": numpy.float32(1)}, r"/v has 0 axes"),
    "float64": ({**sound(), "q": tensor(N, H, D, dtype="f8")}, r"/q is .*float32, float16 or bfloat16 is needed"),
    "int32": ({**sound(), "k": numpy.ones((N, G, D), "i4")}, r"/k is .*float32, float16 or bfloat16 is needed"),
    "complex": ({**sound(), "q": tensor(N, H, D).astype("c8")}, r"/q is .*float32, float16 or bfloat16 is needed"),
    "strings": ({**sound(), "q": numpy.full((N, H, D), b"text", "S4")}, r"/q is .*is needed"),
    "uint16-without-dtype": ({**sound(), "q": numpy.ones((N, H, D), "u2")}, r"/q is .*dtype"),
    "two-types": ({**sound(), "k": tensor(N, G, D, dtype="f2")}, r"/q is float32, /k is float16"),
    "zero-tokens": ({"q": tensor(0, H, D), "k": tensor(0, G, D), "v": tensor(0, G, E)}, r"/q is empty"),
    "zero-keys": ({**sound(), "k": tensor(0, G, D), "v": tensor(0, G, E)}, r"/k is empty"),
    "zero-heads": ({**sound(), "q": tensor(N, 0, D)}, r"/q is empty"),
    "key-tokens-differ": ({**sound(), "v": tensor(N - 1, G, E)}, r"/k has 64 tokens, /v has 63"),
    "key-heads-differ": ({**sound(), "v": tensor(N, 1, E)}, r"/k has 2 heads, /v has 1"),
    "heads-do-not-divide": ({**sound(), "q": tensor(N, 3, D)}, r"3 heads of /q are not a multiple of the 2"),
    "more-kv-heads-than-heads": ({**sound(), "q": tensor(N, 1, D)}, r"1 heads? of /q"),
    "head-sizes-differ": ({**sound(), "k": tensor(N, G, D + 1)}, r"/q has head size 8, /k has 9"),
    "dim-513": ({**sound(), "q": tensor(N, H, 513), "k": tensor(N, G, 513)}, r"head size 513 .*beyond 512"),
    "value-dim-513": ({**sound(), "v": tensor(N, G, 513)}, r"head size 513 of /v is beyond 512"),
    "batch-differs": ({"q": tensor(2, N, H, D), "k": tensor(2, N, G, D), "v": tensor(3, N, G, E)}, r"batch items"),
    "batch-in-q-only": ({**sound(), "q": tensor(1, N, H, D)}, r"4, 3 and 3 axes"),
    "documents-descend": (bad_documents([0, 40, 20, N]), r"/documents descends from 40 to 20"),
    "documents-begin-at-1": (bad_documents([1, 20, N]), r"/documents begins with 1"),
    "documents-end-early": (bad_documents([0, 20, N - 1]), r"/documents ends with 63"),
    "documents-end-late": (bad_documents([0, 20, N + 1]), r"/documents ends with 65"),
    "documents-negative": (bad_documents([0, -1, N]), r"/documents descends"),
    "documents-of-floats": (bad_documents([0.0, 20.0, N]), r"/documents is not of an integer type"),
    "documents-with-two-axes": (bad_documents([[0, N]]), r"/documents needs one axis"),
    "documents-of-one-offset": (bad_documents([0]), r"/documents needs one axis with at least two"),
    "documents-beyond-int64": ({**sound(), "documents": numpy.array([0, 2**63 + 5, N], "u8")}, r"/documents"),
    "documents-empty": ({**sound(), "documents": numpy.zeros(0, "i8")}, r"/documents"),
    "lengths-of-another-batch": ({**sound(), "key_lengths": numpy.array([N, 3])},
                                 r"/key_lengths needs one axis with a length for each of the 1 batch items"),
    "lengths-beyond-the-keys": ({**sound(), "key_lengths": numpy.array([N + 1])}, r"/key_lengths\[0\] is 65, not from 0 to"),
    "lengths-below-zero": ({**sound(), "key_lengths": numpy.array([-1])}, r"/key_lengths\[0\] is -1"),
    "lengths-of-floats": ({**sound(), "key_lengths": numpy.array([3.0])}, r"/key_lengths is not of an integer type"),
    "lengths-beyond-int64": ({**sound(), "key_lengths": numpy.array([2**64 - 1], "u8")}, r"/key_lengths\[0\]"),
    "lengths-of-two-axes": ({**sound(), "key_lengths": numpy.array([[3]])}, r"/key_lengths needs one axis"),
    "slopes-of-other-heads": ({**sound(), "alibi_slopes": numpy.ones(H - 1, "f4")},
                              r"/alibi_slopes needs one axis with a value for each of the 4 heads"),
    "slopes-of-float64": ({**sound(), "alibi_slopes": numpy.ones(H)}, r"/alibi_slopes is float64; float32 is needed"),
    "slopes-with-nan": ({**sound(), "alibi_slopes": numpy.array([1, 2, numpy.nan, 4], "f4")},
                        r"/alibi_slopes\[2\] is nan; finite values are needed"),
    "slopes-of-minus-infinity": ({**sound(), "alibi_slopes": numpy.array([1, 2, 3, -numpy.inf], "f4")},
                                 r"/alibi_slopes\[3\] is -inf"),
    "sinks-of-other-heads": ({**sound(), "sinks": numpy.ones((H, 1), "f4")}, r"/sinks needs one axis"),
    "sinks-of-infinity": ({**sound(), "sinks": numpy.full(H, numpy.inf, "f4")}, r"/sinks\[0\] is inf; finite"),
    "sinks-of-strings": ({**sound(), "sinks": numpy.full(H, b"1", "S1")}, r"/sinks is .*; float32 is needed"),
    "sinks-empty": ({**sound(), "sinks": numpy.zeros(0, "f4")}, r"/sinks is empty"),
    "relative-keys-of-other-heads": ({**sound(), "relative_keys": tensor(5, H + 1, D)},
                                     r"/relative_keys is \[5, 5, 8\]; \[LEFT \+ RIGHT \+ 1, 4, 8\] is needed"),
    "relative-keys-of-two-axes": ({**sound(), "relative_keys": tensor(H, D)}, r"/relative_keys is \[4, 8\]"),
    "relative-keys-empty": ({**sound(), "relative_keys": tensor(0, H, D)}, r"/relative_keys is empty"),
    "relative-keys-of-float64": ({**sound(), "relative_keys": numpy.ones((5, H, D))},
                                 r"/relative_keys is float64; float32 is needed"),
    "relative-keys-with-nan": ({**sound(), "relative_keys": numpy.full((5, H, D), numpy.nan, "f4")},
                               r"value 0 of /relative_keys is nan; finite"),
    "relative-bias-alone": ({**sound(), "relative_bias_u": tensor(H, D)}, r"/relative_bias_u and /relative_bias_w go together"),
    "relative-biases-without-keys": ({**sound(), "relative_bias_u": tensor(H, D), "relative_bias_w": tensor(H, D)},
                                     r"have no meaning without /relative_keys"),
    "relative-bias-of-kv-heads": ({**sound(), "relative_keys": tensor(5, H, D), "relative_bias_u": tensor(G, D),
                                   "relative_bias_w": tensor(H, D)}, r"/relative_bias_u is \[2, 8\]; \[4, 8\] is needed"),
    "documents-with-other-keys": ({**bad_documents([0, 20, N]), "k": tensor(99, G, D), "v": tensor(99, G, E)},
                                  r"documents need .* 64 queries and 99 keys"),
}


def make_special_files(folder):
    """Files that h5py alone does not make: name and what the message must say."""
    whole = read(os.path.join(folder, "sound.h5"))
    causes = {}

    def put(name, data, cause):
        with open(os.path.join(folder, name + ".h5"), "wb") as file:
            file.write(data)
        causes[name] = cause

    put("empty-file", b"", "is empty")
    put("text-file", b"These are not activations.\n" * 50, "not an HDF5 file")
    put("truncated-to-8-bytes", whole[:8], r"not an HDF5 file|HDF5|incomplete")
    put("truncated-in-the-header", whole[:700], r"incomplete|HDF5")
    put("truncated-in-the-middle", whole[: len(whole) // 2], r"incomplete")
    put("truncated-by-one-byte", whole[:-1], r"incomplete")
    put("overwritten-header", whole[:8] + bytes(500) + whole[508:], r"cannot be opened|no dataset|HDF5")

    path = os.path.join(folder, "q-is-a-group.h5")
    with h5py.File(path, "w") as file:
        file.create_group("q")
        file["k"], file["v"] = tensor(N, G, D), tensor(N, G, E)
    causes["q-is-a-group"] = r"/q is a group, not a dataset"
    path = os.path.join(folder, "dangling-link.h5")
    write(path, {name: data for name, data in sound().items() if name != "q"})
    with h5py.File(path, "a") as file:
        file["q"] = h5py.SoftLink("/nowhere")
    causes["dangling-link"] = r"/q (is a link that leads nowhere|.*no dataset)|no dataset /q"
    path = os.path.join(folder, "never-written.h5")
    write(path, {name: data for name, data in sound().items() if name != "q"})
    with h5py.File(path, "a") as file:
        file.create_dataset("q", (1 << 40, H, D), "f4", chunks=(1024, H, D))
    causes["never-written"] = r"/q"
    path = os.path.join(folder, "claims-2-to-the-60.h5")
    write(path, {name: data for name, data in sound().items() if name != "q"})
    with h5py.File(path, "a") as file:
        file.create_dataset("q", (1 << 60, H, D), "f4", chunks=(1024, H, D))
    causes["claims-2-to-the-60"] = r"/q"
    return causes


def run_in(folder, arguments, ranks):
    before = snapshot(folder)
    result = harness.run(*arguments, ranks=ranks, folder=folder)
    return result, before, snapshot(folder)


def snapshot(folder):
    """Every path under a folder, with the contents of files."""
    found = {}
    for root, folders, files in os.walk(folder):
        for name in folders:
            found[os.path.relpath(os.path.join(root, name), folder)] = "folder"
        for name in files:
            path = os.path.join(root, name)
            found[os.path.relpath(path, folder)] = read(path)
    return found


class BadInputs(harness.Case):
    @classmethod
    def setUpClass(cls):
        cls.inputs = tempfile.mkdtemp(prefix="longspan-inputs-")
        cls.addClassCleanup(shutil.rmtree, cls.inputs, ignore_errors=True)
        write(os.path.join(cls.inputs, "sound.h5"), sound())
        for name, (datasets, _) in BAD_DATASETS.items():
            write(os.path.join(cls.inputs, name + ".h5"), datasets)
        cls.special = make_special_files(cls.inputs)
        with open(os.path.join(cls.inputs, "book.txt"), "w") as file:
            file.write("It was a bright cold day in April. " * 20)
        with open(os.path.join(cls.inputs, "blank.txt"), "w") as file:
            file.write(" \n\t" * 100)
        open(os.path.join(cls.inputs, "nothing.txt"), "w").close()
        result = harness.run("attend", "sound.h5", "-o", "result.h5", "--quiet", folder=cls.inputs)
        assert result.status == 0, str(result)

    def check(self, cases):
        """Cases are (name, arguments, status, patterns); every one runs in a folder of its own."""
        def attempt(case):
            folder = tempfile.mkdtemp(prefix="case-", dir=self.folder)
            os.symlink(self.inputs, os.path.join(folder, "in"))
            with open(os.path.join(folder, "taken.h5"), "w") as file:
                file.write("precious")
            os.mkdir(os.path.join(folder, "folder.h5"))
            ranks = 1 + case[0] % 3
            return run_in(folder, case[2], ranks)

        numbered = [(i,) + case for i, case in enumerate(cases)]
        inputs = snapshot(self.inputs)
        for case, (result, before, after) in zip(numbered, harness.in_parallel(attempt, numbered)):
            with self.subTest(case[1]):
                self.assert_refused(result, case[3], *case[4])
                self.assertEqual(sorted(before), sorted(after), f"something was left behind:\n{result}")
                self.assertEqual(before, after, f"a file was changed:\n{result}")
        self.assertEqual(sorted(inputs), sorted(snapshot(self.inputs)), "something was left beside the inputs")

    def test_attend_refuses_files_of_the_wrong_content(self):
        self.check([(name, ["attend", f"in/{name}.h5", "-o", "out.h5"], USAGE if "other-keys" in name else FILE,
                     [rf"in/{name}\.h5|documents need" if "other-keys" in name else rf"in/{name}\.h5", cause])
                    for name, (_, cause) in BAD_DATASETS.items()])

    def test_every_reader_refuses_files_that_are_damaged(self):
        cases = []
        for name, cause in self.special.items():
            cases.append((f"attend {name}", ["attend", f"in/{name}.h5", "-o", "out.h5"], FILE,
                          [rf"in/{name}\.h5", cause]))
        for name in ("empty-file", "text-file", "truncated-in-the-middle", "missing"):
            file = f"in/{name}.h5"
            cases += [(f"verify {name} as input", ["verify", file, "in/result.h5"], FILE, [name]),
                      (f"verify {name} as result", ["verify", "in/sound.h5", file], FILE, [name]),
                      (f"map {name}", ["map", file, "-o", "map.svg"], FILE, [name]),
                      (f"info {name}", ["info", file], FILE, [name])]
        self.check(cases)

    def test_inputs_that_are_not_there_or_no_files(self):
        self.check([
            ("missing", ["attend", "nowhere.h5", "-o", "out.h5"], FILE, [r"nowhere\.h5", "No such file"]),
            ("folder", ["attend", "folder.h5", "-o", "out.h5"], FILE, [r"folder\.h5", "is a folder"]),
            ("device", ["attend", "/dev/null", "-o", "out.h5"], FILE, ["/dev/null", "not a regular file"]),
            ("file as a folder", ["attend", "taken.h5/in.h5", "-o", "out.h5"], FILE, [r"taken\.h5/in\.h5"]),
            ("document missing", ["embed", "text", "nowhere.txt", "-o", "out.h5"], FILE, [r"nowhere\.txt", "No such file"]),
            ("document empty", ["embed", "text", "in/nothing.txt", "-o", "out.h5"], FILE, [r"nothing\.txt", "is empty"]),
            ("document blank", ["embed", "text", "in/blank.txt", "-o", "out.h5"], FILE, [r"blank\.txt", "no token"]),
            ("document is a folder", ["embed", "text", "folder.h5", "-o", "out.h5"], FILE, [r"folder\.h5", "folder"]),
            ("recording that is a text", ["embed", "audio", "in/book.txt", "-o", "out.h5"], FILE,
             [r"book\.txt", "is not a WAV, FLAC or OGG file"]),
            ("map of an input", ["map", "in/sound.h5", "-o", "map.svg"], FILE, [r"sound\.h5"]),
            ("verify swapped", ["verify", "in/result.h5", "in/sound.h5"], FILE, [r"\.h5"]),
        ])

    def test_outputs_that_cannot_be_written(self):
        commands = {
            "attend": ["attend", "in/sound.h5", "-o"],
            "generate": ["generate", "--tokens", "9"],
            "embed": ["embed", "text", "in/book.txt", "-o"],
            "map": ["map", "in/result.h5", "-o"],
        }
        cases = []
        for name, arguments in commands.items():
            cases += [
                (f"{name} existing", arguments + ["taken.h5"], FILE, [r"taken\.h5", "exists", "--force"]),
                (f"{name} folder", arguments + ["folder.h5", "--force"], FILE, [r"folder\.h5", "is a folder"]),
                (f"{name} missing folder", arguments + ["nowhere/out.h5"], FILE, [r"nowhere/out\.h5", "No such file"]),
                (f"{name} file as a folder", arguments + ["taken.h5/out.h5"], FILE, [r"taken\.h5/out\.h5"]),
                (f"{name} without a name", arguments + ["folder.h5/"], FILE, [r"folder\.h5/", "folder"]),
                (f"{name} /proc", arguments + ["/proc/out.h5"], FILE, [r"/proc/out\.h5"]),
            ]
        cases += [
            ("report missing folder", ["attend", "in/sound.h5", "-o", "out.h5", "--report", "nowhere/report.json"], FILE,
             [r"nowhere/report\.json"]),
            ("report existing", ["attend", "in/sound.h5", "-o", "out.h5", "--report", "taken.h5"], FILE,
             [r"taken\.h5", "exists"]),
            ("trace existing", ["attend", "in/sound.h5", "-o", "out.h5", "--trace", "taken.h5"], FILE,
             [r"taken\.h5", "exists"]),
            ("trace is the report", ["attend", "in/sound.h5", "-o", "out.h5", "--report", "r.json", "--trace", "r.json"],
             USAGE, [r"r\.json", "--report and --trace name the same file"]),
            ("report is the output", ["attend", "in/sound.h5", "-o", "out.h5", "--report", "out.h5"], USAGE,
             [r"out\.h5", "same file"]),
        ]
        self.check(cases)

    def test_an_input_is_never_the_output(self):
        self.check([
            ("attend", ["attend", "in/sound.h5", "-o", "in/sound.h5", "--force"], USAGE, [r"sound\.h5", "same file"]),
            ("attend by another name", ["attend", "in/sound.h5", "-o", "./in/./sound.h5", "--force"], USAGE,
             ["same file"]),
            ("embed", ["embed", "text", "in/book.txt", "-o", "in/book.txt", "--force"], USAGE,
             [r"book\.txt", "same file"]),
            ("report", ["attend", "in/sound.h5", "-o", "out.h5", "--report", "in/sound.h5", "--force"], USAGE,
             [r"sound\.h5", "same file"]),
            ("map", ["map", "in/result.h5", "-o", "in/result.h5", "--force"], USAGE, [r"result\.h5", "same file"]),
        ])

    def test_options_that_are_wrong(self):
        attend = ["attend", "in/sound.h5", "-o", "out.h5"]
        generate = ["generate", "out.h5", "--tokens", "9"]
        plan = ["plan", "--tokens", "9", "--ranks", "2"]
        self.check([
            ("unknown subcommand", ["atend", "in/sound.h5"], USAGE, ["atend", "attend", "generate"]),
            ("unknown subcommand, far off", ["frobnicate"], USAGE, ["frobnicate", "attend"]),
            ("option before the subcommand", ["--quiet", "attend"], USAGE, ["--quiet"]),
            ("unknown option", attend + ["--frobnicate"], USAGE, ["--frobnicate", "longspan attend --help"]),
            ("unknown letter", attend + ["-x"], USAGE, ["-x"]),
            ("option not taken", attend + ["--dim", "4"], USAGE, ["attend does not take --dim"]),
            ("option not taken by verify", ["verify", "in/sound.h5", "in/result.h5", "--mask", "causal"], USAGE,
             ["verify does not take --mask"]),
            ("option not taken by generate", generate + ["-o", "x.h5"], USAGE, ["generate does not take --output"]),
            ("option of a later version", attend + ["--attention", "linear"], USAGE, ["--attention"]),
            ("no output", ["attend", "in/sound.h5"], USAGE, ["-o", "missing"]),
            ("empty output", ["attend", "in/sound.h5", "-o", ""], USAGE, ["--output", "empty"]),
            ("no value", ["attend", "in/sound.h5", "-o"], USAGE, ["-o", "needs a value"]),
            ("no input", ["attend", "-o", "out.h5"], USAGE, ["too few arguments", r"attend IN\.h5"]),
            ("two inputs", attend + ["more.h5"], USAGE, [r"more\.h5", "one argument too many"]),
            ("given twice", attend + ["--mask", "full", "--mask", "causal"], USAGE, ["--mask is given twice"]),
            ("value for a flag", attend + ["--force=yes"], USAGE, ["--force", "no value"]),
            ("unknown mask", attend + ["--mask", "spiral:7"], USAGE, ["--mask", "spiral:7", "full, causal, window"]),
            ("empty mask", attend + ["--mask", ""], USAGE, ["--mask", "''", "full, causal"]),
            ("mask with an empty part", attend + ["--mask", "causal+"], USAGE, ["--mask", "''", "full, causal"]),
            ("full and more", attend + ["--mask", "causal+full"], USAGE, ["causal\\+full", "full stands alone"]),
            ("two windows", attend + ["--mask", "window:3+window:4"], USAGE, ["window is given twice"]),
            ("window without a number", attend + ["--mask", "window"], USAGE, ["'window'"]),
            ("window of nothing", attend + ["--mask", "window:"], USAGE, ["'window:'", r"window:LEFT\[,RIGHT\]"]),
            ("window below zero", attend + ["--mask", "window:-1"], USAGE, ["'window:-1'", "LEFT"]),
            ("window of three", attend + ["--mask", "window:1,2,3"], USAGE, ["'window:1,2,3'", "LEFT"]),
            ("window beyond int64", attend + ["--mask", "window:9999999999G"], USAGE, ["window:9999999999G"]),
            ("prefix of all", attend + ["--mask", "prefix:all"], USAGE, ["'prefix:all'", "prefix:N"]),
            ("chunk of nothing", attend + ["--mask", "chunk:0"], USAGE, ["'chunk:0'", "SIZE"]),
            ("mask without an end", attend + ["--mask", "x" * 200], USAGE, ["--mask", "not available"]),
            ("mask of lengths", attend + ["--mask", "causal+key_lengths"], USAGE, ["--mask", "/key_lengths"]),
            ("softcap of nothing", attend + ["--softcap", "0"], USAGE, ["--softcap", "'0'"]),
            ("softcap is infinite", attend + ["--softcap", "inf"], USAGE, ["--softcap", "'inf'"]),
            ("rope without a base", attend + ["--rope", ",8"], USAGE, ["--rope", "',8'", r"BASE\[,DIM\]"]),
            ("rope of a base of nothing", attend + ["--rope", "0"], USAGE, ["--rope", "'0'"]),
            ("rope of one element", attend + ["--rope", "1e4,7"], USAGE, ["--rope", "7 elements", "even"]),
            ("rope of no elements", attend + ["--rope", "1e4,0"], USAGE, ["--rope", "0 elements"]),
            ("rope beyond the head", attend + ["--rope", "1e4,16"], USAGE, ["16", "8"]),
            ("rope style alone", attend + ["--rope-style", "half"], USAGE, ["--rope-style needs --rope"]),
            ("unknown rope style", attend + ["--rope", "1e4", "--rope-style", "neox"], USAGE,
             ["--rope-style", "neox", "half or interleaved"]),
            ("unknown share", attend + ["--share", "on"], USAGE, ["--share", "'on' is not auto or off"]),
            ("unknown compute", attend + ["--compute", "fp8"], USAGE, ["--compute", "fp8", "bf16x3"]),
            ("compute that the kernel has not", attend + ["--isa", "portable", "--compute", "bf16"], USAGE,
             ["bf16", "portable"]),
            ("striped by nothing", attend + ["--layout", "striped:0"], USAGE, ["--layout", "striped:0"]),
            ("hybrid of other ranks", attend + ["--strategy", "hybrid:7x9"], USAGE, ["hybrid", "63|7|9"]),
            ("alibi comes with the file", attend + ["--alibi"], USAGE, ["attend does not take --alibi"]),
            ("trace of verify", ["verify", "in/sound.h5", "in/result.h5", "--trace", "t.json"], USAGE, ["--trace"]),
            ("mask documents", attend + ["--mask", "documents"], USAGE, ["--mask", "/documents"]),
            ("unknown strategy", attend + ["--strategy", "halo"], USAGE, ["--strategy", "halo", "ring", "gather", "hybrid:RxC"]),
            ("unknown layout", attend + ["--layout", "spiral"], USAGE, ["--layout", "spiral", "zigzag", "striped:BLOCK"]),
            ("unknown isa", attend + ["--isa", "mmx"], USAGE, ["--isa", "mmx", "portable"]),
            ("unknown type", attend + ["--out-type", "float64"], USAGE, ["--out-type", "float64", "bfloat16"]),
            ("unknown progress", attend + ["--progress", "maybe"], USAGE, ["--progress", "maybe"]),
            ("scale is a word", attend + ["--scale", "big"], USAGE, ["--scale", "big"]),
            ("scale is nan", attend + ["--scale", "nan"], USAGE, ["--scale", "nan"]),
            ("scale is negative", attend + ["--scale=-1"], USAGE, ["--scale", "-1"]),
            ("no threads", attend + ["--threads", "0"], USAGE, ["--threads", "'0'"]),
            ("no tokens", ["generate", "out.h5"], USAGE, ["--tokens is missing"]),
            ("zero tokens", ["generate", "out.h5", "--tokens", "0"], USAGE, ["--tokens", "'0'"]),
            ("negative tokens", ["generate", "out.h5", "--tokens", "-5"], USAGE, ["--tokens", "-5"]),
            ("tokens with a wrong suffix", ["generate", "out.h5", "--tokens", "5T"], USAGE, ["--tokens", "5T", "k, M or G"]),
            ("tokens beyond int64", ["generate", "out.h5", "--tokens", "9999999999G"], USAGE, ["--tokens"]),
            ("more than a file holds", ["generate", "out.h5", "--tokens", "8000000000G"], USAGE, ["--tokens", "2\\^58"]),
            ("dim 513", generate + ["--dim", "513"], USAGE, ["--dim", "513", "512"]),
            ("heads that do not divide", generate + ["--heads", "6", "--kv-heads", "4"], USAGE,
             ["--heads 6", "--kv-heads 4"]),
            ("seed is a word", generate + ["--seed", "lucky"], USAGE, ["--seed", "lucky"]),
            ("embed video", ["embed", "video", "in/book.txt", "-o", "out.h5"], USAGE, ["video", "not available", "text, audio"]),
            ("embed without a kind", ["embed", "in/book.txt", "-o", "out.h5"], USAGE, ["too few arguments"]),
            ("plan without ranks", ["plan", "--tokens", "9"], USAGE, ["--ranks"]),
            ("plan of no bandwidth", plan + ["--bandwidth", "0"], USAGE, ["--bandwidth", "'0'"]),
            ("plan of no ranks", ["plan", "--tokens", "9", "--ranks", "0"], USAGE, ["--ranks", "'0'"]),
            ("plan of heads that do not divide", plan + ["--heads", "6", "--kv-heads", "4"], USAGE, ["6", "4"]),
            ("bench of nothing", ["bench"], USAGE, ["attention"]),
            ("bench of something else", ["bench", "everything", "--tokens", "9"], USAGE, ["everything", "attention"]),
            ("map of no blocks", ["map", "in/result.h5", "-o", "map.svg", "--blocks", "0"], USAGE, ["--blocks"]),
            ("verify of too few rows to mean anything", ["verify", "in/sound.h5", "in/result.h5", "--rows", "63"], USAGE,
             ["--rows", "64"]),
            ("verify of no rows", ["verify", "in/sound.h5", "in/result.h5", "--rows", "0"], USAGE, ["--rows"]),
            ("a line feed in a name", ["attend", "in/line\nfeed.h5", "-o", "out.h5"], FILE, ["line.feed"]),
        ])

    def test_ranks_with_different_command_lines(self):
        """A hang would be the natural outcome: one rank reads where another writes."""
        command = [harness.MPIEXEC, "--quiet", "-np", "1", harness.COMMAND, "generate", "a.h5", "--tokens", "9", ":",
                   "-np", "1", harness.COMMAND, "generate", "b.h5", "--tokens", "9"]
        done = subprocess.run(command, cwd=self.folder, env={**harness.ENVIRONMENT, **os.environ}, capture_output=True,
                              text=True, timeout=harness.TIMEOUT, check=False)
        result = harness.Result(" ".join(command), done.returncode, done.stdout, done.stderr)
        self.assert_refused(result, USAGE, "command line is not the same on every rank")
        self.assertEqual(os.listdir(self.folder), [])

    def test_nan_and_infinity_are_data(self):
        data = sound()
        data["q"][3, 1, 2] = numpy.nan
        data["v"][5, 0, 1] = numpy.inf
        write(self.path("nan.h5"), data)
        self.succeed("attend", "nan.h5", "-o", "out.h5", "--quiet")


if __name__ == "__main__":
    harness.main()
