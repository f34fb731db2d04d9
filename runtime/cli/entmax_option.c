#include "runtime/cli/entmax_option.h"

#include "kernels/entmax.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool entmax_option_parse(const char *text, double *alpha_p)
{
    static const char prefix[] = "entmax:";
    double alpha = strcmp(text, "sparsemax") == 0 ? 2 : strcmp(text, "entmax") == 0 ? 1.5 : 0;
    if (alpha == 0) {
        char *end;
        if (strncmp(text, prefix, strlen(prefix)) != 0) return false;
        text += strlen(prefix);
        alpha = strtod(text, &end);
        if (!isdigit((unsigned char)*text) || *end != '\0') return false;
    }
    if (!(alpha >= entmax_least_alpha && alpha <= 2)) return false;
    *alpha_p = alpha;
    return true;
}

void entmax_option_name(double alpha, char name[ENTMAX_NAME_SIZE])
{
    if (alpha == 0) snprintf(name, ENTMAX_NAME_SIZE, "softmax");
    else if (alpha == 2) snprintf(name, ENTMAX_NAME_SIZE, "sparsemax");
    else snprintf(name, ENTMAX_NAME_SIZE, "entmax:%.17g", alpha);
    /* The shortest text that means the same number. */
    for (int digits = 1; alpha != 0 && alpha != 2 && digits < 17; digits++) {
        char shorter[ENTMAX_NAME_SIZE];
        double meant = 0;
        snprintf(shorter, sizeof shorter, "entmax:%.*g", digits, alpha);
        if (!entmax_option_parse(shorter, &meant) || meant != alpha) continue;
        strcpy(name, shorter);
        return;
    }
}
