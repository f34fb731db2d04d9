/* A layer that keeps the rules, for layering_breaches.c to reference. */
int layering_other_layer(void);

int layering_other_layer(void)
{
    return 1;
}
