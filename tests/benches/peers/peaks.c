// What the CPU reaches at most: 32-bit fused multiply-adds from registers, and reading from caches and memory.
// Usage: peaks THREADS; writes one JSON object: GFLOP/s by vector bits, GB/s by place. Best of several tries.

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX 1024
#define TRIES 15

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// Twelve independent accumulators hide the latency of a multiply-add on every core there is.
#define TWELVE(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7) M(8) M(9) M(10) M(11)
#define ROUNDS 400000L

#if defined(__x86_64__)
#include <immintrin.h>
#define CLOBBERED "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm14", "xmm15"
#define FMA512(i) "vfmadd231ps %%zmm14, %%zmm15, %%zmm" #i "\n"
#define FMA256(i) "vfmadd231ps %%ymm14, %%ymm15, %%ymm" #i "\n"
#define ZERO(i) "vxorps %%xmm" #i ", %%xmm" #i ", %%xmm" #i "\n"
#define FMA_LOOP(NAME, STEP)                                                                                     \
    static void NAME(void) {                                                                                     \
        long n = ROUNDS;                                                                                         \
        __asm__ volatile(TWELVE(ZERO) ZERO(14) ZERO(15) "1:\n" TWELVE(STEP) "dec %0\njnz 1b\nvzeroupper\n"       \
                         : "+r"(n) : : CLOBBERED, "cc");                                                         \
    }
FMA_LOOP(fma_512, FMA512)
FMA_LOOP(fma_256, FMA256)

__attribute__((target("avx2"))) static float read_wide(const float *p, size_t n) {
    __m256 a = _mm256_setzero_ps(), b = a, c = a, d = a;
    for (size_t i = 0; i < n; i += 32) {
        a = _mm256_add_ps(a, _mm256_loadu_ps(p + i));
        b = _mm256_add_ps(b, _mm256_loadu_ps(p + i + 8));
        c = _mm256_add_ps(c, _mm256_loadu_ps(p + i + 16));
        d = _mm256_add_ps(d, _mm256_loadu_ps(p + i + 24));
    }
    a = _mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d));
    return _mm256_cvtss_f32(a);
}
static int has_256(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
static int has_512(void) { return __builtin_cpu_supports("avx512f"); }
#elif defined(__aarch64__)
#define FMA128(i) "fmla v" #i ".4s, v14.4s, v15.4s\n"
#define ZERO(i) "movi v" #i ".4s, #0\n"
static void fma_128(void) {
    long n = ROUNDS;
    __asm__ volatile(TWELVE(ZERO) ZERO(14) ZERO(15) "1:\n" TWELVE(FMA128) "subs %0, %0, #1\nb.ne 1b\n"
                     : "+r"(n) : : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v14", "v15", "cc");
}
#endif

static float read_plain(const float *p, size_t n) {
    float s[16] = {0};
    for (size_t i = 0; i < n; i += 16)
        for (size_t k = 0; k < 16; k++) s[k] += p[i + k];
    float sum = 0;
    for (size_t k = 0; k < 16; k++) sum += s[k];
    return sum;
}

static float read_all(const float *p, size_t n) {
#if defined(__x86_64__)
    if (has_256()) return read_wide(p, n);
#endif
    return read_plain(p, n);
}

// One try: all threads start together, and the slowest one's time counts.
struct task {
    void (*compute)(void);
    const float *data;
    size_t floats;
    long passes;
    double seconds;
    float sum;
};
static atomic_int waiting;

static void *work(void *argument) {
    struct task *t = argument;
    atomic_fetch_sub(&waiting, 1);
    while (atomic_load(&waiting) > 0) {}
    double start = now();
    if (t->compute) t->compute();
    for (long i = 0; i < t->passes; i++) t->sum += read_all(t->data, t->floats);
    t->seconds = now() - start;
    return NULL;
}

static double slowest(struct task *tasks, int threads) {
    pthread_t handles[THREADS_MAX];
    atomic_store(&waiting, threads);
    for (int i = 0; i < threads; i++)
        if (pthread_create(&handles[i], NULL, work, &tasks[i])) {
            fprintf(stderr, "peaks: cannot start thread %d of %d\n", i + 1, threads);
            exit(1);
        }
    double worst = 0;
    for (int i = 0; i < threads; i++) {
        pthread_join(handles[i], NULL);
        if (tasks[i].seconds > worst) worst = tasks[i].seconds;
    }
    return worst;
}

// Billions of `amount` a second, over all threads.
static double best_rate(struct task *tasks, int threads, double amount) {
    double best = 0;
    for (int i = 0; i < TRIES; i++) {
        double rate = amount * threads / slowest(tasks, threads) / 1e9;
        if (rate > best) best = rate;
    }
    return best;
}

static double compute_peak(void (*compute)(void), int bits, int threads) {
    struct task tasks[THREADS_MAX];
    memset(tasks, 0, sizeof tasks);
    for (int i = 0; i < threads; i++) tasks[i].compute = compute;
    return best_rate(tasks, threads, (double)ROUNDS * 12 * 2 * (bits / 32));
}

static double read_peak(size_t bytes, int threads) {
    struct task tasks[THREADS_MAX];
    memset(tasks, 0, sizeof tasks);
    size_t floats = bytes / 4 / 64 * 64;
    long passes = (long)(2e8 / (double)bytes) + 1;
    for (int i = 0; i < threads; i++) {
        float *data = aligned_alloc(64, floats * 4);
        if (!data) {
            fprintf(stderr, "peaks: no memory for %zu bytes\n", bytes);
            exit(1);
        }
        for (size_t k = 0; k < floats; k++) data[k] = 1;
        tasks[i] = (struct task){.data = data, .floats = floats, .passes = passes};
    }
    double rate = best_rate(tasks, threads, (double)floats * 4 * (double)passes);
    for (int i = 0; i < threads; i++) free((void *)tasks[i].data);
    return rate;
}

int main(int count, char **arguments) {
    int threads = count == 2 ? atoi(arguments[1]) : 0;
    if (threads < 1 || threads > THREADS_MAX) {
        fprintf(stderr, "usage: peaks THREADS, from 1 to %d\n", THREADS_MAX);
        return 2;
    }
    // Memory is what no cache holds: twice the last cache, but within reason.
    size_t memory = (size_t)512 << 20;
#ifdef _SC_LEVEL3_CACHE_SIZE
    long last = sysconf(_SC_LEVEL3_CACHE_SIZE);
    if (last > 0 && (size_t)last * 2 > memory) memory = (size_t)last * 2;
    if (memory > (size_t)1 << 30) memory = (size_t)1 << 30;
#endif
    printf("{\"gflops\": {");
    const char *comma = "";
#if defined(__x86_64__)
    if (has_512()) { printf("\"512\": %.1f", compute_peak(fma_512, 512, threads)); comma = ", "; }
    if (has_256()) { printf("%s\"256\": %.1f", comma, compute_peak(fma_256, 256, threads)); }
#elif defined(__aarch64__)
    printf("\"128\": %.1f", compute_peak(fma_128, 128, threads));
#endif
    (void)comma;
    printf("}, \"read_gb_s\": {\"16 KiB\": %.1f, \"512 KiB\": %.1f, \"memory\": %.1f}}\n", read_peak(16 << 10, threads),
           read_peak(512 << 10, threads), read_peak(memory / (size_t)threads, threads));
    return 0;
}
