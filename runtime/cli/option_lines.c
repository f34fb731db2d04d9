#include "runtime/cli/option_lines.h"

#include "io/log_mel.h"
#include "io/tensor_file.h"
#include "kernels/attention.h"
#include "kernels/entmax.h"
#include "partition/linear_schedule.h"
#include "partition/patterns.h"
#include "partition/schedule.h"
#include "runtime/cli/attention_option.h"
#include "runtime/cli/entmax_option.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void complain(complaint *why, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void complain(complaint *why, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why->text, sizeof why->text, format, arguments);
    va_end(arguments);
}

static void *field(options *o, size_t offset)
{
    return (char *)o + offset;
}

bool options_size(const char *text, int64_t *value_p)
{
    int64_t value = 0, unit = 1;
    if (!isdigit((unsigned char)*text)) return false;
    for (; isdigit((unsigned char)*text); text++)
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, *text - '0', &value))
            return false;
    if (*text == 'k') unit = INT64_C(1) << 10;
    else if (*text == 'M') unit = INT64_C(1) << 20;
    else if (*text == 'G') unit = INT64_C(1) << 30;
    if (unit > 1) text++;
    if (*text != '\0' || __builtin_mul_overflow(value, unit, &value)) return false;
    *value_p = value;
    return true;
}

static bool read_flag(const option_line *line, const char *text, options *o, complaint *why)
{
    (void)text, (void)why;
    *(bool *)field(o, line->offset) = true;
    return true;
}

static bool read_text(const option_line *line, const char *text, options *o, complaint *why)
{
    if (*text == '\0') {
        complain(why, "the name is empty");
        return false;
    }
    *(const char **)field(o, line->offset) = text;
    return true;
}

/* A number in [least, most]. */
static bool parse_count(const option_line *line, const char *text, int64_t *value_p, complaint *why)
{
    if (!options_size(text, value_p)) {
        complain(why, "'%s' is not a whole number, with or without the suffix k, M or G", text);
        return false;
    }
    if (*value_p >= line->least && *value_p <= line->most) return true;
    if (line->most == INT64_MAX) complain(why, "'%s' is less than %lld", text, (long long)line->least);
    else complain(why, "'%s' is not between %lld and %lld", text, (long long)line->least, (long long)line->most);
    return false;
}

static bool read_count(const option_line *line, const char *text, options *o, complaint *why)
{
    return parse_count(line, text, field(o, line->offset), why);
}

/* Lengths separated by commas, to offsets. */
static bool read_documents(const option_line *line, const char *text, options *o, complaint *why)
{
    char part[32];
    int64_t count = 1;
    for (const char *c = text; *c; c++) count += *c == ',';
    o->documents = calloc((size_t)count + 1, sizeof *o->documents);
    if (!o->documents) {
        complain(why, "out of memory");
        return false;
    }
    for (o->document_count = 0; o->document_count < count; text += strcspn(text, ",") + 1) {
        int64_t length, *end = &o->documents[o->document_count];
        snprintf(part, sizeof part, "%.*s", (int)strcspn(text, ","), text);
        if (!parse_count(line, part, &length, why)) return false;
        if (__builtin_add_overflow(end[0], length, &end[1])) {
            complain(why, "the lengths together are too large");
            return false;
        }
        o->document_count++;
    }
    return true;
}

static bool read_int(const option_line *line, const char *text, options *o, complaint *why)
{
    int64_t value;
    if (!parse_count(line, text, &value, why)) return false;
    *(int *)field(o, line->offset) = (int)value;
    return true;
}

static bool read_seed(const option_line *line, const char *text, options *o, complaint *why)
{
    int64_t value;
    if (!parse_count(line, text, &value, why)) return false;
    *(uint64_t *)field(o, line->offset) = (uint64_t)value;
    return true;
}

