/* Runs any embedded model called `net`, whatever its header says, on the tensors of a file, and writes what every run gives.
 *
 *     any INPUTS OUTPUTS RUNS [WEIGHTS]
 *
 * INPUTS: 64-bit numbers: bytes of the arena, inputs, bytes of each, outputs, bytes of each, variables, offset and bytes of each; then
 * the inputs' contents. OUTPUTS: after each run, the contents of all outputs; after the last, of all variables.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST 512

#ifdef WEIGHTS_FILE
int net_init(void *arena, const void *weights, size_t bytes);
#else
int net_init(void *arena);
#endif
int net_run(void *arena, const void *inputs, const void *outputs);

static void fail(const char *what, int status)
{
    fprintf(stderr, "%s: %d\n", what, status);
    exit(1);
}

/* Memory at a multiple of `alignment`, but of no more. */
static char *memory(size_t bytes, size_t alignment)
{
    char *start = malloc(bytes + 2 * alignment);
    if (!start)
        fail("memory", 0);
    start += alignment - (uintptr_t)start % alignment;
    return (uintptr_t)start % (2 * alignment) ? start : start + alignment;
}

static uint64_t number(FILE *file)
{
    uint64_t n;
    if (fread(&n, sizeof n, 1, file) != 1)
        fail("the file ends", 0);
    return n;
}

int main(int argc, char **argv)
{
    static char *inputs[MOST], *outputs[MOST];
    static uint64_t in_bytes[MOST], out_bytes[MOST], offsets[MOST], var_bytes[MOST];
    uint64_t arena_bytes, in, out, vars, i;
    FILE *from = argc > 3 ? fopen(argv[1], "rb") : NULL, *to = argc > 3 ? fopen(argv[2], "wb") : NULL;
    char *arena;
    int status, runs;
    if (!from || !to)
        fail("usage: any INPUTS OUTPUTS RUNS [WEIGHTS]", 0);
    arena_bytes = number(from);
    if ((in = number(from)) > MOST)
        fail("too many inputs", 0);
    for (i = 0; i < in; i++)
        in_bytes[i] = number(from);
    if ((out = number(from)) > MOST)
        fail("too many outputs", 0);
    for (i = 0; i < out; i++)
        out_bytes[i] = number(from);
    if ((vars = number(from)) > MOST)
        fail("too many variables", 0);
    for (i = 0; i < vars; i++) {
        offsets[i] = number(from);
        var_bytes[i] = number(from);
    }
    for (i = 0; i < in; i++) {
        inputs[i] = memory(in_bytes[i] + 1, 8);
        if (fread(inputs[i], 1, in_bytes[i], from) != in_bytes[i])
            fail("the file ends in input", (int)i);
    }
    /* What a program leaves in memory must not matter. */
    for (i = 0; i < out; i++)
        memset(outputs[i] = memory(out_bytes[i] + 1, 8), 0xA5, out_bytes[i] + 1);
    memset(arena = memory(arena_bytes + 1, 64), 0xA5, arena_bytes + 1);
#ifdef WEIGHTS_FILE
    {
        FILE *file = argc > 4 ? fopen(argv[4], "rb") : NULL;
        char *weights;
        long bytes;
        if (!file || fseek(file, 0, SEEK_END) || (bytes = ftell(file)) < 0)
            fail("no weights", 0);
        rewind(file);
        weights = memory((size_t)bytes, 64);
        if (fread(weights, 1, (size_t)bytes, file) != (size_t)bytes)
            fail("no weights", 0);
        status = net_init(arena, weights, (size_t)bytes);
    }
#else
    status = net_init(arena);
#endif
    if (status)
        fail("init", status);
    for (runs = atoi(argv[3]); runs > 0; runs--) {
        if ((status = net_run(arena, inputs, outputs)) != 0)
            fail("run", status);
        for (i = 0; i < out; i++)
            fwrite(outputs[i], 1, out_bytes[i], to);
    }
    for (i = 0; i < vars; i++)
        fwrite(arena + offsets[i], 1, var_bytes[i], to);
    for (i = 0; i < out; i++)
        if (outputs[i][out_bytes[i]] != (char)0xA5)
            fail("a byte after the output is written", (int)i);
    if (arena[arena_bytes] != (char)0xA5)
        fail("a byte after the arena is written", 0);
    return fclose(to) ? 1 : 0;
}
