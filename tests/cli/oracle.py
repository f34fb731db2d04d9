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
               documents=None, key_lengths=None, slopes=None, sinks=None, relative=None, sharpness=1.0, seed=1):
    """Writes q, k, v and what else is given, and returns the three as the float64 that the file holds, always with the
    axis B."""
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
        if key_lengths is not None:
            file["key_lengths"] = numpy.array(key_lengths, "i4")
        if slopes is not None:
            file["alibi_slopes"] = numpy.array(slopes, "f4")
        if sinks is not None:
            file["sinks"] = numpy.array(sinks, "f4")
        if relative is not None:
            for name, values in zip(("relative_keys", "relative_bias_u", "relative_bias_w"), relative[1:]):
                file[name] = numpy.array(values, "f4")
    return [array if batch is not None else array[None] for array in arrays.values()]


def visible(tokens, keys, rule, documents=None):
    """[N, M]: does the query see the key? `rule` is a function of p and j, positions of the query among the keys and of
    the key, both from the start of the document, and may say how often, of each head; True stands for causal, False for
    full."""
    if rule in (True, False):
        causal = rule
        rule = lambda p, j: (j <= p) | (not causal)  # noqa: E731
    i, j = numpy.arange(tokens)[:, None], numpy.arange(keys)[None, :]
    if documents is None:
        return rule(i + (keys - tokens), j)
    of = numpy.searchsorted(numpy.array(documents)[1:], numpy.arange(tokens), side="right")
    begin = numpy.array(documents)[of]
    return (of[:, None] == of[None, :]) * rule(i - begin[:, None], j - begin[:, None])


def turned(x, positions, base, dim, interleaved):
    """RoPE of x [B, T, heads, D] by the definition: pair c of dim / 2 turns by p base^(-2c / dim)."""
    x = x.copy()
    for c in range(dim // 2):
        first, second = (2 * c, 2 * c + 1) if interleaved else (c, c + dim // 2)
        angle = (positions * base ** (-2.0 * c / dim))[:, None]
        a, b = x[..., first].copy(), x[..., second].copy()
        x[..., first] = a * numpy.cos(angle) - b * numpy.sin(angle)
        x[..., second] = a * numpy.sin(angle) + b * numpy.cos(angle)
    return x


def attention(q, k, v, seen, scale=None, softcap=None, slopes=None, sinks=None, rope=None, key_lengths=None,
              relative=None):
    """out [B, N, H, E] and lse [B, N, H]; a row that sees nothing: 0 and -inf. `seen`: whether, or how often. rope: base,
    dim, interleaved. relative: LEFT, the table [LEFT + RIGHT + 1, H, D] and, unless left out, u and w [H, D]."""
    scale = scale or q.shape[3] ** -0.5
    shared = q.shape[2] // k.shape[2]
    p, j = numpy.arange(q.shape[1]) + k.shape[1] - q.shape[1], numpy.arange(k.shape[1])
    if rope is not None:
        q, k = turned(q, p, *rope), turned(k, j, *rope)
    k, v = numpy.repeat(k, shared, 2), numpy.repeat(v, shared, 2)
    scores = scale * numpy.einsum("bihd,bjhd->bhij", q, k)
    if relative is not None:
        left, table, u, w = (*relative, 0.0, 0.0)[:4]
        row = left - (p[:, None] - j[None, :])
        inside = (row >= 0) & (row < len(table))
        position = scale * numpy.einsum("bihd,chd->bhic", q + w, table)
        position = numpy.take_along_axis(position, numpy.where(inside, row, 0)[None, None].repeat(q.shape[2], 1).repeat(
            q.shape[0], 0), 3)
        content = scale * numpy.einsum("bihd,bjhd->bhij", numpy.broadcast_to(q * 0 + u, q.shape), k)
        scores = scores + numpy.where(inside, content + position, 0)
    if softcap is not None:
        scores = softcap * numpy.tanh(scores / softcap)
    if slopes is not None:
        scores = scores - numpy.array(slopes, "f4").astype("f8")[:, None, None] * numpy.abs(p[:, None] - j[None, :])
    if key_lengths is not None:
        seen = seen & (j[None, None, None, :] < numpy.array(key_lengths)[:, None, None, None])
    scores = numpy.where(seen, scores + numpy.log(numpy.maximum(seen, 1)), -numpy.inf)
    if sinks is not None:
        column = numpy.broadcast_to(numpy.array(sinks, "f4").astype("f8")[:, None, None], scores.shape[:3] + (1,))
        scores = numpy.concatenate([scores, column], 3)
        v = numpy.concatenate([v, numpy.zeros_like(v[:, :1])], 1)
    largest = scores.max(3, keepdims=True)
    largest = numpy.where(numpy.isneginf(largest), 0, largest)
    weights = numpy.exp(scores - largest)
    sums = weights.sum(3, keepdims=True)
    with numpy.errstate(divide="ignore"):
        lse = (largest + numpy.log(sums))[..., 0]
    out = numpy.einsum("bhij,bjhe->bihe", weights / numpy.where(sums > 0, sums, 1), v)
    return out, lse.transpose(0, 2, 1)


def check(case, path, reference, kind, context=""):
    """The result at `path` against out and lse of attention(), in a unittest case; returns its relative RMS error."""
    out, lse, _ = read_result(path)
    exact, exact_lse = reference
    case.assertEqual(out.shape, exact.shape, context)
    # Scores of at most about 10 and values of about 4: errors beside the rounding of out stay below 1e-5.
    over = numpy.abs(out - exact) - ROUNDOFF[kind] * numpy.abs(exact)
    case.assertLess(over.max(), 1e-5, context)
    empty = numpy.isneginf(exact_lse)
    case.assertTrue(numpy.array_equal(numpy.isneginf(lse), empty), context)
    case.assertTrue((out[empty] == 0).all(), context)
    if not empty.all():
        case.assertLess(numpy.abs(lse[~empty] - exact_lse[~empty]).max(), 1e-5, context)
    error = relative_rms(out, exact) if numpy.any(exact) else 0.0
    case.assertLess(error, 1e-6 if kind == "float32" else ROUNDOFF[kind], context)
    return error


def read_result(path):
    """out and lse as float64 with the axis B, and the attributes."""
    with h5py.File(path) as file:
        out, lse = file["out"][...].astype("f8"), file["lse"][...].astype("f8")
        attributes = dict(file.attrs)
    return (out, lse, attributes) if out.ndim == 4 else (out[None], lse[None], attributes)


def relative_rms(value, reference):
    return float(numpy.sqrt(numpy.sum((value - reference) ** 2) / numpy.sum(reference**2)))