/* A finite number >= 0, and > 0 where `least` is 1. */
static bool read_number(const option_line *line, const char *text, options *o, complaint *why)
{
    char *end;
    const double value = strtod(text, &end);
    if (end == text || *end != '\0' || isspace((unsigned char)*text) || !isfinite(value) || value < 0 ||
        (line->least > 0 && value == 0)) {
        complain(why, "'%s' is not a number %s 0", text, line->least > 0 ? "above" : "of at least");
        return false;
    }
    *(double *)field(o, line->offset) = value;
    return true;
}

static bool read_type(const option_line *line, const char *text, options *o, complaint *why)
{
    io_type type;
    if (!io_type_from_name(text, &type)) {
        complain(why, "'%s' is not a type: there are float32, float16, bfloat16", text);
        return false;
    }
    *(longspan_type *)field(o, line->offset) = (longspan_type)type;
    *(bool *)field(o, line->given) = true;
    return true;
}

static bool read_mask(const option_line *line, const char *text, options *o, complaint *why)
{
    mask_choice mask;
    if (!mask_choice_parse(text, &mask, why->text, sizeof why->text)) return false;
    if (mask.documents || mask.key_lengths) {
        complain(why, "'%s': %s come with the file, as /%s", text, mask.documents ? "packed documents" : "key lengths",
                 mask.documents ? "documents" : "key_lengths");
        return false;
    }
    *(mask_choice *)field(o, line->offset) = mask;
    *(bool *)field(o, line->given) = true;
    return true;
}

static bool read_pattern(const option_line *line, const char *text, options *o, complaint *why)
{
    pattern_choice choice;
    *(const char **)field(o, line->offset) = text;
    return pattern_choice_parse(text, &choice, why->text);
}

/* BASE[,DIM] */
static bool read_rope(const option_line *line, const char *text, options *o, complaint *why)
{
    char *end;
    const double base = strtod(text, &end);
    int64_t dim = 0;
    const bool base_fits = end != text && isdigit((unsigned char)*text) && isfinite(base) && base > 0;
    if (!base_fits || (*end != '\0' && *end != ',') || (*end == ',' && !options_size(end + 1, &dim))) {
        complain(why, "'%s' is not BASE[,DIM] with a base above 0 and how many elements turn", text);
        return false;
    }
    if (*end == ',' && (dim < line->least || dim > line->most || dim % 2 != 0)) {
        complain(why, "'%s': %lld elements cannot turn in pairs: an even number from %lld to %lld is needed", text,
                 (long long)dim, (long long)line->least, (long long)line->most);
        return false;
    }
    o->rope_base = base;
    o->rope_dim = (int)dim;
    return true;
}

/* LEFT,RIGHT */
static bool read_relative(const option_line *line, const char *text, options *o, complaint *why)
{
    char left[32];
    const size_t length = strcspn(text, ",");
    snprintf(left, sizeof left, "%.*s", (int)length, text);
    o->relative = text[length] == ',' && options_size(left, &o->relative_left) &&
                  options_size(text + length + 1, &o->relative_right) && o->relative_left <= line->most &&
                  o->relative_right <= line->most;
    if (!o->relative)
        complain(why, "'%s' is not LEFT,RIGHT with the window's numbers of keys, up to %lld", text,
                 (long long)line->most);
    return o->relative;
}

/* The place of `text` among `count` words, or -1 with a complaint that lists them. */
static int read_word(const char *text, const char *const *words, int count, complaint *why)
{
    for (int i = 0; i < count; i++)
        if (strcmp(text, words[i]) == 0) return i;
    complain(why, "'%s' is not", text);
    for (int i = 0; i < count; i++) {
        const size_t length = strlen(why->text);
        const char *separator = i == 0 ? " " : i < count - 1 ? ", " : " or ";
        snprintf(why->text + length, sizeof why->text - length, "%s%s", separator, words[i]);
    }
    return -1;
}

static bool read_rope_style(const option_line *line, const char *text, options *o, complaint *why)
{
    static const char *const words[] = {"half", "interleaved"};
    const int word = read_word(text, words, 2, why);
    *(bool *)field(o, line->offset) = word == 1;
    return word >= 0;
}

