"""Linear attention token by token in numpy's float64, from the papers' equations: a second oracle, beside the one in
kernels/, of what `attend --attention NAME` writes. All arrays have the axis B."""
import h5py
import numpy
import oracle

NORMALISED = {"elu": 1e-6, "taylor": 1e-6, "favor": 0.0, "based": 0.0, "efficient": 0.0}
TWO_SIDED = ("elu", "taylor", "favor", "based", "efficient")
DELTA = ("delta", "gated-delta", "kda")
TOKEN_DECAY = ("ssd", "gated-delta")
FEATURE_DECAY = ("gla", "rwkv6", "kda")
HAS_BETA = ("ssd",) + DELTA
SCALED = ("favor", "based", "retention", "gla") + DELTA
VARIANTS = ("elu", "taylor", "favor", "based", "efficient", "retention", "lightning", "ssd", "gla", "rwkv6") + DELTA


def make_input(path, variant, tokens, heads=(4, 2, 4), dim=8, value_dim=5, batch=None, kind="float32", documents=None,
               features=12, seed=1):
    """Writes what the variant reads and returns it as the file holds it, by name. heads: of q, k, v."""
    random = numpy.random.default_rng(seed)
    lead, all_heads = () if batch is None else (batch,), max(heads)
    k = random.standard_normal(lead + (tokens, heads[1], dim))
    if variant in DELTA:
        k /= numpy.linalg.norm(k, axis=-1, keepdims=True)
    tensors = {"q": random.standard_normal(lead + (tokens, heads[0], dim)), "k": k,
               "v": random.standard_normal(lead + (tokens, heads[2], value_dim))}
    extra = {}
    if variant == "lightning":
        extra["log_decay"] = -0.3 * random.random(all_heads)
    if variant in TOKEN_DECAY:
        extra["log_decay"] = -0.2 * random.random(lead + (tokens, all_heads))
    if variant in FEATURE_DECAY:
        extra["log_decay"] = -0.2 * random.random(lead + (tokens, all_heads, dim))
    if "log_decay" in extra and variant != "lightning":  # strong ones, and some that forget
        strength = random.random(extra["log_decay"].shape)
        extra["log_decay"] = numpy.where(strength < 0.02, -9.0, extra["log_decay"])
        extra["log_decay"] = numpy.where(strength < 0.002, -numpy.inf, extra["log_decay"])
    if variant in HAS_BETA:
        extra["beta"] = random.random(lead + (tokens, all_heads))
    if variant == "rwkv6":
        extra["bonus"] = random.standard_normal((all_heads, dim))
    if variant == "favor":
        extra["features"] = random.standard_normal((features, dim))
    with h5py.File(path, "w") as file:
        for name in tensors:
            tensors[name] = oracle.rounded(tensors[name], kind)
            oracle.write(file, name, tensors[name], kind)
        for name in extra:
            file[name] = extra[name].astype("f4")
            extra[name] = file[name][...].astype("f8")
        if documents is not None:
            file["documents"] = numpy.array(documents, "i8")
    made = {**tensors, **extra}
    per_token = ("q", "k", "v", "beta") + (("log_decay",) if variant != "lightning" else ())
    return {name: array[None] if batch is None and name in per_token else array for name, array in made.items()}


def feature_map(variant, x, scale, made):
    """phi of vectors x [..., D]."""
    if variant == "elu":
        return numpy.where(x > 0, x + 1, numpy.exp(numpy.minimum(x, 0)))
    if variant == "taylor":
        unit = x / numpy.linalg.norm(x, axis=-1, keepdims=True)
        return numpy.concatenate([numpy.ones_like(x[..., :1]), unit], -1)
    if variant == "favor":
        x, w = x * scale**0.5, made["features"]
        return numpy.exp(x @ w.T - (x**2).sum(-1, keepdims=True) / 2) / len(w) ** 0.5
    if variant == "based":
        x = x * scale**0.5
        pairs = (x[..., :, None] * x[..., None, :]).reshape(x.shape[:-1] + (-1,)) / 2**0.5
        return numpy.concatenate([numpy.ones_like(x[..., :1]), x, pairs], -1)
    return x


def decays(variant, made, tokens, heads, dim, b):
    """[N, H, D] factors."""
    if variant == "retention":
        each = numpy.log(1 - 2.0 ** (-5 - numpy.arange(heads)))[None, :, None]
    elif variant == "lightning":
        each = made["log_decay"][None, :, None]
    elif variant in TOKEN_DECAY:
        each = made["log_decay"][b][:, :, None]
    elif variant in FEATURE_DECAY:
        each = made["log_decay"][b]
    else:
        return numpy.ones((tokens, heads, 1))
    return numpy.exp(numpy.broadcast_to(each, (tokens, heads, each.shape[2])))


def head_out(variant, q, k, v, decay, beta, bonus, causal, epsilon):
    """One head over one document: features q, k [n, F], v [n, E], decay [n, 1 or F], beta [n] or None."""
    tokens, width = v.shape
    if variant == "efficient":
        q = numpy.exp(q) / numpy.exp(q).sum(-1, keepdims=True)
        weights = numpy.exp(k)
        sums = lambda x: numpy.cumsum(x, 0) if causal else numpy.broadcast_to(x.sum(0), x.shape)  # noqa: E731
        context = sums(weights[:, :, None] * v[:, None, :]) / sums(weights)[:, :, None]
        return numpy.einsum("nf,nfe->ne", q, context)
    if variant in NORMALISED:
        weights = q @ k.T
        if causal:
            weights = numpy.tril(weights)
        whole = weights.sum(1) + (epsilon * q[:, 1:].sum(1) if variant == "taylor" else epsilon)
        return (weights @ v) / whole[:, None]
    state, out = numpy.zeros((k.shape[1], width)), numpy.zeros((tokens, width))
    for t in range(tokens):
        write = k[t] if beta is None else beta[t] * k[t]
        if variant == "rwkv6":
            out[t] = (state + (bonus * k[t])[:, None] * v[t]).T @ q[t]
        state = decay[t][:, None] * state
        if variant in DELTA:
            state = state - numpy.outer(write, k[t] @ state)
        state = state + numpy.outer(write, v[t])
        if variant != "rwkv6":
            out[t] = state.T @ q[t]
    return out


def attention(variant, made, causal=True, documents=None, scale=None):
    """out [B, N, H, E]."""
    q, k, v = made["q"], made["k"], made["v"]
    heads, (batch, tokens, _, dim) = max(q.shape[2], k.shape[2], v.shape[2]), q.shape
    scale = scale or (dim**-0.5 if variant in SCALED else 1.0)
    documents = documents or [0, tokens]
    out = numpy.zeros((batch, tokens, heads, v.shape[3]))
    for b in range(batch):
        decay = decays(variant, made, tokens, heads, dim, b)
        for h in range(heads):
            mine = [x[b][:, h // (heads // x.shape[2])] for x in (q, k, v)]
            before = scale if variant in ("elu", "efficient") else 1.0  # q's scale, before its features
            a, c = feature_map(variant, before * mine[0], scale, made), feature_map(variant, mine[1], scale, made)
            if variant not in NORMALISED:
                a = scale * a
            beta = made["beta"][b][:, h] if "beta" in made else None
            bonus = made["bonus"][h] if "bonus" in made else None
            for begin, end in zip(documents[:-1], documents[1:]):
                rows = slice(begin, end)
                out[b, rows, h] = head_out(variant, a[rows], c[rows], mine[2][rows], decay[rows, h],
                                           None if beta is None else beta[rows], bonus, causal,
                                           NORMALISED.get(variant, 0.0))
    return out
