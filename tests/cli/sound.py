"""Sound files for the tests: WAV by hand, the others by LONGSPAN_MAKE_AUDIO, the program of tests/io/make_audio.c."""
import os
import struct
import subprocess

import numpy

MAKE_AUDIO = os.environ.get("LONGSPAN_MAKE_AUDIO", "build/tests/io/longspan_make_audio")
PCM, FLOAT = 1, 3


def chunk(name, body, size=None, order="<"):
    return name + struct.pack(order + "I", len(body) if size is None else size) + body + b"\0" * (len(body) % 2)


def format_chunk(tag=PCM, channels=1, rate=16000, bits=16, align=None, order="<"):
    align = channels * bits // 8 if align is None else align
    return chunk(b"fmt ", struct.pack(order + "HHIIHH", tag, channels, rate, rate * align & 0xffffffff, align, bits),
                 order=order)


def riff(*chunks, magic=b"RIFF", kind=b"WAVE", order="<"):
    body = kind + b"".join(chunks)
    return magic + struct.pack(order + "I", len(body)) + body


def wav(samples, rate=16000):
    """samples [frames] or [frames, channels] of int16, float32 or float64."""
    samples = numpy.asarray(samples)
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    tag = PCM if samples.dtype == numpy.int16 else FLOAT
    return riff(format_chunk(tag, channels, rate, samples.dtype.itemsize * 8), chunk(b"data", samples.tobytes()))


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def make(path, kind, rate, samples):
    """samples as above, of anything, as a file of `kind`, a name of make_audio.c."""
    samples = numpy.asarray(samples, "f4")
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    subprocess.run([MAKE_AUDIO, kind, str(rate), str(channels), path], input=samples.tobytes(), check=True, timeout=120)


def noise(frames, seed, channels=None):
    shape = frames if channels is None else (frames, channels)
    return 0.1 * numpy.random.default_rng(seed).standard_normal(shape)


def log_mel(x, window=400, hop=160, fft=512, mels=80, low=0.0, high=8000.0):
    """The frames of io/log_mel.h for 16 kHz samples, from the definition: a transform by its matrix, in float64."""
    frames = -(-len(x) // hop)
    padded = numpy.concatenate([numpy.zeros(window // 2), x, numpy.zeros(window + hop)])
    taper = numpy.sin(numpy.pi * numpy.arange(window) / window) ** 2
    turns = numpy.outer(numpy.arange(window), numpy.arange(fft // 2 + 1)) % fft * (2 * numpy.pi / fft)
    pieces = numpy.stack([padded[t * hop:t * hop + window] for t in range(frames)]) * taper
    power = (pieces @ numpy.cos(turns)) ** 2 + (pieces @ numpy.sin(turns)) ** 2

    def mel(f):
        return f * 3 / 200 if f < 1000 else 15 + 27 * numpy.log(f / 1000) / numpy.log(6.4)
    points = numpy.linspace(mel(low), mel(high), mels + 2)
    edges = numpy.where(points < 15, points * 200 / 3, 1000 * 6.4 ** ((points - 15) / 27))
    bins = numpy.arange(fft // 2 + 1) * 16000 / fft
    filters = numpy.stack([numpy.interp(bins, edges[b:b + 3], [0, 2 / (edges[b + 2] - edges[b]), 0])
                           for b in range(mels)])
    return numpy.log(numpy.maximum(power @ filters.T, 1e-10))


def means(frames, every):
    return numpy.stack([frames[t:t + every].mean(axis=0) for t in range(0, len(frames), every)])