static bool read_share(const option_line *line, const char *text, options *o, complaint *why)
{
    static const char *const words[] = {"auto", "off"};
    const int word = read_word(text, words, 2, why);
    *(bool *)field(o, line->offset) = word == 0;
    return word >= 0;
}

static bool read_progress(const option_line *line, const char *text, options *o, complaint *why)
{
    (void)line;
    static const char *const words[] = {"auto", "on", "off"};
    static const progress_wish wishes[] = {PROGRESS_AUTO, PROGRESS_ON, PROGRESS_OFF};
    const int word = read_word(text, words, 3, why);
    if (word >= 0) o->progress = wishes[word];
    return word >= 0;
}

/* Names are looked up in the tables of the layers below: a new line there needs nothing here. */
static void complain_of_name(complaint *why, const char *text)
{
    complain(why, "'%s' is not available: there are auto", text);
}

static void complain_add(complaint *why, const char *name)
{
    const size_t length = strlen(why->text);
    snprintf(why->text + length, sizeof why->text - length, ", %s", name);
}

static bool read_attention(const option_line *line, const char *text, options *o, complaint *why)
{
    const linear_variant **variant = field(o, line->offset);
    *variant = linear_variant_find(text);
    if (*variant || strcmp(text, "softmax") == 0) return true;
    const bool entmax = strncmp(text, "entmax", strlen("entmax")) == 0;
    if (entmax_option_parse(text, &o->alpha)) return true;
    if (entmax && text[strlen("entmax")] == ':') {
        complain(why, "'%s': the alpha of entmax is from %g to 2", text, entmax_least_alpha);
        return false;
    }
    complain(why, "'%s' is not available: there are softmax, sparsemax, entmax[:ALPHA]", text);
    for (int i = 0; i < linear_variant_count; i++) complain_add(why, linear_variants[i]->name);
    return false;
}

/* Of softmax attention or of the linear family: which it must be depends on --attention. */
static bool read_strategy(const option_line *line, const char *text, options *o, complaint *why)
{
    int rows, columns;
    complaint linear;
    *(const char **)field(o, line->offset) = text;
    if (strcmp(text, "auto") == 0 || strategy_find(text, &rows, &columns) || linear_strategy_find(text)) return true;
    complain_of_name(why, text);
    for (int i = 0; i < strategy_count; i++) complain_add(why, strategies[i]->name);
    complain_add(why, "hybrid:RxC");
    complain(&linear, "%s; with a linear --attention auto", why->text);
    for (int i = 0; i < linear_strategy_count; i++) complain_add(&linear, linear_strategies[i]->name);
    *why = linear;
    return false;
}

static bool read_layout(const option_line *line, const char *text, options *o, complaint *why)
{
    layout_kind kind;
    int64_t block;
    *(const char **)field(o, line->offset) = text;
    if (strcmp(text, "auto") == 0 || layout_from_name(text, &kind, &block)) return true;
    complain_of_name(why, text);
    for (kind = LAYOUT_CONTIGUOUS; kind <= LAYOUT_STRIPED; kind++) complain_add(why, layout_name(kind));
    complain_add(why, "striped:BLOCK");
    return false;
}

static bool read_compute(const option_line *line, const char *text, options *o, complaint *why)
{
    attention_compute compute;
    *(const char **)field(o, line->offset) = text;
    if (strcmp(text, "auto") == 0 || attention_compute_from_name(text, &compute)) return true;
    complain_of_name(why, text);
    for (int i = 0; i < COMPUTE_COUNT; i++) complain_add(why, attention_compute_name((attention_compute)i));
    return false;
}

static bool read_isa(const option_line *line, const char *text, options *o, complaint *why)
{
    *(const char **)field(o, line->offset) = text;
    if (strcmp(text, "auto") == 0 || attention_kernel_find(text)) return true;
    complain_of_name(why, text);
    for (int i = 0; i < attention_kernel_count; i++) complain_add(why, attention_kernels[i]->name);
    return false;
}

