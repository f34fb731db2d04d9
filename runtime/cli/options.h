/* Options of the subcommands, parsed with popt. Every subcommand names the options it takes; any other option is a
 * usage error, never accepted and ignored. The meaning of each option is the same wherever it is taken. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include "kernels/linear.h"
#include "runtime/cli/mask_option.h"
#include "runtime/cli/session.h"

enum { OPTIONS_MAX_ARGUMENTS = 4, OPTIONS_MAX_GIVEN = 64 };

typedef enum { PROGRESS_AUTO, PROGRESS_ON, PROGRESS_OFF } progress_wish;

typedef struct {
    const char *arguments[OPTIONS_MAX_ARGUMENTS]; /* positional */
    int argument_count;

    const char *output, *report, *trace;
    bool force;
    longspan_type type;
    bool type_given;
    longspan_type out_type;
    bool out_type_given;
    const linear_variant *linear; /* --attention; NULL: softmax, or entmax where alpha is not 0 */
    double alpha;                 /* of entmax, which sparsemax is for 2 */
    int support;                  /* 0 where not given */
    bool state;                   /* write the last state */
    mask_choice mask;             /* where it was not given: full, of a linear variant causal */
    bool mask_given;
    const char *pattern;                           /* NULL where not given */
    const char *strategy, *layout, *isa, *compute; /* "auto" unless given */
    bool share;                                    /* true unless --share off */
    double scale;                                  /* 0: 1/sqrt(D), of a linear variant its own */
    double softcap;                                /* 0: none */
    double rope_base;                              /* 0: no RoPE */
    int rope_dim;                                  /* 0 where not given: all of D */
    bool rope_interleaved;
    bool alibi, sinks;  /* made up: generate, bench */
    bool relative;      /* likewise, and plan */
    int64_t relative_left, relative_right;
    int64_t *documents; /* offsets, from lengths; NULL where not given */
    int64_t document_count;
    int threads; /* 0: default */
    double stall_limit; /* seconds; negative where not given */
    progress_wish progress;
    uint64_t seed;
    int64_t tokens, keys, batch;
    int heads, kv_heads, value_heads, dim, value_dim, features; /* 0 where not given */
    int64_t rows;                        /* verify: rows to recompute; map: rows sampled a block */
    int64_t blocks;                      /* map: blocks along an axis */
    int repeat, warmup;                  /* bench */
    int score_scale;                     /* bench kernels; 0 where not given */
    int ranks, node_ranks;               /* plan; node_ranks 0 where not given */
    int64_t memory;                      /* plan: bytes of a node; 0 where not given */
    double window_ms, hop_ms;            /* embed audio, as those of the next two lines: io/log_mel.h */
    int mels, fft, subsample;            /* fft 0 where not given */
    double mel_low, mel_high;            /* Hz */
    double rate, bandwidth, latency;     /* plan: GFLOP/s and GB/s a rank, microseconds; negative where not given */

    bool help, version, quiet, verbose;

    bool given[OPTIONS_MAX_GIVEN];  /* by line of the table of options: options_refuse_others reads it */
    char *owned[OPTIONS_MAX_GIVEN]; /* the strings above */
    int owned_count;
} options;

/* Which options a subcommand takes: a bit each. --help, --version, --quiet, --verbose are always taken. */
typedef enum {
    TAKES_OUTPUT = 1 << 0, /* -o, --output, then required; and --force */
    TAKES_REPORT = 1 << 1,
    TAKES_TYPE = 1 << 2,
    TAKES_OUT_TYPE = 1 << 3,
    TAKES_MASK = 1 << 4,
    TAKES_STRATEGY = 1 << 5, /* --strategy, --layout */
    TAKES_COMPUTE = 1 << 6,  /* --isa, --threads */
    TAKES_SCORES = 1 << 7,   /* --scale, --softcap, --rope, --rope-style */
    TAKES_PROGRESS = 1 << 8,
    TAKES_SEED = 1 << 9,
    TAKES_SHAPE = 1 << 10, /* --tokens, --keys, --heads, --kv-heads, --value-heads, --dim, --value-dim, --features, --batch */
    TAKES_HEADS = 1 << 11, /* --heads, --dim, --value-dim (embed) */
    TAKES_ROWS = 1 << 12,
    TAKES_BLOCKS = 1 << 13,
    TAKES_REPEAT = 1 << 14,
    TAKES_MACHINE = 1 << 15,    /* --ranks, --node-ranks, --memory, --rate, --bandwidth, --latency */
    TAKES_FORCE = 1 << 16,      /* --force alone, where the output is an argument */
    TAKES_THREADS = 1 << 17,    /* --threads alone */
    TAKES_LIST = 1 << 18,       /* --tokens, --dim, --score-scale: which shapes of a list (bench kernels) */
    TAKES_ARITHMETIC = 1 << 19, /* --compute */
    TAKES_SHARE = 1 << 20,
    TAKES_TRACE = 1 << 21,
    TAKES_HEAD_VALUES = 1 << 22, /* --alibi, --sinks */
    TAKES_KEEP = 1 << 23,        /* -o, --output, not required */
    TAKES_DOCUMENTS = 1 << 24,
    TAKES_STALL_LIMIT = 1 << 25,
    TAKES_ATTENTION = 1 << 26,
    TAKES_STATE = 1 << 27,
    TAKES_AUDIO = 1 << 28, /* --window, --hop, --fft, --mels, --mel-low, --mel-high, --subsample */
    TAKES_PATTERN = 1 << 29,
    TAKES_RELATIVE = 1 << 30,
} options_taken;

/* Text of a subcommand for --help. */
typedef struct {
    const char *usage;   /* "attend IN.h5 -o OUT.h5 [OPTIONS]", without the program's name */
    const char *summary; /* one or two sentences */
    const char *example; /* a whole command line, or several lines of them */
    int least_arguments, most_arguments;
    options_taken takes;
} options_spec;

typedef enum { OPTIONS_GO_ON, OPTIONS_DONE, OPTIONS_WRONG } options_outcome;

/* Not collective but equal on every rank, since argv is. OPTIONS_DONE: --help or --version was printed by rank 0;
 * OPTIONS_WRONG: rank 0 printed one line. Sets s->quiet and s->verbose. Strings are owned by *o until options_free. */
options_outcome options_parse(session *s, const options_spec *spec, int argc, const char **argv, options *o);
void options_free(options *o);

/* Whether the option of this name, without the dashes, was on the command line. */
bool options_given(const options *o, const char *name);

/* For a subcommand whose first argument decides which options there are: refuses, as options_refuse does, the first
 * option on the command line that is not taken with `taken`, and returns EXIT_USAGE; EXIT_DONE if there is none. `what`
 * does not take it. */
exit_status options_refuse_others(const session *s, const options *o, options_taken taken, const char *what);

/* Not collective but to be called alike on every rank: rank 0 prints "longspan COMMAND: TEXT; see longspan COMMAND
 * --help". For what options_parse cannot know, such as an option that is required. Returns EXIT_USAGE. */
exit_status options_refuse(const session *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "64k" = 65,536, "1M" = 1,048,576, "2G"; plain integers. False if text is not one, is negative or overflows. */
bool options_size(const char *text, int64_t *value_p);

#endif
