/* What attend shares between softmax attention (cmd_attend.c), native sparse attention (attend_nsa.c) and
 * the linear family (attend_linear.c). */
#ifndef CLI_ATTEND_H
#define CLI_ATTEND_H

#include "runtime/cli/options.h"
#include "runtime/cli/session.h"

/* Collective. Refuses, before any work, what could only fail after it. Fails as session_agree does. */
bool attend_check_paths(const session *s, const options *o, failure *f);

/* Collective. The whole of attend with --pattern nsa; a failure is agreed on and printed. */
void attend_nsa(const session *s, const options *o, failure *f);

/* Collective. The whole of attend with a linear --attention; a failure is agreed on and printed. */
void attend_linear(const session *s, const options *o, failure *f);

#endif