enum { MOST_HEADS = 1 << 20, MOST_DIM = 512, MOST_THREADS = 1 << 16, MOST_RANKS = 1 << 24 };
enum { MOST_BLOCKS = 4096, MOST_REPEAT = 1000000 };

#define AT(member) .offset = offsetof(options, member)
#define GIVEN(member) .given = offsetof(options, member)

const option_line option_lines[] = {
    {"output", 'o', TAKES_OUTPUT | TAKES_KEEP, read_text, AT(output), .value = "FILE", .help = "the file to write"},
    {"force", 0, TAKES_OUTPUT | TAKES_FORCE, read_flag, AT(force), .help = "replace an existing output"},
    {"tokens", 0, TAKES_SHAPE | TAKES_LIST, read_count, AT(tokens), .least = 1, .most = INT64_MAX, .value = "N",
     .help = "query tokens (required)"},
    {"keys", 0, TAKES_SHAPE, read_count, AT(keys), .least = 1, .most = INT64_MAX, .value = "M",
     .help = "key tokens (as --tokens)"},
    {"heads", 0, TAKES_SHAPE | TAKES_HEADS, read_int, AT(heads), .least = 1, .most = MOST_HEADS, .value = "H",
     .help = "query heads"},
    {"kv-heads", 0, TAKES_SHAPE, read_int, AT(kv_heads), .least = 1, .most = MOST_HEADS, .value = "G",
     .help = "key/value heads, a divisor of H (as --heads)"},
    {"value-heads", 0, TAKES_SHAPE, read_int, AT(value_heads), .least = 1, .most = MOST_HEADS, .value = "V",
     .help = "value heads, where a linear --attention has another number of them (as --kv-heads)"},
    {"dim", 0, TAKES_SHAPE | TAKES_HEADS | TAKES_LIST, read_int, AT(dim), .least = 1, .most = MOST_DIM, .value = "D",
     .help = "head size of queries and keys, 1 to 512 (64)"},
    {"value-dim", 0, TAKES_SHAPE | TAKES_HEADS, read_int, AT(value_dim), .least = 1, .most = MOST_DIM, .value = "E",
     .help = "head size of values, 1 to 512 (as --dim)"},
    {"features", 0, TAKES_SHAPE, read_int, AT(features), .least = 1, .most = LINEAR_FEATURES_MAX, .value = "M",
     .help = "features that --attention favor projects on (as --dim)"},
    {"batch", 0, TAKES_SHAPE, read_count, AT(batch), .least = 1, .most = INT64_MAX, .value = "B",
     .help = "batch items (1)"},
    {"type", 0, TAKES_TYPE, read_type, AT(type), GIVEN(type_given), .value = "TYPE",
     .help = "of q, k and v: float32, float16, bfloat16 (float32)"},
    {"out-type", 0, TAKES_OUT_TYPE, read_type, AT(out_type), GIVEN(out_type_given), .value = "TYPE",
     .help = "of the result: float32, float16, bfloat16 (as q)"},
    {"attention", 0, TAKES_ATTENTION, read_attention, AT(linear), .value = "NAME",
     .help = "softmax, sparsemax, entmax[:ALPHA] (ALPHA 1.5), or of the linear family (softmax):",
     .listed = attention_option_listed},
    {"support", 0, TAKES_ATTENTION, read_int, AT(support), .least = 1, .most = ENTMAX_MOST_SUPPORT, .value = "N",
     .help = "entmax: keys kept of each query and head, 8 bytes each; more keys of nonzero weight take more\n"
             "passes over the keys (128)"},
    {"state", 0, TAKES_STATE, read_flag, AT(state),
     .help = "write /state, from which a linear --attention can go on with the tokens after these"},
    {"mask", 0, TAKES_MASK, read_mask, AT(mask), GIVEN(mask_given), .value = "MASK",
     .help = "full, causal, window:LEFT[,RIGHT], prefix:N, chunk:SIZE[,LEFT[,RIGHT]], joined by +\n"
             "(full; causal where --attention is linear)"},
    {"pattern", 0, TAKES_PATTERN, read_pattern, AT(pattern), .value = "PATTERN",
     .help = "a sparse pattern, which keys must pass beside the mask: see below (none)"},
    {"score-scale", 0, TAKES_LIST, read_int, AT(score_scale), .least = 1, .most = INT32_MAX, .value = "X",
     .help = "shapes whose scores are X times larger than q.k / sqrt(D) (bench kernels)"},
    {"scale", 0, TAKES_SCORES, read_number, AT(scale), .least = 1, .value = "X",
     .help = "factor of the scores, or of linear attention's q (1 / sqrt(D); of some variants 1)"},
    {"softcap", 0, TAKES_SCORES, read_number, AT(softcap), .least = 1, .value = "X",
     .help = "scores s become X tanh(s / X) (as they are)"},
    {"rope", 0, TAKES_SCORES, read_rope, .least = 2, .most = MOST_DIM, .value = "BASE[,DIM]",
     .help = "turn the first DIM elements of q and k by their positions (none; DIM: all)"},
    {"rope-style", 0, TAKES_SCORES, read_rope_style, AT(rope_interleaved), .value = "STYLE",
     .help = "half: elements c and c + DIM/2 turn together; interleaved: 2c and 2c + 1 (half)"},
    {"documents", 0, TAKES_DOCUMENTS, read_documents, .most = INT64_MAX, .value = "LENGTHS",
     .help = "packed documents of so many tokens each, separated by commas, N together (one)"},
    {"alibi", 0, TAKES_HEAD_VALUES, read_flag, AT(alibi), .help = "ALiBi with the slopes 2^(-8 h / H), h = 1 to H"},
    {"sinks", 0, TAKES_HEAD_VALUES, read_flag, AT(sinks), .help = "a random sink for each head"},
    {"relative", 0, TAKES_RELATIVE, read_relative, .most = 1 << 24, .value = "LEFT,RIGHT",
     .help = "random relative keys and biases for a window of LEFT keys before a query and RIGHT after it"},
    {"strategy", 0, TAKES_STRATEGY, read_strategy, AT(strategy), .value = "NAME",
     .help = "how keys and values, or states, travel (auto)"},
    {"layout", 0, TAKES_STRATEGY, read_layout, AT(layout), .value = "NAME",
     .help = "which rank holds which tokens: contiguous, zigzag, striped[:BLOCK] (auto)"},
    {"share", 0, TAKES_SHARE, read_share, AT(share), .value = "WHEN",
     .help = "whether ranks of a node read each other's keys in place: auto or off (auto)"},
    {"compute", 0, TAKES_ARITHMETIC, read_compute, AT(compute), .value = "NAME",
     .help = "arithmetic of the products: fp32, bf16x6, bf16x3, bf16 (auto: loses nothing of the type;\n"
             "fp32 where a key head has 16 query rows or fewer)"},
    {"isa", 0, TAKES_COMPUTE, read_isa, AT(isa), .value = "NAME", .help = "instruction set of the kernel (auto)"},
    {"threads", 0, TAKES_COMPUTE | TAKES_THREADS, read_int, AT(threads), .least = 1, .most = MOST_THREADS, .value = "N",
     .help = "threads a rank (OMP_NUM_THREADS, else the CPUs it may use)"},
    {"stall-limit", 0, TAKES_STALL_LIMIT, read_number, AT(stall_limit), .least = 0, .value = "SECONDS",
     .help = "give up when a rank waits so long for others, and 4 x the time predicted; 0: never (600)"},
    {"ranks", 0, TAKES_MACHINE, read_int, AT(ranks), .least = 1, .most = MOST_RANKS, .value = "P",
     .help = "ranks to plan for"},
    {"node-ranks", 0, TAKES_MACHINE, read_int, AT(node_ranks), .least = 1, .most = MOST_RANKS, .value = "N",
     .help = "ranks of each node (as many as this machine has CPUs, where that divides P)"},
    {"memory", 0, TAKES_MACHINE, read_count, AT(memory), .least = 1, .most = INT64_MAX, .value = "SIZE",
     .help = "bytes of memory of each node, of which ranks use nine tenths (this machine's)"},
    {"rate", 0, TAKES_MACHINE, read_number, AT(rate), .least = 1, .value = "X", .help = "GFLOP/s of a rank"},
    {"bandwidth", 0, TAKES_MACHINE, read_number, AT(bandwidth), .least = 1, .value = "X",
     .help = "GB/s that a rank can send"},
    {"latency", 0, TAKES_MACHINE, read_number, AT(latency), .least = 0, .value = "X",
     .help = "microseconds before a message moves"},
    {"rows", 0, TAKES_ROWS, read_count, AT(rows), .least = 1, .most = INT64_MAX, .value = "N",
     .help = "query rows to sample"},
    {"blocks", 0, TAKES_BLOCKS, read_count, AT(blocks), .least = 1, .most = MOST_BLOCKS, .value = "N",
     .help = "cells along each axis"},
    {"repeat", 0, TAKES_REPEAT, read_int, AT(repeat), .least = 1, .most = MOST_REPEAT, .value = "N",
     .help = "timed repetitions (5)"},
    {"warmup", 0, TAKES_REPEAT, read_int, AT(warmup), .least = 0, .most = MOST_REPEAT, .value = "N",
     .help = "repetitions before them (1)"},
    {"seed", 0, TAKES_SEED, read_seed, AT(seed), .least = 0, .most = INT64_MAX, .value = "N",
     .help = "seed of all that is random (1)"},
    {"window", 0, TAKES_AUDIO, read_number, AT(window_ms), .least = 1, .value = "MS",
     .help = "sound that a frame looks at, in milliseconds, up to 1000 (25)"},
    {"hop", 0, TAKES_AUDIO, read_number, AT(hop_ms), .least = 1, .value = "MS",
     .help = "from one frame to the next, in milliseconds, up to 100 (10)"},
    {"fft", 0, TAKES_AUDIO, read_int, AT(fft), .least = 2, .most = LOG_MEL_MOST_FFT, .value = "N",
     .help = "samples of the transform at 16 kHz (the power of 2 that holds the window: 512)"},
    {"mels", 0, TAKES_AUDIO, read_int, AT(mels), .least = 1, .most = LOG_MEL_MOST_BANDS, .value = "N",
     .help = "mel bands, on Slaney's scale (80)"},
    {"mel-low", 0, TAKES_AUDIO, read_number, AT(mel_low), .value = "HZ", .help = "where the lowest band begins (0)"},
    {"mel-high", 0, TAKES_AUDIO, read_number, AT(mel_high), .least = 1, .value = "HZ",
     .help = "where the highest band ends, up to 8000 (8000)"},
    {"subsample", 0, TAKES_AUDIO, read_int, AT(subsample), .least = 1, .most = 8, .value = "N",
     .help = "frames of a token, 1 to 8, whose mean it is (1)"},
    {"report", 0, TAKES_REPORT, read_text, AT(report), .value = "FILE", .help = "write a report as JSON"},
    {"trace", 0, TAKES_TRACE, read_text, AT(trace), .value = "FILE",
     .help = "write a timeline in Chrome trace format: phases, waits, transfers, and folds by thread"},
    {"progress", 0, TAKES_PROGRESS, read_progress, .value = "WHEN",
     .help = "progress bar: on, off, or auto, on a terminal (auto)"},
    {"quiet", 0, ALWAYS, read_flag, AT(quiet), .help = "print errors only"},
    {"verbose", 0, ALWAYS, read_flag, AT(verbose), .help = "say more about what is done"},
    {"version", 0, ALWAYS, read_flag, AT(version), .help = "print the version"},
    {"help", 0, ALWAYS, read_flag, AT(help), .help = "print this text"},
};
const int option_line_count = sizeof option_lines / sizeof option_lines[0];

_Static_assert(OPTIONS_MAX_GIVEN >= sizeof option_lines / sizeof option_lines[0] + OPTIONS_MAX_ARGUMENTS,
               "an option is given once, an argument is one");
