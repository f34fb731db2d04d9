/* longspan embed: a real document or recording as q, k and v. Its first argument says which. */
#include "runtime/cli/command.h"
#include "runtime/cli/embed.h"

#include <stdio.h>
#include <string.h>

enum {
    TEXT_TAKES = TAKES_OUTPUT | TAKES_THREADS | TAKES_HEADS | TAKES_TYPE | TAKES_SEED | TAKES_STALL_LIMIT,
    AUDIO_TAKES = TEXT_TAKES | TAKES_AUDIO,
};

static const struct {
    const char *name;
    options_taken takes;
    exit_status (*run)(session *s, const options *o);
} kinds[] = {
    {"text", (options_taken)TEXT_TAKES, embed_text},
    {"audio", (options_taken)AUDIO_TAKES, embed_audio},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static const options_spec spec = {
    .usage = "embed text FILE -o OUT.h5 [OPTIONS]\n       longspan embed audio FILE -o OUT.h5 [OPTIONS]",
    .summary =
        "text   turns a document into tokens and hashed n-gram features, without a trained model, so that equal\n"
        "       passages attend to each other. Writes /q, /k, /v and /token_offsets, the byte at which each token\n"
        "       begins. It takes none of the options from --window to --subsample.\n"
        "audio  turns a recording (WAV, FLAC, OGG; 1 to 768 kHz, channels averaged) into log-mel frames of\n"
        "       --window every --hop, at 16 kHz, and the mean of --subsample frames each into a token and its hashed\n"
        "       features, so that passages of equal sound attend to each other. Writes /q, /k, /v, /log_mel and\n"
        "       /token_offsets, the sample of the recording at which each token begins. The recording streams\n"
        "       through, however long it is.\n"
        "4 heads of size 64 unless given; each head looks at a longer passage than the one before.",
    .example = "mpirun -np 2 longspan embed text book.txt -o book.h5 --heads 4 --dim 64\n"
               "  mpirun -np 2 longspan embed audio lecture.flac -o lecture.h5 --subsample 4",
    .least_arguments = 2,
    .most_arguments = 2,
    .takes = (options_taken)AUDIO_TAKES,
};

static exit_status run(session *s, options *o)
{
    if (o->heads == 0) o->heads = 4;
    if (o->dim == 0) o->dim = 64;
    if (o->value_dim == 0) o->value_dim = o->dim;
    for (int i = 0; i < KINDS; i++) {
        char what[64];
        if (strcmp(o->arguments[0], kinds[i].name) != 0) continue;
        snprintf(what, sizeof what, "%s %s", s->command, kinds[i].name);
        const exit_status status = options_refuse_others(s, o, kinds[i].takes, what);
        return status == EXIT_DONE ? kinds[i].run(s, o) : status;
    }
    return options_refuse(s, "'%s' is not available: there are text, audio", o->arguments[0]);
}

const command command_embed = {
    .name = "embed",
    .arguments = "text | audio FILE",
    .summary = "a document or a recording as q, k, v",
    .spec = &spec,
    .run = run,
};
