#include "runtime/cli/attention_option.h"

#include "partition/linear_schedule.h"
#include "partition/schedule.h"
#include "runtime/cli/entmax_option.h"

#include <stdio.h>
#include <string.h>

const char *attention_option_listed(int index)
{
    return index < linear_variant_count ? linear_variants[index]->name : NULL;
}

static bool is_one_of(const char *text, const char *first, const char *second)
{
    return strcmp(text, first) == 0 || strcmp(text, second) == 0;
}

/* The variants that every token can read in both directions. */
static void list_two_sided(char *text, size_t size)
{
    size_t length = 0;
    text[0] = '\0';
    for (int i = 0; i < linear_variant_count && length < size; i++) {
        if (!linear_variants[i]->two_sided) continue;
        length += (size_t)snprintf(text + length, size - length, "%s%s", length ? ", " : "", linear_variants[i]->name);
    }
}

static exit_status check_mask(const session *s, options *o)
{
    char name[MASK_NAME_SIZE], both[128];
    if (!o->mask_given) {
        o->mask.causal = true;
        return EXIT_DONE;
    }
    mask_choice_name(&o->mask, name);
    if (!is_one_of(name, "full", "causal"))
        return options_refuse(s, "--mask %s: --attention %s takes full or causal", name, o->linear->name);
    if (o->mask.causal || o->linear->two_sided) return EXIT_DONE;
    list_two_sided(both, sizeof both);
    return options_refuse(s, "--mask full: --attention %s is causal; both ways look %s", o->linear->name, both);
}

static const char *name_of(const options *o, char text[ENTMAX_NAME_SIZE])
{
    if (o->linear) return o->linear->name;
    entmax_option_name(o->alpha, text);
    return text;
}

static exit_status check_strategy(const session *s, const options *o)
{
    char known[128] = "auto", name[ENTMAX_NAME_SIZE];
    int rows, columns;
    if (strcmp(o->strategy, "auto") == 0) return EXIT_DONE;
    if (o->linear ? linear_strategy_find(o->strategy) != NULL : strategy_find(o->strategy, &rows, &columns) != NULL)
        return EXIT_DONE;
    const int count = o->linear ? linear_strategy_count : strategy_count;
    for (int i = 0; i < count; i++) {
        const size_t length = strlen(known);
        snprintf(known + length, sizeof known - length, ", %s",
                 o->linear ? linear_strategies[i]->name : strategies[i]->name);
    }
    return options_refuse(s, "--strategy %s has no meaning with --attention %s: there are %s", o->strategy,
                          name_of(o, name), known);
}

static exit_status check_linear(const session *s, options *o)
{
    static const char *const without_meaning[] = {"pattern", "softcap", "rope", "rope-style", "alibi", "sinks", "relative"};
    const char *name = o->linear->name;
    for (size_t i = 0; i < sizeof without_meaning / sizeof without_meaning[0]; i++)
        if (options_given(o, without_meaning[i]))
            return options_refuse(s, "--%s has no meaning with --attention %s", without_meaning[i], name);
    if (options_given(o, "features") && o->linear->map != LINEAR_MAP_FAVOR)
        return options_refuse(s, "--features has no meaning with --attention %s", name);
    if (o->keys && o->keys != o->tokens)
        return options_refuse(s, "--keys %lld: --attention %s has as many keys as queries", (long long)o->keys, name);
    if (!is_one_of(o->layout, "auto", "contiguous"))
        return options_refuse(s, "--layout %s: --attention %s takes contiguous", o->layout, name);
    if (!is_one_of(o->compute, "auto", "fp32"))
        return options_refuse(s, "--compute %s: --attention %s takes fp32", o->compute, name);
    const exit_status mask = check_mask(s, o);
    if (mask != EXIT_DONE) return mask;
    if (o->state && !o->mask.causal)
        return options_refuse(s, "--state has no meaning with --mask full: only a causal run can be gone on with");
    return EXIT_DONE;
}

static exit_status check_entmax(const session *s, const options *o)
{
    char name[ENTMAX_NAME_SIZE];
    entmax_option_name(o->alpha, name);
    if (options_given(o, "sinks"))
        return options_refuse(s, "--sinks has no meaning with --attention %s: they are terms of softmax", name);
    if (!is_one_of(o->compute, "auto", "fp32"))
        return options_refuse(s, "--compute %s: --attention %s takes fp32", o->compute, name);
    return EXIT_DONE;
}

static exit_status check_softmax(const session *s, const options *o)
{
    char name[ENTMAX_NAME_SIZE];
    static const char *const without_meaning[] = {"value-heads", "features", "state"};
    for (size_t i = 0; i < sizeof without_meaning / sizeof without_meaning[0]; i++)
        if (options_given(o, without_meaning[i]))
            return options_refuse(s, "--%s has no meaning with --attention %s", without_meaning[i], name_of(o, name));
    return o->alpha != 0 ? check_entmax(s, o) : EXIT_DONE;
}

exit_status attention_option_check(const session *s, options *o)
{
    char name[ENTMAX_NAME_SIZE];
    if (o->support && o->alpha == 0)
        return options_refuse(s, "--support has no meaning with --attention %s: entmax and sparsemax have it",
                              name_of(o, name));
    const exit_status status = o->linear ? check_linear(s, o) : check_softmax(s, o);
    return status == EXIT_DONE ? check_strategy(s, o) : status;
}
