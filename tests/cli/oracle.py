"""Inputs made with h5py, and attention in numpy's float64: the independent check of what the command writes."""
import h5py
import numpy

ROUNDOFF = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}


def bfloat16_type():
    """1 sign, 8 exponent, 7 mantissa bits, as an HDF5 float type."""
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_size(2)
    kind.set_ebias(127)
    return kind


def rounded(values, kind):
    """float64 values that `kind` holds exactly."""
    values = numpy.asarray(values, "f4")
    if kind == "float16":
        return values.astype("f2").astype("f8")
    if kind == "bfloat16":
        bits = values.view("u4")
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        return bits.astype("u4").view("f4").astype("f8")
    return values.astype("f8")


def write(file, name, values, kind):
    if kind == "bfloat16":
        space = h5py.h5s.create_simple(values.shape)
        dataset = h5py.h5d.create(file.id, name.encode(), bfloat16_type(), space)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, numpy.ascontiguousarray(values, "f4"))
    else:
        file[name] = values.astype({"float32": "f4", "float16": "f2"}[kind])


def make_input(path, tokens, keys=None, heads=2, kv_heads=None, dim=16, value_dim=None, batch=None, kind="float32",
               documents=None, sharpness=1.0, seed=1):
    """Writes q, k, v and returns them as the float64 that the file holds, always with the axis B."""
    keys, kv_heads, value_dim = keys or tokens, kv_heads or heads, value_dim or dim
    random = numpy.random.default_rng(seed)
    lead = () if batch is None else (batch,)
    arrays = {
        "q": sharpness * random.standard_normal(lead + (tokens, heads, dim)),
        "k": random.standard_normal(lead + (keys, kv_heads, dim)),
        "v": random.standard_normal(lead + (keys, kv_heads, value_dim)),
    }
    with h5py.File(path, "w") as file:
        for name in arrays:
            arrays[name] = rounded(arrays[name], kind)
            write(file, name, arrays[name], kind)
        if documents is not None:
            file["documents"] = numpy.array(documents, "i8")
    return [array if batch is not None else array[None] for array in arrays.values()]


def visible(tokens, keys, causal, documents=None):
    """[N, M]: does the query see the key?"""
    i, j = numpy.arange(tokens)[:, None], numpy.arange(keys)[None, :]
    seen = j <= i + (keys - tokens) if causal else numpy.ones((tokens, keys), bool)
    if documents is not None:
        of = numpy.searchsorted(numpy.array(documents)[1:], numpy.arange(tokens), side="right")
        seen = seen & (of[:, None] == of[None, :])
    return seen


def attention(q, k, v, seen, scale=None):
    """out [B, N, H, E] and lse [B, N, H]; a row that sees nothing: 0 and -inf."""
    scale = scale or q.shape[3] ** -0.5
    shared = q.shape[2] // k.shape[2]
    k, v = numpy.repeat(k, shared, 2), numpy.repeat(v, shared, 2)
    scores = scale * numpy.einsum("bihd,bjhd->bhij", q, k)
    scores = numpy.where(seen, scores, -numpy.inf)
    largest = scores.max(3, keepdims=True)
    largest = numpy.where(numpy.isneginf(largest), 0, largest)
    weights = numpy.exp(scores - largest)
    sums = weights.sum(3, keepdims=True)
    with numpy.errstate(divide="ignore"):
        lse = (largest + numpy.log(sums))[..., 0]
    out = numpy.einsum("bhij,bjhe->bihe", weights / numpy.where(sums > 0, sums, 1), v)
    return out, lse.transpose(0, 2, 1)


def read_result(path):
    """out and lse as float64 with the axis B, and the attributes."""
    with h5py.File(path) as file:
        out, lse = file["out"][...].astype("f8"), file["lse"][...].astype("f8")
        attributes = dict(file.attrs)
    return (out, lse, attributes) if out.ndim == 4 else (out[None], lse[None], attributes)


def relative_rms(value, reference):
    return float(numpy.sqrt(numpy.sum((value - reference) ** 2) / numpy.sum(reference**2)))
